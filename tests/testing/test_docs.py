"""Every block of code in docs/testing.md is executed, in its order, and every test in it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fanout.testing import Project, run

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page defines."""
    file = tmp_path_factory.mktemp("docs") / "page.py"
    file.write_text("\n".join(text for _, text in BLOCKS))
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    return names


def test_all_of_its_code_is_python() -> None:
    assert {language for language, _ in BLOCKS} == {"python"}


@pytest.mark.parametrize("name", re.findall(r"^def (test_\w+)", PAGE.read_text(), re.MULTILINE))
def test_a_test_of_the_page(name: str, page: dict[str, Any]) -> None:
    fixtures: dict[str, Any] = {"fanout_run": run, "fanout_project": Project}
    wanted = page[name].__code__.co_varnames[: page[name].__code__.co_argcount]
    page[name](**{each: fixtures[each] for each in wanted})
