"""A run's time to scale: when it was queued, and what of each step was work, waiting, and failed attempts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from fanout.model import FailedAttempt, Run, Step, StepKind, StepState
from fanout.views import words

_WAITS = frozenset({StepKind.SLEEP, StepKind.WAIT, StepKind.INVOKE, StepKind.MAP})


class PartKind(StrEnum):
    """What a stretch of time was; `FAILED` is an attempt that failed."""

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    FAILED = "failed"


class Part(NamedTuple):
    """A stretch of time, in milliseconds."""

    began: int
    ended: int
    kind: PartKind


class Waterfall:
    """A run and its steps between `began` and `ended`; what goes on does so up to `now`. All are milliseconds UTC."""

    def __init__(self, run: Run, failed: Sequence[FailedAttempt], now: int | None = None) -> None:
        self.run = run
        self.now = words.now() if now is None else now
        self.began = run.queued_at
        times = [run.ended_at or self.now, *(step.ended_at for step in run.steps if step.ended_at is not None)]
        self.ended = max(self.began + 1, *times)
        self._failed: dict[str, list[FailedAttempt]] = {}
        for attempt in failed:
            self._failed.setdefault(attempt.step, []).append(attempt)

    def fraction(self, moment: int) -> float:
        """Where in the whole time this is, from 0 to 1."""
        return min(1.0, max(0.0, (moment - self.began) / (self.ended - self.began)))

    def queue(self) -> Part:
        """The time before the run began."""
        run = self.run
        until = run.started_at if run.started_at is not None else self.now if run.ended_at is None else run.ended_at
        return Part(self.began, until, PartKind.QUEUED)

    def parts(self, step: Step) -> list[Part]:
        """What of a step's time was work and what was waiting, in order; nothing if it is from another run."""
        if step.started_at is None or self.is_reused(step):
            return []
        ended = self.now if step.ended_at is None else step.ended_at
        if step.kind in _WAITS:
            return [Part(step.started_at, ended, PartKind.WAITING)]
        parts: list[Part] = []
        here = step.started_at
        for attempt in self._failed.get(step.name, ()):
            # When an attempt began may be unknown: then what came before it counts as its own.
            began = here if attempt.began_at is None else max(here, attempt.began_at)
            parts += [Part(here, began, PartKind.WAITING)] if began > here else []
            parts.append(Part(began, attempt.ended_at, PartKind.FAILED))
            here = max(here, attempt.ended_at)
        if step.state is StepState.FAILED and parts:
            return parts
        began = max(here, step.attempted_at or here)
        if step.state is StepState.RETRYING:
            return [*parts, Part(here, self.now, PartKind.WAITING)]
        parts += [Part(here, began, PartKind.WAITING)] if parts and began > here else []
        kind = PartKind.FAILED if step.state is StepState.FAILED else PartKind.WORKING
        return [*parts, Part(began if parts else here, ended, kind)]

    def took(self, step: Step) -> str:
        """How long it has taken, or where its result comes from instead."""
        if not step.attempts and step.state is StepState.COMPLETED:
            return "given"
        if self.is_reused(step):
            return "reused"
        if step.started_at is None:
            return ""
        return words.duration((self.now if step.ended_at is None else step.ended_at) - step.started_at)

    def is_reused(self, step: Step) -> bool:
        """Carried over from the run that this one replays."""
        is_before = step.ended_at is not None and step.ended_at <= self.run.queued_at
        return self.run.replay_of is not None and (is_before or not step.attempts)


def as_json(run: Run, failed: Sequence[FailedAttempt], now: int | None = None) -> dict[str, Any]:
    """With `left` and `width` of each part as fractions of the whole time. `queue` is null if it was no time at all."""
    chart = Waterfall(run, failed, now)
    queue = chart.queue()
    return {
        "began": chart.began,
        "ended": chart.ended,
        "now": chart.now,
        "queue": _part_json(chart, queue) if queue.ended > queue.began else None,
        "steps": [
            {
                "name": step.name,
                "state": step.state,
                "took": chart.took(step),
                "is_reused": chart.is_reused(step),
                "parts": [_part_json(chart, part) for part in chart.parts(step)],
            }
            for step in run.steps
        ],
    }


def _part_json(chart: Waterfall, part: Part) -> dict[str, Any]:
    left = chart.fraction(part.began)
    return {
        "kind": part.kind,
        "began": part.began,
        "ended": part.ended,
        "left": left,
        "width": max(0.0, chart.fraction(part.ended) - left),
    }
