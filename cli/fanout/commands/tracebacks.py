"""A traceback as people read it: their own lines stand out, those of libraries are counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fanout.commands import text

if TYPE_CHECKING:
    from rich.text import Text

_FRAME = re.compile(r'(?P<indent>[ |+-]*)  File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<name>.*))?')
_PACKAGES = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_STANDARD = re.compile(r"[/\\]lib[/\\]python\d[^/\\]*[/\\]([^/\\]+)|^<frozen ([^>.]+)")
_OURS = Path(__file__).parent.parent


def lines(traceback: str) -> Iterator[Text]:
    """The lines of a formatted traceback, to be printed one after another."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    folded: list[str] = []
    block: list[str] = []
    for said in [*traceback.rstrip().split("\n"), ""]:
        frame = _FRAME.fullmatch(said)
        is_more = frame is None and block and said.startswith("    ")
        if is_more:
            block.append(said)
            continue
        if block:
            library = _library(_FRAME.fullmatch(block[0]))
            if library is not None:
                folded.append(library)
            else:
                yield from _folded(folded)
                yield from _own(block)
            block = []
        if frame is not None:
            block = [said]
            continue
        yield from _folded(folded)
        if said:
            yield Text(text.printable(said, keep_lines=True), style="dim")


def _library(frame: re.Match[str] | None) -> str | None:
    """The library that a frame is of; None if it is the user's own."""
    if frame is None:
        return None
    if Path(frame["file"]).is_relative_to(_OURS):
        return _OURS.name
    found = _PACKAGES.search(frame["file"]) or _STANDARD.search(frame["file"])
    return None if found is None else Path(next(filter(None, found.groups()))).stem


def _folded(libraries: list[str]) -> Iterator[Text]:
    """One line for the frames of libraries, which are forgotten then."""
    from rich.text import Text

    if libraries:
        names = ", ".join(text.printable(each) for each in dict.fromkeys(libraries))
        yield Text(f"  {text.drawn('…', '...')} {text.count(len(libraries), 'frame')} of {names}", style="dim")
        libraries.clear()


def _own(block: list[str]) -> Iterator[Text]:
    from rich.text import Text

    frame = _FRAME.fullmatch(block[0])
    if frame is None:
        return
    line = Text(f"{text.printable(frame['indent'])}  ")
    file = frame["file"].removeprefix(f"{Path.cwd()}{os.sep}")
    line.append(f"{text.printable(file)}:{frame['line']}", style="cyan")
    if frame["name"]:
        line.append(f"  {text.printable(frame['name'])}", style="dim")
    yield line
    for source in block[1:]:
        is_marker = not source.strip(" ~^|")
        yield Text(text.printable(source), style="red" if is_marker else "bold")
