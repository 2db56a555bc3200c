"""A traceback as people read it: their own lines stand out, those of libraries are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.views.tracebacks import Folded, Frame, Said, blocks, is_marker

if TYPE_CHECKING:
    from rich.text import Text


def lines(traceback: str) -> Iterator[Text]:
    """The lines of a formatted traceback, to be printed one after another."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    for block in blocks(traceback):
        match block:
            case Frame():
                yield from _own(block)
            case Folded(number, libraries):
                names = ", ".join(map(text.printable, libraries))
                yield Text(f"  {text.drawn('…', '...')} {text.count(number, 'frame')} of {names}", style="dim")
            case Said(said):
                yield Text(text.printable(said, keep_lines=True), style="dim")


def _own(frame: Frame) -> Iterator[Text]:
    from rich.text import Text

    line = Text(f"{text.printable(frame.indent)}  ")
    line.append(f"{text.printable(frame.file)}:{frame.line}", style="cyan")
    if frame.name:
        line.append(f"  {text.printable(frame.name)}", style="dim")
    yield line
    for source in frame.source:
        yield Text(text.printable(source), style="red" if is_marker(source) else "bold")
