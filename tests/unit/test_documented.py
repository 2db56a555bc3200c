"""Every command and every option of it has its place in docs/commands.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fanout.commands.app import COMMANDS, application

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def described(name: str, command: Any) -> Iterator[tuple[str, list[str]]]:
    """Each command by its full name, with its options."""
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        options = [option for each in command.params for option in each.opts if option.startswith("--")]
        yield name, [option for option in options if option != "--help"]
    for key, each in inner.items():
        yield from described(f"{name} {key}", each)


def all_commands() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in COMMANDS:
        group = typer.main.get_command(application([name]))
        command = group.commands[name]  # type: ignore[attr-defined]
        found |= dict(described(f"fanout {name}", command))
    return found


@pytest.mark.parametrize(("name", "options"), all_commands().items())
def test_a_command_is_documented(name: str, options: list[str]) -> None:
    section = re.search(rf"^### `{name}\b[^\n]*`\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/commands.md has no section `{name}`"
    missing = [option for option in options if f"`{option}" not in section[1] and option != "--config"]
    assert missing == []


def test_no_command_is_documented_that_is_not_there() -> None:
    headings = re.findall(r"^### `(fanout(?: [a-z]+)+)", PAGE.read_text(), re.MULTILINE)
    assert set(headings) == set(all_commands())
