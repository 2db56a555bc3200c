"""A project of a test's own: a folder of modules, as they are loaded."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from fanout.errors import LoadError
from fanout.worker.registry import Registered, load

IMPORT = "import fanout\n"


def function(name: str, *, id: str | None = None) -> str:
    declared = "" if id is None else f'id="{id}"'
    return f"@fanout.function({declared})\ndef {name}(ctx):\n    return {name!r}\n"


class Project:
    """A folder of modules. Their names begin with `shop`, which nothing else is called."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files: dict[str, str]) -> None:
        """Write the files; every folder on the way is a package."""
        for name, code in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(code))
            for folder in list(Path(name).parents)[:-1]:
                (self.root / folder / "__init__.py").touch()

    def load(self, *modules: str) -> dict[str, Registered]:
        return load(self.root, modules)

    def refusal(self, *modules: str) -> tuple[str, str | None]:
        with pytest.raises(LoadError) as raised:
            self.load(*modules)
        return raised.value.message, raised.value.hint
