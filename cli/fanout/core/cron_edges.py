"""Where the clocks of a zone change, and what a schedule makes of it. It knows no clock: instants are arguments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from fanout.core import cron

MOST_TIMES = 5
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Edge(NamedTuple):
    """A change of the clocks that a schedule meets.

    The wall-clock times from `low` up to `high` are skipped (`is_gap`) or come twice. `times` are those of them at
    which the schedule would tick on another day: the first ones, up to MOST_TIMES. `instant` is in UTC. `is_followed`:
    the schedule follows real time, so it does not tick in a gap, and ticks in both of two passes.
    """

    instant: datetime
    low: datetime
    high: datetime
    is_gap: bool
    times: tuple[datetime, ...]
    is_followed: bool


def edges(expression: str, zone: str, seed: str, after: datetime, until: datetime) -> list[Edge]:
    """The changes of the clocks between two instants that make a difference to the schedule, in order.

    Raises:
        CronError: as `cron.parse`.
    """
    schedule = cron.parse(expression, zone, seed)
    # Where no clock ever changes, the ticks are the wall-clock times themselves.
    on_the_wall = cron.parse(expression, "UTC", seed)
    found = []
    for instant, before, now in _changes(schedule.zone, after, until):
        wall = instant.replace(tzinfo=None)
        low, high = wall + min(before, now), wall + max(before, now)
        if times := _times(on_the_wall, low, high):
            found.append(Edge(instant, low, high, now > before, times, schedule.is_rhythm))
    return found


def _changes(zone: tzinfo, after: datetime, until: datetime) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """Each change of the zone's offset: when, and the offsets before and from then on."""
    here = after.astimezone(UTC).replace(microsecond=0)
    while here < until:
        there = min(here + _DAY, until)
        before, now = _offset(here, zone), _offset(there, zone)
        if before != now:
            yield _first_with_another(here, there, zone), before, now
        here = there


def _first_with_another(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    before = _offset(low, zone)
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _times(on_the_wall: cron.Schedule, low: datetime, high: datetime) -> tuple[datetime, ...]:
    times: list[datetime] = []
    here = (low - _SECOND).replace(tzinfo=UTC)
    while len(times) < MOST_TIMES:
        here = cron.next_after(on_the_wall, here)
        if here.replace(tzinfo=None) >= high:
            break
        times.append(here.replace(tzinfo=None))
    return tuple(times)
