"""When a cron expression ticks, in a zone, with daylight saving. It knows no clock: instants are arguments.

croniter does the calendar, on wall-clock times without a zone. What becomes of a wall-clock time that comes twice or
not at all is decided here, the way Debian's cron does (cron(8), "Daylight Saving Time and other time changes"):

- A time of the day (`30 2 * * *`) ticks once. If it comes twice, at the first; if it is skipped, at the first moment
  after the gap, together with what else was skipped.
- A rhythm (second, minute or hour is written with a star in front: `*/15 * * * *`, `5 * * * *`) follows real time:
  it ticks at each moment that the clock shows such a time, twice where it comes twice, and not where it is skipped.
"""

from __future__ import annotations

import difflib
from copy import copy
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from fanout.core.cron_fields import DAY, HOUR, MINUTE, MONTH, SECOND, WEEKDAY, Field, Fields, Unit, read, shown
from fanout.errors import CronError

_SECOND = timedelta(seconds=1)
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# From here each Feb 29 falls on each day of the week within the 50 years that croniter looks ahead.
_ANCHOR = datetime(2000, 1, 1)  # noqa: DTZ001 - wall-clock times have no zone in this module


class Schedule(msgspec.Struct, frozen=True):
    """An expression that `parse` found good, in its zone.

    `is_rhythm`: it follows real time where the clocks change. `wall_clocks`: for croniter, five or six fields that it
    understands as we do; a tick of any of them is a tick.
    """

    expression: str
    zone: tzinfo
    fields: Fields
    is_rhythm: bool
    wall_clocks: tuple[str, ...]


class _Change(NamedTuple):
    """A change of a zone's offset: wall-clock times from `low` up to `high` come twice, or, in a gap, not at all."""

    instant: datetime
    low: datetime
    high: datetime
    is_gap: bool


@lru_cache(maxsize=1_024)
def parse(expression: str, zone: str = "UTC", seed: str = "") -> Schedule:
    """The schedule of an expression: five fields, six with the seconds in front, or `@hourly` to `@yearly`.

    `zone` is an IANA name. `seed`, a function's id, decides what `H` is: the same in each process, on each machine.
    If neither day of month nor day of week has a star in front, either is enough, as cron has it; else both must be.

    Raises:
        CronError: it is not in the accepted syntax, can never tick, or there is no such zone. The message names the
            field, the hint is mostly what to write instead.
    """
    fields = read(expression, seed)
    place = _zone(zone)
    days = [pair for pair in _days(fields) if _can_come(*pair, fields.month)]
    if not days:
        raise CronError(f"`{shown(expression)}` never ticks: there is no such day in {_months(fields.month)}")
    times = [_text(fields.minute, MINUTE), _text(fields.hour, HOUR)]
    if fields.second is not None:
        times.insert(0, _text(fields.second, SECOND))
    month = _text(fields.month, MONTH)
    return Schedule(
        expression=expression,
        zone=place,
        fields=fields,
        is_rhythm=any(field.is_star for field in (fields.second, fields.minute, fields.hour) if field is not None),
        wall_clocks=tuple(" ".join((*times, day, month, weekday)) for day, weekday in days),
    )


def next_after(schedule: Schedule, instant: datetime) -> datetime:
    """The first tick strictly after `instant`, which is aware, in UTC."""
    wall, is_second_pass, change = _on_the_wall(schedule, instant)
    if not schedule.is_rhythm:
        # In the second pass the first one is over, and with it all ticks up to the end of what comes twice.
        return _once(_wall_after(schedule, change.high - _SECOND if change and is_second_pass else wall), schedule.zone)
    tick = _wall_after(schedule, wall)
    if change and is_second_pass and tick < change.high:
        return _utc(tick, schedule.zone, fold=1)
    if change and not is_second_pass and tick >= change.high:
        again = _wall_after(schedule, change.low - _SECOND)
        if again < change.high:
            return _utc(again, schedule.zone, fold=1)
    while (gap := _change(tick, schedule.zone)) and gap.is_gap:
        tick = _wall_after(schedule, gap.high - _SECOND)
    return _utc(tick, schedule.zone, fold=0)


def latest_at_or_before(schedule: Schedule, instant: datetime) -> datetime:
    """The newest tick that is not after `instant`, which is aware, in UTC: one look-up, however long ago it is."""
    wall, is_second_pass, change = _on_the_wall(schedule, instant)
    if not schedule.is_rhythm:
        return _once(_wall_until(schedule, change.high - _SECOND if change and is_second_pass else wall), schedule.zone)
    tick = _wall_until(schedule, wall)
    if change and tick >= change.low:
        return _utc(tick, schedule.zone, fold=int(is_second_pass))
    if change and is_second_pass:
        first = _wall_until(schedule, change.high - _SECOND)
        if first >= change.low:
            return _utc(first, schedule.zone, fold=0)
    while (gap := _change(tick, schedule.zone)) and gap.is_gap:
        tick = _wall_until(schedule, gap.low - _SECOND)
    return _utc(tick, schedule.zone, fold=1)


