"""Which interpreter an app gets."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from fanout.config import load


def interpreter(root: Path, python: str | None) -> str:
    (root / "app").mkdir(exist_ok=True)
    named = "" if python is None else f'python = "{python}"\n'
    (root / "fanout.toml").write_text(f'[app]\nid = "a"\npath = "app"\nfunctions = ["work"]\n{named}')
    [app] = load(root / "fanout.toml").apps
    return app.python


@pytest.mark.parametrize(
    ("python", "found"),
    [
        (".venv", "app/.venv/bin/python"),
        ("./.venv", "app/.venv/bin/python"),
        ("../other/.venv", "other/.venv/bin/python"),
        ("tools/python3", "app/tools/python3"),
    ],
)
def test_a_path_begins_in_the_folder_of_the_app(tmp_path: Path, python: str, found: str) -> None:
    for environment in ("app/.venv", "other/.venv"):
        (tmp_path / environment / "bin").mkdir(parents=True)
    assert interpreter(tmp_path, python) == os.path.join(tmp_path, found)  # noqa: PTH118 - it is text


def test_a_name_is_a_command(tmp_path: Path) -> None:
    assert interpreter(tmp_path, "sh") == shutil.which("sh")
    assert interpreter(tmp_path, "no-such-python") == "no-such-python"


def test_ours_if_none_is_named(tmp_path: Path) -> None:
    assert interpreter(tmp_path, None) == sys.executable
