"""`/stats`: how many runs there were, how long they took, and what failed, as charts with their numbers."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Route

from fanout.core.figures import slice_length
from fanout.durations import period
from fanout.model import RunState
from fanout.views import words
from fanout.views.filters import moment
from fanout.views.functions import named
from fanout.views.statistics import rate_in_words
from fanout.web.pages.forms import address, asked_of
from fanout.web.pages.rendering import page
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader
    from fanout.journal.statistics import Statistics

PERIODS = (("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("all", "All"))
_SLICES = 60
_DAY_MS, _WEEK_MS = 24 * 3600 * 1000, 7 * 24 * 3600 * 1000
_MOST_LABELS = 8
_MOST_MARKS = 5
# The chart, in its own units.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960.0, 220.0, 46.0, 24.0, 8.0


class Column(NamedTuple):
    """A slice of time: where it stands, how high its parts are, and what is said of it."""

    x: float
    width: float
    all_y: float
    all_height: float
    bad_y: float
    bad_height: float
    runs: int
    failed: int
    when: str
    label: str


class Chart(NamedTuple):
    """`marks`: heights of the grid's lines with their numbers."""

    width: float
    height: float
    left: float
    right: float
    floor: float
    columns: list[Column]
    marks: list[tuple[float, str]]


def routes() -> list[BaseRoute]:
    return [Route("/stats", stats, methods=["GET"])]


async def stats(request: Request) -> Response:
    asked = asked_of(request)
    since, function = asked.get("since", "24h"), asked.get("function")
    first, now = None if since == "all" else moment("since", since), words.now()

    def look(reader: JournalReader) -> tuple[Statistics, list[str]]:
        functions = reader.functions()
        if function is not None:
            named(functions, function)
        found = reader.statistics(first, now, function, most_slices=_SLICES)
        return found, [each.spec.id for each in functions]

    found, known = await site_of(request).look(look)
    total = sum(found.counts.values())
    return page(
        request,
        "stats.html",
        found=found,
        total=total,
        failed=found.counts.get(RunState.FAILED, 0),
        rate=rate_in_words(total, found.until - found.since).removeprefix(", "),
        chart=chart(found),
        slice=period(found.throughput.slice_ms),
        periods=[(said, address("/stats", since=value, function=function), value == since) for value, said in PERIODS],
        since=since,
        function=function,
        known=known,
        slowest=max((each.took.p95 or 0 for each in found.steps), default=0),
        runs_since=None if first is None else since,
    )


def chart(found: Statistics) -> Chart:
    """Bars of all runs of each slice; in front of them, from the same floor, those that failed."""
    flow, number = found.throughput, len(found.throughput.runs)
    top, step = _scale(max(flow.runs, default=0))
    floor = _HEIGHT - _BOTTOM
    width = (_WIDTH - _LEFT) / max(1, number)
    gap = min(2.0, width / 4)

    def height(value: int) -> float:
        return round(max(2.0, (floor - _TOP) * value / top), 2) if value else 0.0

    every = -(-number // _MOST_LABELS)
    columns = []
    for place, (runs, failed) in enumerate(zip(flow.runs, flow.failed, strict=True)):
        at = flow.first_at + place * flow.slice_ms
        label = _moment(at, found) if place % every == 0 and number - place >= every / 2 else ""
        high, bad = height(runs), height(failed)
        columns.append(
            Column(
                round(_LEFT + place * width, 2),
                round(width - gap, 2),
                floor - high,
                high,
                floor - bad,
                bad,
                runs,
                failed,
                words.clock(at),
                label,
            )
        )
    marks = [(round(floor - (floor - _TOP) * value / top, 1), f"{value:,}") for value in range(0, top + 1, step)]
    return Chart(_WIDTH, _HEIGHT, _LEFT, _WIDTH, floor, columns, marks)


def _scale(highest: int) -> tuple[int, int]:
    """Where the axis ends, and the distance of its marks: a few of them, at round numbers."""
    steps = (each * 10**power for power in count() for each in (1, 2, 5))
    step = next(each for each in steps if highest <= _MOST_MARKS * each)
    return max(step, -(-highest // step) * step), step


def _moment(at: int, found: Statistics) -> str:
    """As short as the stretch of time allows."""
    span = found.until - found.since
    minute = 60_000
    form = "%H:%M:%S" if slice_length(max(1, span), _SLICES) < minute else "%H:%M"
    if span > 2 * _WEEK_MS:
        form = "%Y-%m-%d"
    elif span > 2 * _DAY_MS:
        form = "%m-%d %H:%M"
    return time.strftime(form, time.localtime(at / 1000))