def ticks_between(schedule: Schedule, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The ticks after `after` and not after `until`, in order, in UTC; the newest `limit` if there are more.

    It costs what it returns, however far apart the two are.
    """
    ticks: list[datetime] = []
    instant = until
    while len(ticks) < limit and (tick := latest_at_or_before(schedule, instant)) > after:
        ticks.append(tick)
        instant = tick - _SECOND
    return ticks[::-1]


def jitter(seed: str, scheduled_at_ms: int, jitter_ms: int) -> int:
    """How many milliseconds a tick's run starts late: from 0 up to `jitter_ms`, decided by function id and tick."""
    digest = blake2b(f"{scheduled_at_ms}\0{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % max(jitter_ms, 1)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # there, even on a machine without a database of zones
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; not a relative path; the name of a directory, or too long
        raise CronError(f"`{shown(name)}` is no time zone", hint=_zone_hint(name)) from None


def _zone_hint(name: str) -> str:
    known = sorted(available_timezones())
    if not known:
        return "this machine has no database of zones: install the package `tzdata`"
    wanted = name.strip().lower().replace(" ", "_")
    near = [each for each in known if f"/{each.lower()}".endswith(f"/{wanted}")]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"did you mean `{near[0]}`?" if near else "zones have IANA's names, like `Europe/Berlin`"


def _days(fields: Fields) -> list[tuple[str, str]]:
    """Pairs of a day of month and a day of week, both of which must be right; one pair is enough."""
    days, weekdays = _alternatives(fields.day, DAY), _alternatives(fields.weekday, WEEKDAY)
    if fields.day.is_star or fields.weekday.is_star:
        return list(product(days, weekdays))
    return [(day, "*") for day in days] + [("*", weekday) for weekday in weekdays]


def _alternatives(field: Field, unit: Unit) -> list[str]:
    # Each alone: croniter refuses lists that mix numbers with movable days, and asks for both days of `3 * MON#1`.
    return ([_text(field, unit)] if field.values else []) + list(field.movable)


def _text(field: Field, unit: Unit) -> str:
    return "*" if len(field.values) == unit.size else ",".join(map(str, field.values))


def _can_come(day: str, weekday: str, month: Field) -> bool:
    if day[0].isdigit() and not day.endswith("w"):
        longest = max(_MONTH_DAYS[number - 1] for number in month.values)
        if min(map(int, day.split(","))) > longest:
            return False
    if "*" in (day, weekday) or (day + weekday).replace(",", "").isdigit():
        return True  # each date, Feb 29 as well, is each day of the week in some year
    try:
        copy(_ticker(f"0 0 {day} {_text(month, MONTH)} {weekday}")).get_next(start_time=_ANCHOR)
    except ValueError:  # croniter's errors are that
        return False
    return True


def _months(month: Field) -> str:
    names = [MONTH.words[number - 1].title() for number in month.values]
    return ", ".join(names) if len(names) < MONTH.size else "any month"


@lru_cache(maxsize=4_096)
def _ticker(wall_clock: str) -> Any:
    """The croniter of one; it keeps a position, so ask a copy: two threads may be here at once."""
    # Lazy for start-up time: it costs 40 to 60 ms, and most commands and all workers ask for no tick.
    from croniter import croniter  # type: ignore[import-untyped]

    return croniter(wall_clock, _ANCHOR, ret_type=datetime, day_or=False, second_at_beginning=True)


def _wall_after(schedule: Schedule, wall: datetime) -> datetime:
    ticks: list[datetime] = [copy(_ticker(each)).get_next(start_time=wall) for each in schedule.wall_clocks]
    return min(ticks)


def _wall_until(schedule: Schedule, wall: datetime) -> datetime:
    # What croniter gives is before what it is asked for, never the same.
    ticks: list[datetime] = [copy(_ticker(each)).get_prev(start_time=wall + _SECOND) for each in schedule.wall_clocks]
    return max(ticks)


def _on_the_wall(schedule: Schedule, instant: datetime) -> tuple[datetime, bool, _Change | None]:
    """What the clock shows then, whether it has shown it before, and the change of the clocks that it is within."""
    if instant.tzinfo is None:
        raise ValueError("an instant has a zone")
    # By way of UTC: within one zone astimezone() does nothing, not even to a time that the zone skips.
    here = instant.astimezone(UTC).astimezone(schedule.zone)
    wall = here.replace(tzinfo=None, microsecond=0, fold=0)
    return wall, bool(here.fold), _change(wall, schedule.zone)


def _once(wall: datetime, zone: tzinfo) -> datetime:
    """The first moment that the clock shows `wall`, or the end of the gap that skips it."""
    change = _change(wall, zone)
    return change.instant if change and change.is_gap else _utc(wall, zone, fold=0)


def _utc(wall: datetime, zone: tzinfo, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _change(wall: datetime, zone: tzinfo) -> _Change | None:
    """The change of `zone` that makes `wall` come twice or not at all, if one does."""
    before, after = _offset(wall, zone, 0), _offset(wall, zone, 1)
    if before == after:
        return None
    # The offset was `before` at the one, and is `after` at the other: PEP 495's meaning of the fold in both cases.
    low, high = (wall - max(before, after)).replace(tzinfo=UTC), (wall - min(before, after)).replace(tzinfo=UTC)
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    shown_then = high.replace(tzinfo=None)
    return _Change(high, shown_then + min(before, after), shown_then + max(before, after), is_gap=before < after)


def _offset(wall: datetime, zone: tzinfo, fold: int) -> timedelta:
    return wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()
