"""Schedules against a reference: a clock that is looked at each minute (or second), as Debian's cron looks at its own.

The reference shares nothing with the code: it builds sets of numbers together with the text, walks through real time,
and remembers the latest time of the day that it has seen.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fanout.core.cron import Schedule, latest_at_or_before, next_after, parse, ticks_between
from fanout.errors import CronError

# When the clocks change, in UTC: by an hour, by half an hour, by two, at midnight, and by a whole day.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2027-03-14T07:00"),
    ("America/New_York", "2027-11-07T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Antarctica/Troll", "2026-03-29T01:00"),
    ("Antarctica/Troll", "2026-10-25T01:00"),
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Havana", "2026-11-01T05:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),
    ("Asia/Kathmandu", "2026-03-29T01:00"),
    ("UTC", "2026-10-25T01:00"),
]
MINUTE, SECOND, HOUR = timedelta(minutes=1), timedelta(seconds=1), timedelta(hours=1)


class Numbers(NamedTuple):
    text: str
    values: frozenset[int]
    is_star: bool = False


class Days(NamedTuple):
    """Days of a month or of a week: numbers, and those that are another number each month."""

    numbers: Numbers
    movable: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return ",".join(filter(None, (self.numbers.text, *self.movable)))


class Drawn(NamedTuple):
    second: Numbers | None
    minute: Numbers
    hour: Numbers
    day: Days
    month: Numbers
    weekday: Days

    @property
    def text(self) -> str:
        return " ".join(each.text for each in self if each is not None)

    @property
    def is_rhythm(self) -> bool:
        return self.minute.is_star or self.hour.is_star or (self.second is not None and self.second.is_star)

    def shows(self, wall: datetime) -> bool:
        seconds = self.second.values if self.second else {0}
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.second in seconds
            and self.is_day(wall.date())
        )

    def is_day(self, day: date) -> bool:
        if day.month not in self.month.values:
            return False
        is_of_month = day.day in self.day.numbers.values or any(is_movable(each, day) for each in self.day.movable)
        is_of_week = day.isoweekday() % 7 in self.weekday.numbers.values or any(
            is_movable(each, day) for each in self.weekday.movable
        )
        if self.day.numbers.is_star or self.weekday.numbers.is_star:
            return is_of_month and is_of_week
        return is_of_month or is_of_week


def is_movable(word: str, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    if word == "L":
        return day.day == length
    if "#" in word:
        return day.isoweekday() % 7 == int(word[0]) and (day.day - 1) // 7 + 1 == int(word[2])
    if word.endswith("L"):
        return day.isoweekday() % 7 == int(word[0]) and day.day + 7 > length
    # The nearest Monday to Friday of the same month, of its last day for LW.
    wanted = length if word == "LW" else int(word[:-1])
    weekdays = [number for number in range(1, length + 1) if date(day.year, day.month, number).weekday() < 5]
    return day.day == min(weekdays, key=lambda number: abs(number - wanted))


@st.composite
def lists(draw: st.DrawFn, low: int, high: int) -> Numbers:
    texts, values = [], set[int]()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(low, high))
        last, step = draw(st.integers(first, high)), draw(st.integers(1, high - low + 1))
        text, run = draw(
            st.sampled_from(
                [
                    (f"{first}", range(first, first + 1)),
                    (f"{first}-{last}", range(first, last + 1)),
                    (f"{first}-{last}/{step}", range(first, last + 1, step)),
                    (f"{first}/{step}", range(first, high + 1, step)),
                ]
            )
        )
        texts.append(text)
        values.update(run)
    return Numbers(",".join(texts), frozenset(values))


@st.composite
def stars(draw: st.DrawFn, low: int, high: int) -> Numbers:
    step = draw(st.just(1) | st.integers(1, high - low + 1))
    return Numbers("*" if step == 1 else f"*/{step}", frozenset(range(low, high + 1, step)), is_star=True)


def numbers(low: int, high: int) -> st.SearchStrategy[Numbers]:
    return stars(low, high) | lists(low, high)


def single(values: frozenset[int]) -> Numbers:
    return Numbers(",".join(map(str, sorted(values))), values)


# Where the clocks change.
SMALL_HOURS = st.frozensets(st.integers(0, 4), min_size=1, max_size=3).map(single)


def of_a_day(low: int, high: int, movable: st.SearchStrategy[str]) -> st.SearchStrategy[Days]:
    no_numbers = Numbers("", frozenset())
    every = stars(low, high).map(Days)
    return every | every | lists(low, high).map(Days) | movable.map(lambda word: Days(no_numbers, (word,)))


MOVABLE_DAYS = st.sampled_from(["L", "LW"]) | st.integers(1, 28).map("{}W".format)
MOVABLE_WEEKDAYS = st.integers(0, 6).map("{}L".format) | st.builds("{}#{}".format, st.integers(0, 6), st.integers(1, 5))


EVERY_DAY = st.just(Days(Numbers("*", frozenset(range(1, 32)), is_star=True)))
EVERY_MONTH = st.just(Numbers("*", frozenset(range(1, 13)), is_star=True))
EVERY_WEEKDAY = st.just(Days(Numbers("*", frozenset(range(7)), is_star=True)))


def drawn(second: st.SearchStrategy[Numbers | None]) -> st.SearchStrategy[Drawn]:
    times = (second, numbers(0, 59), SMALL_HOURS | numbers(0, 23))
    every_day = st.builds(Drawn, *times, EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY)
    days, weekdays = of_a_day(1, 31, MOVABLE_DAYS), of_a_day(0, 6, MOVABLE_WEEKDAYS)
    return every_day | st.builds(Drawn, *times, days, EVERY_MONTH | numbers(1, 12), weekdays)


FIVE_FIELDS = drawn(st.none())
SIX_FIELDS = drawn(numbers(0, 59))


def scheduled(expression: Drawn, zone: str) -> Schedule:
    try:
        return parse(expression.text, zone)
    except CronError as error:
        assume("never ticks" not in error.message)
        raise


@lru_cache
def clock(zone: str, change: str, step: timedelta, span: timedelta) -> list[tuple[datetime, datetime]]:
    """Instants around a change, and what the clock shows at each."""
    instant = datetime.fromisoformat(f"{change}+00:00") - span
    shown = []
    for _ in range(2 * span // step):
        shown.append((instant, instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)))
        instant += step
    return shown


def reference(expression: Drawn, shown: list[tuple[datetime, datetime]], step: timedelta) -> list[datetime]:
    return [
        instant for instant, walls in passes(shown, step, expression.is_rhythm) if any(map(expression.shows, walls))
    ]


def passes(
    shown: list[tuple[datetime, datetime]], step: timedelta, is_rhythm: bool
) -> Iterator[tuple[datetime, list[datetime]]]:
    """Each instant, and the wall-clock times that have their turn: for a time of the day, all that are new."""
    latest = shown[0][1] - step
    for instant, wall in shown:
        if is_rhythm:
            yield instant, [wall]
        elif wall > latest:
            yield instant, [latest + step * count for count in range(1, (wall - latest) // step + 1)]
            latest = wall


def agrees(expression: Drawn, place: tuple[str, str], step: timedelta, span: timedelta, data: st.DataObject) -> None:
    zone, change = place
    schedule = scheduled(expression, zone)
    shown = clock(zone, change, step, span)
    ticks = reference(expression, shown, step)
    # The first hours are for the reference to see what the clock shows; the whole table is known to it only.
    begin, end = shown[0][0] + span / 4, shown[-1][0]
    at_most = int((end - begin) / SECOND) - 1
    near = int((datetime.fromisoformat(f"{change}+00:00") - begin) / SECOND)
    offsets = st.integers(near - 4_000, near + 4_000) | st.integers(0, at_most)
    early, late = sorted(begin + data.draw(offsets) * SECOND for _ in range(2))

    expected = [tick for tick in ticks if tick > early][:5]
    found: list[datetime] = []
    instant = early
    while len(found) < 5 and (instant := next_after(schedule, instant)) <= end:
        found.append(instant)
    assert found == expected

    before = [tick for tick in ticks if tick <= late]
    latest = latest_at_or_before(schedule, late)
    assert latest == before[-1] if before else latest < shown[0][0]

    limit = data.draw(st.integers(0, 8))
    between = [tick for tick in before if tick > early]
    assert ticks_between(schedule, early, late, limit) == between[max(len(between) - limit, 0) :]


@given(FIVE_FIELDS, st.sampled_from(CHANGES), st.data())
@settings(max_examples=120)
def test_schedules_agree_with_a_clock_that_is_looked_at_each_minute(
    expression: Drawn, place: tuple[str, str], data: st.DataObject
) -> None:
    agrees(expression, place, MINUTE, 36 * HOUR, data)


@given(SIX_FIELDS, st.sampled_from([place for place in CHANGES if place[0] != "Pacific/Apia"]), st.data())
@settings(max_examples=40)
def test_schedules_with_seconds_agree_with_a_clock_that_is_looked_at_each_second(
    expression: Drawn, place: tuple[str, str], data: st.DataObject
) -> None:
    agrees(expression, place, SECOND, 3 * HOUR, data)


def instants(begin: int, end: int) -> st.SearchStrategy[datetime]:
    """Within the years from `begin` up to `end`, in UTC."""
    epoch = datetime(begin, 1, 1, tzinfo=UTC)
    span = datetime(end, 1, 1, tzinfo=UTC) - epoch
    return st.integers(0, span // SECOND - 1).map(lambda seconds: epoch + SECOND * seconds)


# Leap years and others, and the eight years around 2100 that have no Feb 29.
STARTS = instants(2024, 2029) | instants(2096, 2104)


@given(FIVE_FIELDS, STARTS)
@settings(max_examples=120)
def test_days_agree_with_the_calendar(expression: Drawn, start: datetime) -> None:
    once_a_day = expression._replace(minute=single(frozenset({17})), hour=single(frozenset({4})))
    schedule = scheduled(once_a_day, "UTC")
    year = [start.date() + timedelta(days) for days in range(-400, 400)]
    ticks = [datetime(day.year, day.month, day.day, 4, 17, tzinfo=UTC) for day in year if once_a_day.is_day(day)]
    horizon = timedelta(395)

    after = [tick for tick in ticks if tick > start]
    tick = next_after(schedule, start)
    assert tick == after[0] if after else tick > start + horizon

    until = [tick for tick in ticks if tick <= start]
    tick = latest_at_or_before(schedule, start)
    assert tick == until[-1] if until else tick < start - horizon


@given(
    FIVE_FIELDS | SIX_FIELDS,
    st.sampled_from([zone for zone, _ in CHANGES]),
    instants(2000, 2060),
)
@settings(max_examples=80)
def test_ticks_only_go_forward_and_none_is_between_two(expression: Drawn, zone: str, instant: datetime) -> None:
    schedule = scheduled(expression, zone)
    ticks = [latest_at_or_before(schedule, instant)]
    assert ticks[0] <= instant
    assert next_after(schedule, ticks[0]) == next_after(schedule, instant)
    for _ in range(6):
        ticks.append(next_after(schedule, ticks[-1]))
    assert ticks[1] > instant
    for tick, following in pairwise(ticks):
        assert tick < following
        assert latest_at_or_before(schedule, following) == following
        assert latest_at_or_before(schedule, following - timedelta(microseconds=1)) == tick
        here = following.astimezone(schedule.zone)
        before = (following - SECOND).astimezone(schedule.zone)
        is_end_of_gap = here.replace(tzinfo=None) - before.replace(tzinfo=None) > SECOND
        assert expression.shows(here.replace(tzinfo=None)) or (is_end_of_gap and not expression.is_rhythm)
