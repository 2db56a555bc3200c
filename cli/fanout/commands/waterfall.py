"""The steps of a run drawn to scale, a line each: when it was queued, worked at, and waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from fanout.commands import text
from fanout.model import FailedAttempt, Run, Step, StepKind, StepState

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
_QUEUED, _WORKING, _WAITING, _FAILED = "░", "█", "─", "▒"
_ASCII = {_QUEUED: ".", _WORKING: "#", _WAITING: "-", _FAILED: "x"}
_STYLES = {_QUEUED: "dim", _WAITING: "yellow", _FAILED: "red"}
_MEANINGS = ((_FAILED, "failed attempt"), (_WAITING, "waiting"))
_WAITS = frozenset({StepKind.SLEEP, StepKind.WAIT, StepKind.INVOKE, StepKind.MAP})


class Part(NamedTuple):
    """A stretch of time, in milliseconds, and how it is drawn."""

    began: int
    ended: int
    mark: str


class Chart:
    """Lays a run's time out over the columns that a terminal has."""

    def __init__(self, run: Run, failed: Sequence[FailedAttempt], width: int) -> None:
        self._run = run
        self._failed: dict[str, list[FailedAttempt]] = {}
        for attempt in failed:
            self._failed.setdefault(attempt.step, []).append(attempt)
        self._now = text.now()
        self.marks: set[str] = set()
        """What the bars so far have in them."""
        self.began = run.queued_at
        times = [run.ended_at or self._now, *(step.ended_at for step in run.steps if step.ended_at is not None)]
        self.ended = max(self.began + 1, *times)
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
        end = text.duration(self.ended - self.began)
        middle = text.duration((self.ended - self.began) // 2)
        has_room = self.width > _LEAST_SCALE
        scale = f"0{middle:^{self.width - 1 - len(end)}}"[: self.width - len(end)] if has_room else "0"
        return line.append(f"  {scale:<{self.width - len(end)}}{end}", style="dim")

    def queue(self) -> Text | None:
        """The time before the run began, if it can be seen at this scale."""
        from rich.text import Text

        run = self._run
        until = run.started_at if run.started_at is not None else self._now if run.ended_at is None else run.ended_at
        if not self.width or self._column(until) < 1:
            return None
        line = Text(f"    {_fitted(_QUEUE, self.name_width)}", style="dim", no_wrap=True)
        line.append("  ")
        self._draw(line, [Part(self.began, until, _QUEUED)], "dim")
        return line.append(f"  {text.duration(until - self.began):>{_TOOK_WIDTH}}", style="dim")

    def line(self, step: Step) -> Text:
        """Its name, its bar, and how long it has taken."""
        from rich.text import Text

        style = text.style(step.state)
        line = Text("  ", no_wrap=True).append(text.symbol(step.state), style=style)
        line.append(f" {_fitted(_name(step), self.name_width)}")
        is_reused = self._is_reused(step)
        if self.width:
            line.append("  ")
            self.marks |= self._draw(line, [] if is_reused else self.parts(step), style)
        line.append(f"  {self._took(step, is_reused=is_reused):>{_TOOK_WIDTH}}", style="dim")
        return line

    def legend(self) -> Text | None:
        """What the marks mean that were drawn and don't explain themselves."""
        from rich.text import Text

        said = "  ".join(
            f"{text.drawn(mark, _ASCII[mark])} {meaning}" for mark, meaning in _MEANINGS if mark in self.marks
        )
        return Text(f"{' ' * (4 + self.name_width)}  {said}", style="dim") if said else None

    def _took(self, step: Step, *, is_reused: bool) -> str:
        if not step.attempts and step.state is StepState.COMPLETED:
            return "given"
        if is_reused:
            return "reused"
        if step.started_at is None:
            return ""
        return text.duration((self._now if step.ended_at is None else step.ended_at) - step.started_at)

    def _is_reused(self, step: Step) -> bool:
        """Carried over from the run that this one replays."""
        is_before = step.ended_at is not None and step.ended_at <= self._run.queued_at
        return self._run.replay_of is not None and (is_before or not step.attempts)

    def parts(self, step: Step) -> list[Part]:
        """What of a step's time was work and what was waiting, in order."""
        if step.started_at is None:
            return []
        ended = self._now if step.ended_at is None else step.ended_at
        if step.kind in _WAITS:
            return [Part(step.started_at, ended, _WAITING)]
        parts: list[Part] = []
        here = step.started_at
        for attempt in self._failed.get(step.name, ()):
            # When an attempt began may be unknown: then what came before it counts as its own.
            began = here if attempt.began_at is None else max(here, attempt.began_at)
            parts += [Part(here, began, _WAITING)] if began > here else []
            parts.append(Part(began, attempt.ended_at, _FAILED))
            here = max(here, attempt.ended_at)
        if step.state is StepState.FAILED and parts:
            return parts
        began = max(here, step.attempted_at or here)
        if step.state is StepState.RETRYING:
            return [*parts, Part(here, self._now, _WAITING)]
        parts += [Part(here, began, _WAITING)] if parts and began > here else []
        mark = _FAILED if step.state is StepState.FAILED else _WORKING
        return [*parts, Part(began if parts else here, ended, mark)]

    def _draw(self, line: Text, parts: Sequence[Part], style: str) -> set[str]:
        """The bar. What is too short to be seen has one column all the same, and work comes before waiting."""
        cells = [" "] * self.width
        for part in sorted(parts, key=lambda part: part.mark in (_WORKING, _FAILED)):
            first = min(self._column(part.began), self.width - 1)
            last = max(first + 1, min(self.width, self._column(part.ended)))
            cells[first:last] = [part.mark] * (last - first)
        for mark, number in _runs_of("".join(cells)):
            line.append(text.drawn(mark, _ASCII.get(mark, mark)) * number, style=_STYLES.get(mark, style))
        return set(cells)

    def _column(self, moment: int) -> int:
        return max(0, round((moment - self.began) * self.width / (self.ended - self.began)))


def _name(step: Step) -> str:
    return text.printable(step.name)


def _fitted(said: str, width: int) -> str:
    return text.cut(said, width).ljust(width)


def _runs_of(cells: str) -> Iterator[tuple[str, int]]:
    for mark, group in groupby(cells):
        yield mark, len(list(group))
