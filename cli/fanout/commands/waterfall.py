"""The steps of a run drawn to scale, a line each: when it was queued, worked at, and waiting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.model import FailedAttempt, Run, Step
from fanout.views.waterfall import Part, PartKind, Waterfall

if TYPE_CHECKING:
    from rich.text import Text

LEAST_WIDTH = 40
"""Columns below which there is no room for bars."""
_LEAST_BAR = 12
_USUAL_BAR = 40
_LEAST_NOTE = 8
_MOST_BAR = 96
_LEAST_SCALE = 24
_MOST_NAME = 32
_TOOK_WIDTH = 8
_QUEUE = "queued"
_MARGIN = 2
_MARKS = {PartKind.QUEUED: "░", PartKind.WORKING: "█", PartKind.WAITING: "─", PartKind.FAILED: "▒"}
_ASCII = {PartKind.QUEUED: ".", PartKind.WORKING: "#", PartKind.WAITING: "-", PartKind.FAILED: "x"}
_STYLES = {PartKind.QUEUED: "dim", PartKind.WAITING: "yellow", PartKind.FAILED: "red"}
_MEANINGS = ((PartKind.FAILED, "failed attempt"), (PartKind.WAITING, "waiting"))


class Chart:
    """Lays a run's time out over the columns that a terminal has."""

    def __init__(self, run: Run, failed: Sequence[FailedAttempt], width: int) -> None:
        self._times = Waterfall(run, failed)
        self.kinds: set[PartKind] = set()
        """What the bars so far have in them."""
        names = [_name(step) for step in run.steps]
        longest = max(map(len, (_QUEUE, *names)))
        self.name_width = min(longest, max(_MOST_NAME // 2, min(_MOST_NAME, width // 3)))
        room = width - self.name_width - _TOOK_WIDTH - 4 - 2 * _MARGIN
        # Half of what is left on a wide terminal is for what the steps have returned.
        wide = max(room // 2, min(room - _LEAST_NOTE, _USUAL_BAR))
        self.width = 0 if width < LEAST_WIDTH else max(_LEAST_BAR, min(_MOST_BAR, wide))

    def axis(self) -> Text:
        """The scale, above the steps."""
        from rich.text import Text  # lazy: `--json` doesn't draw

        line = Text(f"{'steps':<{4 + self.name_width}}", style="dim")
        if not self.width:
            return line
        end = text.duration(self._times.ended - self._times.began)
        middle = text.duration((self._times.ended - self._times.began) // 2)
        has_room = self.width > _LEAST_SCALE
        scale = f"0{middle:^{self.width - 1 - len(end)}}"[: self.width - len(end)] if has_room else "0"
        return line.append(f"  {scale:<{self.width - len(end)}}{end}", style="dim")

    def queue(self) -> Text | None:
        """The time before the run began, if it can be seen at this scale."""
        from rich.text import Text

        part = self._times.queue()
        if not self.width or self._column(part.ended) < 1:
            return None
        line = Text(f"    {_fitted(_QUEUE, self.name_width)}", style="dim", no_wrap=True)
        line.append("  ")
        self._draw(line, [part], "dim")
        return line.append(f"  {text.duration(part.ended - part.began):>{_TOOK_WIDTH}}", style="dim")

    def line(self, step: Step) -> Text:
        """Its name, its bar, and how long it has taken."""
        from rich.text import Text

        style = text.style(step.state)
        line = Text("  ", no_wrap=True).append(text.symbol(step.state), style=style)
        line.append(f" {_fitted(_name(step), self.name_width)}")
        if self.width:
            line.append("  ")
            self.kinds |= self._draw(line, self._times.parts(step), style)
        line.append(f"  {self._times.took(step):>{_TOOK_WIDTH}}", style="dim")
        return line

    def legend(self) -> Text | None:
        """What the marks mean that were drawn and don't explain themselves."""
        from rich.text import Text

        said = "  ".join(f"{_drawn(kind)} {meaning}" for kind, meaning in _MEANINGS if kind in self.kinds)
        return Text(f"{' ' * (4 + self.name_width)}  {said}", style="dim") if said else None

    def _draw(self, line: Text, parts: Sequence[Part], style: str) -> set[PartKind]:
        """The bar. What is too short to be seen has one column all the same, and work comes before waiting."""
        cells: list[PartKind | None] = [None] * self.width
        for part in sorted(parts, key=lambda part: part.kind in (PartKind.WORKING, PartKind.FAILED)):
            first = min(self._column(part.began), self.width - 1)
            last = max(first + 1, min(self.width, self._column(part.ended)))
            cells[first:last] = [part.kind] * (last - first)
        for kind, group in groupby(cells):
            number = len(list(group))
            if kind is None:
                line.append(" " * number, style=style)
            else:
                line.append(_drawn(kind) * number, style=_STYLES.get(kind, style))
        return {kind for kind in cells if kind is not None}

    def _column(self, moment: int) -> int:
        return max(0, round((moment - self._times.began) * self.width / (self._times.ended - self._times.began)))


def _name(step: Step) -> str:
    return text.printable(step.name)


def _fitted(said: str, width: int) -> str:
    return text.cut(said, width).ljust(width)


def _drawn(kind: PartKind) -> str:
    return text.drawn(_MARKS[kind], _ASCII[kind])
