"""A run's time as shapes of an SVG: positions in percent of the width, so that no page needs to know how wide it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fanout.model import FailedAttempt, Run, Step, StepState
from fanout.views import words
from fanout.views.waterfall import Part, PartKind, Waterfall

_LEAST_MS, _MOST_MS = 1, 3_600_000
_LEAST_WIDTH = 0.0005
"""Of nothing at all, nothing would be drawn: not even its outline."""
_NICE = (1, 2, 5)
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_STEPS = (
    *(nice * 10**power for power in range(4) for nice in _NICE if nice * 10**power < 10 * _SECOND),
    *(10 * _SECOND, 20 * _SECOND, 30 * _SECOND, *(n * _MINUTE for n in (1, 2, 5, 10, 20, 30))),
    *(n * _HOUR for n in (1, 2, 4, 8, 12)),
)
_MOST_MARKS = 5
_LAST_MARK = 0.94
"""What is further right would be cut at the edge."""


class Shape(NamedTuple):
    """A stretch of time: where it begins and how wide it is, in percent, and what it says when it is pointed at."""

    kind: str
    x: str
    width: str
    title: str


class Mark(NamedTuple):
    """A place on the scale."""

    x: str
    label: str


class Bar(NamedTuple):
    """The shapes of a step, and the same for who can't see them."""

    shapes: list[Shape]
    took: str
    said: str
    is_going: bool


class Chart(NamedTuple):
    """All of a run to one scale: the run itself first, and then its steps in their order."""

    marks: list[Mark]
    run: Bar
    steps: list[Bar]


def chart(run: Run, failed: Sequence[FailedAttempt], now: int | None = None) -> Chart:
    laid = Waterfall(run, failed, now)
    return Chart(
        marks=marks(laid.ended - laid.began),
        run=_of_run(laid, [each for each in failed if not each.step]),
        steps=[_of_step(laid, step, failed) for step in run.steps],
    )


def overview(run: Run) -> str:
    """How wide the bar of a run in a list is, in percent: each tenfold of time is as much wider."""
    if run.started_at is None:
        return "0%"
    took = (run.ended_at or words.now()) - run.started_at
    share = math.log(max(took, _LEAST_MS)) / math.log(_MOST_MS)
    return f"{100 * min(1.0, max(0.03, share)):.1f}%"


def _of_run(laid: Waterfall, failed: Sequence[FailedAttempt]) -> Bar:
    run, queue = laid.run, laid.queue()
    shapes = []
    if queue.ended > queue.began:
        shapes.append(_shape(laid, queue, f"in the queue for {words.duration(queue.ended - queue.began)}"))
    took = ""
    if run.started_at is not None:
        ended = laid.now if run.ended_at is None else run.ended_at
        took = words.duration(ended - run.started_at)
        whole = Part(run.started_at, ended, PartKind.WORKING)
        shapes.append(_shape(laid, whole, f"the run: {took}", kind="span"))
        for each in failed:
            began = ended if each.began_at is None else each.began_at
            at = Part(min(began, each.ended_at), each.ended_at, PartKind.FAILED)
            shapes.append(_shape(laid, at, f"attempt {each.number + 1} failed: {words.first_line(str(each.failure))}"))
    said = f"queued for {words.duration(queue.ended - queue.began)}" + (f", took {took}" if took else "")
    return Bar(shapes, took, said, run.ended_at is None)


def _of_step(laid: Waterfall, step: Step, failed: Sequence[FailedAttempt]) -> Bar:
    parts, took = laid.parts(step), laid.took(step)
    failures = [each for each in failed if each.step == step.name]
    shapes, attempt = [], 0
    for part in parts:
        span = words.duration(part.ended - part.began)
        match part.kind:
            case PartKind.FAILED:
                why = f": {words.first_line(str(failures[attempt].failure))}" if attempt < len(failures) else ""
                title = f"attempt {attempt + 1} failed after {span}{why}"
                attempt += 1
            case PartKind.WORKING:
                title = f"attempt {attempt + 1}: {span}" if attempt else span
            case _:
                title = f"waited {span}" + (f" before attempt {attempt + 1}" if attempt else "")
        shapes.append(_shape(laid, part, title))
    said = f"{step.state}, {took}"
    if parts:
        said = f"{step.state}, began {words.duration(parts[0].began - laid.began)} in, {took}"
    if step.attempts > 1:
        said += f", {step.attempts} attempts"
    is_going = step.state in (StepState.RUNNING, StepState.WAITING, StepState.RETRYING)
    return Bar(shapes, took, said, is_going)


def _shape(laid: Waterfall, part: Part, title: str, *, kind: str | None = None) -> Shape:
    left = laid.fraction(part.began)
    width = max(_LEAST_WIDTH, laid.fraction(part.ended) - left)
    return Shape(kind or part.kind, _percent(left), _percent(width), title)


def marks(span: int) -> list[Mark]:
    """The scale of so many milliseconds, in units that people count in."""
    step = next((each for each in _STEPS if span / each <= _MOST_MARKS), None)
    if step is None:
        step = _DAY * max(1, math.ceil(span / _DAY / _MOST_MARKS))
    moments = range(0, span + 1, step)
    return [Mark(_percent(at / max(1, span)), _label(at)) for at in moments if at <= _LAST_MARK * max(1, span)]


def _label(milliseconds: int) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s")):
        if milliseconds >= unit:
            return f"{milliseconds / unit:.3g} {name}"
    return f"{milliseconds} ms" if milliseconds else "0"


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
