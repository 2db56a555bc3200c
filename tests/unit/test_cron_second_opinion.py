"""204 expressions in five zones, at both changes of the clocks of two years, as cronsim has them too.

cronsim is another implementation of what Debian's cron does. Where it says otherwise, the rule is listed in RULES, and
what cronsim says has to be exactly what that rule makes of our ticks.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from zoneinfo import ZoneInfo

import msgspec
import pytest
from cronsim import CronSim

from fanout.core.cron import Schedule, next_after, parse

TIMES = (
    "* *",
    "*/15 *",
    "0 *",
    "45 *",
    "10-50/20 *",
    "0 */2",
    "30 */3",
    "*/20 2",
    "30 2",
    "0 0",
    "15 2",
    "45 1",
    "0 2-4",
    "0,30 1,2,3",
    "0 0-23",
    "0 30 2",
    "15 */10 *",
)
DAYS = (
    "* * *",
    "* * SUN",
    "* * 1-5",
    "* 3,4,10,11 *",
    "*/2 * 0",
    "25,29 * 3",
    "L * *",
    "LW * *",
    "* * 0L",
    "* * SUN#2",
    "13 * FRI,6#1",
    "* * 3/2",
)
EXPRESSIONS = tuple(" ".join(each) for each in product(TIMES, DAYS))
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00", "2027-03-28T01:00", "2027-10-31T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00", "2027-03-14T07:00", "2027-11-07T06:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30", "2027-04-03T15:00", "2027-10-02T15:30"),
    # Nothing changes in these, whenever it is.
    "Asia/Kathmandu": ("2026-03-29T01:00",),
    "UTC": ("2027-10-31T01:00",),
}
# Where to begin, seen from the change, and how many ticks to compare.
STARTS = (
    (timedelta(hours=-26), 3),
    (timedelta(minutes=-70), 3),
    (timedelta(minutes=-3), 3),
    (timedelta(minutes=10), 2),
)
HOUR = timedelta(hours=1)

WEEK, SECONDS, SECOND_PASS, LEAP = "week", "seconds", "second pass", "leap"
RULES = {
    WEEK: (
        "`3/2` is from Wednesday to the end of the week. To cronsim that is a Sunday, number 7, though its week begins "
        "with a Sunday as well, number 0. To us, as to croniter, it is Saturday, number 6: `3,5`, not `3,5,7`."
    ),
    SECONDS: (
        "cronsim has Debian's rule for five fields only, as Debian has no others: with six, each time follows real "
        "time, and `0 30 2 * * *` has no tick on a day that skips it, and two on one that repeats it. We have one rule: "
        "it ticks when `30 2 * * *` does."
    ),
    SECOND_PASS: (
        "Asked for what comes after 02:10 the second time, cronsim forgets which time it is, and first gives what is "
        "past: 02:30 the first time. To us a time of the day is over then."
    ),
    LEAP: (
        "cronsim looks for the hour in steps of 60 minutes from the full one; on Lord Howe, where the clock goes back by "
        "half an hour, it comes out at half past the next, and misses what is due before. We lose none."
    ),
}


def ours(schedule: Schedule, start: datetime, count: int) -> list[datetime]:
    ticks = []
    for _ in range(count):
        start = next_after(schedule, start)
        ticks.append(start)
    return ticks


def theirs(expression: str, start: datetime, zone: str, count: int) -> list[datetime]:
    return [tick.astimezone(UTC) for tick in islice(CronSim(expression, start.astimezone(ZoneInfo(zone))), count)]


def differences(expression: str, zone: str, change: datetime, offset: timedelta, count: int) -> list[str]:
    """The rules by which cronsim's ticks differ from ours; an assertion fails if they don't do so by these exactly."""
    start = change + offset
    schedule = parse(expression, zone)
    found = theirs(expression, start, zone, count)
    rules = []
    if ours(schedule, start, count) != found and expression.endswith("3/2"):
        rules.append(WEEK)
        schedule = parse(expression.replace("3/2", "3,5,7"), zone)
    if ours(schedule, start, count) != found and len(expression.split()) == 6:
        rules.append(SECONDS)
        assert not schedule.is_rhythm, expression
        schedule = msgspec.structs.replace(schedule, is_rhythm=True)
    expected = ours(schedule, start, count)
    if expected != found and not schedule.is_rhythm:
        rules.append(SECOND_PASS)
        assert start.astimezone(ZoneInfo(zone)).fold == 1, expression
        past = [tick for tick in found if tick <= start]
        assert set(past) <= set(ours(schedule, start - HOUR, count)), expression
        assert [*past, *expected][:count] == found, expression
    elif expected != found:
        rules.append(LEAP)
        assert zone == "Australia/Lord_Howe", expression
        more = ours(schedule, start, 3 * count)
        leapt = [tick for tick in more if tick not in found and tick < found[-1]]
        assert all(change <= tick < change + HOUR for tick in leapt), expression
        assert [tick for tick in more if tick not in leapt][:count] == found, expression
    return rules


@pytest.mark.parametrize(
    ("zone", "counts"),
    [
        ("Europe/Berlin", {WEEK: 250, SECONDS: 92, SECOND_PASS: 42}),
        ("America/New_York", {WEEK: 252, SECONDS: 30, SECOND_PASS: 20}),
        ("Australia/Lord_Howe", {WEEK: 258, SECOND_PASS: 9, LEAP: 110}),
        ("Asia/Kathmandu", {WEEK: 54}),
        ("UTC", {WEEK: 63}),
    ],
)
def test_cronsim_has_the_same_ticks_but_for_the_listed_rules(zone: str, counts: dict[str, int]) -> None:
    seen = Counter[str]()
    for expression, change, (offset, count) in product(EXPRESSIONS, CHANGES[zone], STARTS):
        seen.update(differences(expression, zone, datetime.fromisoformat(f"{change}+00:00"), offset, count))
    assert seen == counts
    assert set(seen) <= set(RULES)
