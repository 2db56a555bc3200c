"""Schedules, their ticks and what the clocks' changes do to them, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.core import cron
from fanout.core.cron_edges import MOST_TIMES, Edge, edges
from fanout.journal.functions import CronTick, KnownFunction
from fanout.model import CronTrigger, FunctionSpec
from fanout.views import words
from fanout.views.function_words import cron_triggers, schedule_in_words, schedule_of

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader

_TICKS_LOOKED_AT = 50
"""So many of a function's newest ticks are looked at, to find the last one of each of its triggers."""
_EDGES_WITHIN = timedelta(days=366)
_DAY_MS = 24 * 3600 * 1000


class Row(NamedTuple):
    """A cron trigger with its last tick and its next one; what the code does not have any more has no next one."""

    known: KnownFunction
    trigger: CronTrigger
    last: CronTick | None
    next_at: int | None


def rows(reader: JournalReader, functions: Sequence[KnownFunction], now: int) -> list[Row]:
    found = []
    for known in functions:
        triggers = cron_triggers(known.spec)
        ticks = reader.ticks(known.spec.id, now, _TICKS_LOOKED_AT) if triggers else []
        for trigger in triggers:
            is_of = (each for each in ticks if (each.expression, each.zone) == (trigger.expression, trigger.zone))
            next_at = next(ticks_after(known.spec, trigger, now), None) if known.is_present else None
            found.append(Row(known, trigger, next(is_of, None), next_at))
    return found


def ticks_after(spec: FunctionSpec, trigger: CronTrigger, after: int) -> Iterator[int]:
    """When it ticks after this time; nothing where this machine does not know its zone."""
    schedule = schedule_of(spec, trigger)
    here = moment(after)
    while schedule is not None:
        here = cron.next_after(schedule, here)
        yield milliseconds(here)


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def in_time(left_ms: int) -> str:
    """`in 3 h 20 m`, `in 17 d 3 h`."""
    if left_ms < 2 * _DAY_MS:
        return f"in {words.duration(left_ms)}"
    days, rest = divmod(left_ms, _DAY_MS)
    return f"in {days:,} d {rest * 24 // _DAY_MS} h"


def rows_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "function": row.known.spec.id,
            "cron": row.trigger.expression,
            "timezone": row.trigger.zone,
            "jitter_ms": row.trigger.jitter_ms,
            "words": schedule_in_words(row.known.spec, row.trigger),
            "is_present": row.known.is_present,
            "is_loadable": not row.known.is_stale,
            "paused_at": row.known.paused_at,
            "last": None if row.last is None else tick_json(row.last),
            "next_at": row.next_at,
        }
        for row in found
    ]


def tick_json(tick: CronTick) -> dict[str, Any]:
    return {"scheduled_at": tick.scheduled_at, "run": tick.run, "state": tick.state, "reason": tick.reason}


# The next ticks of one trigger.


class Next(NamedTuple):
    """The next ticks of a trigger, and the changes of its zone's clocks that make a difference to it."""

    spec: FunctionSpec
    trigger: CronTrigger
    zone: Any
    ticks: list[datetime]
    edges: list[Edge]


def upcoming(spec: FunctionSpec, trigger: CronTrigger, now: int, number: int) -> Next:
    """The next ticks, and the edges of the next year.

    Raises:
        CronError: this machine does not know the zone.
    """
    schedule = cron.parse(trigger.expression, trigger.zone, spec.id)
    following = ticks_after(spec, trigger, now)
    ticks = [moment(next(following)) for _ in range(number)]
    here = moment(now)
    until = max(here + _EDGES_WITHIN, ticks[-1])
    return Next(spec, trigger, schedule.zone, ticks, edges(trigger.expression, trigger.zone, spec.id, here, until))


def edge_in_words(edge: Edge) -> str:
    """As in: the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00."""
    hours = f"{_wall(edge.low)} to {_wall(edge.high)}"
    listed = [_wall(time) for time in edge.times]
    has_more = len(listed) == MOST_TIMES
    times = f"{', '.join(listed[:-1])} and so on" if has_more else " and ".join(", ".join(listed).rsplit(", ", 1))
    is_one = len(listed) == 1
    if edge.is_gap:
        skipped = f"the clocks skip {hours}, so {times}"
        if edge.is_followed:
            return f"{skipped} {'does' if is_one else 'do'} not tick"
        return f"{skipped} {'ticks' if is_one else 'tick once,'} at {_wall(edge.high)}"
    twice = f"the clocks show {hours} twice, so {times}"
    if edge.is_followed:
        return f"{twice} {'ticks' if is_one else 'tick'} twice"
    return f"{twice} {'ticks' if is_one else 'tick'} the first time only"


def _wall(time: datetime) -> str:
    return f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"


def next_json(found: Next) -> dict[str, Any]:
    return {
        "cron": found.trigger.expression,
        "timezone": found.trigger.zone,
        "words": schedule_in_words(found.spec, found.trigger),
        "ticks": [
            {"at": milliseconds(tick), "local": tick.astimezone(found.zone).isoformat(), "utc": tick.isoformat()}
            for tick in found.ticks
        ],
        "clock_changes": [
            {
                "at": milliseconds(edge.instant),
                "from": edge.low.isoformat(),
                "to": edge.high.isoformat(),
                "is_gap": edge.is_gap,
                "words": edge_in_words(edge),
            }
            for edge in found.edges
        ],
    }
