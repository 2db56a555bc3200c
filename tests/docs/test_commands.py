"""Every command with its options is in docs/commands.md, and whatever page names a command names one that is there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.commands.completing import GRAMMAR
from tests.docs.pages import PAGES, ROOT

PAGE = ROOT / "docs" / "commands.md"
KNOWN: dict[str, set[str]] = {name: set(each["options"]) for name, each in json.loads(GRAMMAR.read_bytes()).items()}
"""The options of each command; tests/outputs holds this file against the commands themselves."""

FOR_ALL = {"--help", "-h", "--config"}
GROUPS = {name for name in KNOWN if any(other.startswith(f"{name} ") for other in KNOWN)}
COMMANDS = [name for name in KNOWN if name and (name not in GROUPS or KNOWN[name] - FOR_ALL)]
_MENTION = re.compile(r"(?<![\w-])`{1,2}(fanout [^`\n]+)`")
_LINE = re.compile(r"^(?:\$ |# )?(fanout .*)$", re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented(name: str) -> None:
    section = re.search(rf"^### `fanout {name}\b[^\n]*`\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/commands.md has no section `fanout {name}`"
    listed = re.findall(r"^- `(--[\w-]+)[^`]*`(?: \(`(-\w)`\))?", section[1], re.MULTILINE)
    assert {option for each in listed for option in each if option} == KNOWN[name] - FOR_ALL


def test_no_command_is_documented_that_is_not_there() -> None:
    headings = re.findall(r"^### `fanout ([a-z]+(?: [a-z]+)*)(?=[` ])(?!\|)", PAGE.read_text(), re.MULTILINE)
    assert sorted(each.strip() for each in headings) == sorted(COMMANDS)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_what_a_page_has_typed_is_a_command_with_options_that_it_has(page: Path) -> None:
    assert [line for line in typed(page) if what_is_wrong(line)] == []


def test_a_slip_in_a_page_is_seen() -> None:
    assert what_is_wrong("fanout replay --fialed") == "--fialed"
    assert what_is_wrong("fanout cron tigger NAME") == "tigger"
    assert what_is_wrong("fanout sned FILE") == "sned"
    assert what_is_wrong("fanout runs show RUN --json | head -n 1") == ""


def typed(page: Path) -> Iterator[str]:
    """The command lines in its text and its blocks."""
    text = page.read_text()
    for block in re.findall(r"^ *```(?:console|sh|)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield from _LINE.findall(block)
    yield from _MENTION.findall(re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))


def what_is_wrong(line: str) -> str:
    """The first word that no command has; empty if all is well."""
    words = shlex.split(re.split(r" [|>]|;|  +# ", line)[0], comments=True)[1:]
    name = ""
    while words and f"{name} {words[0]}".strip() in KNOWN:
        name = f"{name} {words.pop(0)}".strip()
    if words and not words[0].startswith("-") and (not name or (name in GROUPS and name not in COMMANDS)):
        return words[0]
    options = KNOWN[name] | FOR_ALL
    return next((word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options), "")
