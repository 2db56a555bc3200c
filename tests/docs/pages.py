"""The pages of the documentation, cut into what a test does with each part. What readers don't see is in HTML comments:

    <!-- setup ... -->       Python that the page's code needs
    <!-- file: PATH ... -->  a file of the page's project; without content, the block below it is the file
    <!-- edit: PATH -->      the function below takes the place of that of its name in a file of the project
    <!-- run: COMMAND -->    a command that is run before the block below it
    <!-- serve: COMMAND -->  the same, and it goes on as if it were shown and `beside`
    <!-- id 7QX2M9KDB4: COMMAND -->  the id shown stands for the first one that this command prints
    <!-- body: JSON -->      the block below is the body of a function; this is the data of its event
    <!-- exits: N -->        the last command of the block below ends with this code
    <!-- until: TEXT -->     the commands of the block below go on: each is stopped when its output has this
    <!-- beside: TEXT -->    the last of them goes on until another one does so, or until the end of the page
    <!-- any order: WHY -->  the lines shown below may come in any order
    <!-- not run: WHY -->    the block below is not run

Without a comment, `python` is executed in the page's own module, and the tests that it defines are called; `console` and
`sh` are run in a shell, in the page's own folder, and what `console` shows has to come; `toml` is read as a `fanout.toml`,
and `json` as an event. `text` is no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted((ROOT / "docs").rglob("*.md")))
_PART = re.compile(
    r"^(?P<comment><!--.*?-->)$|^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_DIRECTIVE = re.compile(
    r"<!-- (setup|file|edit|run|serve|id \w+|body|exits|until|beside|any order|not run)(?:: ([^\n]*?))?(?:\n(.*))? ?-->",
    re.DOTALL,
)


class Part(NamedTuple):
    """A block of code with what is said about it, or (`language` is empty) a hidden command, file or setup."""

    page: Path
    line: int
    language: str
    text: str
    said: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)} line {self.line}"


def parts(page: Path) -> Iterator[Part]:
    """In the page's order."""
    text = page.read_text(encoding="utf-8")
    said: dict[str, str] = {}
    for found in _PART.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["comment"]:
            directive = _DIRECTIVE.fullmatch(found["comment"])
            assert directive, f"{page.name} line {line}: {found['comment']!r} says nothing to a test"
            name, value, content = directive[1], directive[2] or "", directive[3]
            if name.startswith(("setup", "run", "serve", "id ")) or content is not None:
                first = line + 1 if content is not None else line
                yield Part(page, first, "", content or "", {name: value})
            else:
                said[name] = value
        else:
            indent = len(found["indent"])
            block = "".join(each[indent:] or "\n" for each in found["text"].splitlines(keepends=True))
            yield Part(page, line + 1, found["language"], block, said)
            said = {}
    assert not said, f"{page.name}: {said} is about no block"


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a `console` block, with what is shown below it."""
    for each in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        if each.startswith("$ "):
            command = re.match(r"\$ ((?:.*\\\n)*.*\n)", each)
            assert command
            yield command[1].strip("\n"), each[command.end() :]
        else:
            assert not each.strip(), f"{each!r} is below no command"
