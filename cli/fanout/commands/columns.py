"""Tables without frames: a line a row, that fits into a terminal, and has all of it anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fanout.commands import text
from fanout.model import RunState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_GAP = "  "
_WIDE = 100
"""Columns from which on a table may use words where symbols would do."""


class Column(NamedTuple):
    """`least`: where room is short it may be cut down to so many characters; None for what is useless in parts.

    `rank`: where there is no room even then it is left out, the highest first; 0 is always there.
    """

    heading: str
    is_right: bool = False
    least: int | None = None
    rank: int = 0


def runs_in_short(out: Console, counts: Mapping[RunState, int]) -> Text:
    """How many runs are in which state: in words where there is room, with symbols where there is not."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    is_short = out.is_terminal and out.width < _WIDE
    said = Text()
    for state, number in sorted(counts.items()):
        said.append((" " if is_short else ", ") if said.plain else "")
        said.append(f"{text.symbol(state)} {number:,}" if is_short else f"{number:,} {state}", style=text.style(state))
    return said


def labelled(label: str, width: int, value: str, style: str = "") -> Text:
    """A line that says something of what the page is about."""
    from rich.text import Text

    return Text.assemble((label.ljust(width), "dim"), (value, style))


def print_table(out: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]], indent: int = 0) -> None:
    for line in lines(columns, rows, out.width - indent if out.is_terminal else None):
        line.pad_left(indent)
        out.print(line, soft_wrap=True)


def lines(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int | None) -> Iterator[Text]:
    """The heading and a line for each row, none wider than `width`; None is as wide as it takes."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    headings = [Text(column.heading, style="dim") for column in columns]
    kept, widths = _fitted(columns, [headings, *rows], width)
    for row in (headings, *rows):
        line = Text(no_wrap=True)
        for number, place in enumerate(kept):
            cell = row[place].copy()
            cell.truncate(widths[place], overflow="ellipsis")
            space = " " * (widths[place] - cell.cell_len)
            is_right = columns[place].is_right
            # Nothing invisible behind the last cell, for whoever copies it.
            behind = "" if number == len(kept) - 1 else space
            line.append(_GAP if number else "").append(space if is_right else "")
            line.append_text(cell).append("" if is_right else behind)
        line.rstrip()
        yield line


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int | None
) -> tuple[list[int], list[int]]:
    """Which columns there is room for, and how wide each is."""
    kept = list(range(len(columns)))
    natural = [max(row[place].cell_len for row in rows) for place in kept]
    floors = [
        width if column.least is None else max(column.least, len(column.heading))
        for column, width in zip(columns, natural, strict=True)
    ]
    if width is None:
        return kept, natural
    while True:
        widths = natural.copy()
        missing = sum(widths[place] for place in kept) + len(_GAP) * (len(kept) - 1) - width
        while missing > 0:
            # What is the widest gives way first.
            pliant = [place for place in kept if widths[place] > floors[place]]
            if not pliant:
                break
            widths[max(pliant, key=lambda place: widths[place])] -= 1
            missing -= 1
        dropped = max(kept, key=lambda place: columns[place].rank)
        if missing <= 0 or columns[dropped].rank == 0:
            return kept, widths
        kept.remove(dropped)
