from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fanout.core.cron import _ticker, jitter, latest_at_or_before, next_after, parse, ticks_between
from fanout.errors import CronError

SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("expression", "zone", "start", "ticks"),
    [
        # Five fields.
        ("* * * * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]),
        ("*/20 9 * * *", "UTC", "2026-01-01T09:30:00Z", ["2026-01-01T09:40:00Z", "2026-01-02T09:00:00Z"]),
        ("10/20 * * * *", "UTC", "2026-01-01T09:30:00Z", ["2026-01-01T09:50:00Z", "2026-01-01T10:10:00Z"]),
        ("0 22-23,0-2 * * *", "UTC", "2026-01-01T23:30:00Z", ["2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z"]),
        ("0 9 * * mon-fri", "UTC", "2026-01-02T09:00:00Z", ["2026-01-05T09:00:00Z", "2026-01-06T09:00:00Z"]),
        ("0 9 * * FRI-SUN", "UTC", "2026-01-02T09:00:00Z", ["2026-01-03T09:00:00Z", "2026-01-04T09:00:00Z"]),
        ("0 9 * * 0", "UTC", "2026-01-02T09:00:00Z", ["2026-01-04T09:00:00Z", "2026-01-11T09:00:00Z"]),
        ("0 9 * * 7", "UTC", "2026-01-02T09:00:00Z", ["2026-01-04T09:00:00Z", "2026-01-11T09:00:00Z"]),
        ("0 9 * * 7/3", "UTC", "2026-01-02T09:00:00Z", ["2026-01-03T09:00:00Z", "2026-01-04T09:00:00Z"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 31 * *", "UTC", "2026-03-31T00:00:00Z", ["2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z"]),
        ("0 0 ? jan,jul ?", "UTC", "2026-01-31T00:00:00Z", ["2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"]),
        # A range of one is one: croniter takes `5-5` for a star.
        ("5-5 * * * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T00:05:00Z", "2026-01-01T01:05:00Z"]),
        ("5-5/10 * * * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T00:05:00Z", "2026-01-01T01:05:00Z"]),
        # Either day is enough, or both are asked for where one has a star in front.
        ("0 0 3 * MON", "UTC", "2026-01-01T00:00:00Z", ["2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"]),
        ("0 0 */2 * MON", "UTC", "2026-01-01T00:00:00Z", ["2026-01-05T00:00:00Z", "2026-01-19T00:00:00Z"]),
        ("0 0 13 * */5", "UTC", "2026-01-01T00:00:00Z", ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]),
        ("0 0 31 2 MON", "UTC", "2026-01-01T00:00:00Z", ["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z"]),
        # Days that are another number each month; croniter would want both of the first two.
        ("0 0 3 * MON#1", "UTC", "2026-01-01T00:00:00Z", ["2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"]),
        ("0 0 15W * MON", "UTC", "2026-01-12T00:00:00Z", ["2026-01-15T00:00:00Z", "2026-01-19T00:00:00Z"]),
        ("0 0 * * MON#1,FRI", "UTC", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z"]),
        ("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", ["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]),
        ("0 0 15,L * *", "UTC", "2027-02-01T00:00:00Z", ["2027-02-15T00:00:00Z", "2027-02-28T00:00:00Z"]),
        ("0 0 LW * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"]),
        ("0 0 1W * *", "UTC", "2026-08-01T00:00:00Z", ["2026-08-03T00:00:00Z", "2026-09-01T00:00:00Z"]),
        ("0 0 * * 5L", "UTC", "2026-01-01T00:00:00Z", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"]),
        ("0 0 * * 0#5", "UTC", "2026-01-01T00:00:00Z", ["2026-03-29T00:00:00Z", "2026-05-31T00:00:00Z"]),
        # Six: seconds come first.
        ("* * * * * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"]),
        ("30 0 9 * * *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T09:00:30Z", "2026-01-02T09:00:30Z"]),
        # Parts of a second are after it.
        ("* * * * *", "UTC", "2025-12-31T23:59:59.999999Z", ["2026-01-01T00:00:00Z"]),
        ("* * * * *", "UTC", "2026-01-01T00:00:00.000001Z", ["2026-01-01T00:01:00Z"]),
    ],
)
def test_ticks(expression: str, zone: str, start: str, ticks: list[str]) -> None:
    schedule = parse(expression, zone)
    instant = at(start)
    for tick in ticks:
        instant = next_after(schedule, instant)
        assert (instant, instant.tzinfo) == (at(tick), UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "start", "ticks"),
    [
        # Berlin, 2026-03-29: 02:00 to 03:00 is skipped.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("59 1 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T01:59+01:00", "2026-03-30T01:59+02:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
        # All that is skipped is one tick, together with what is due at that moment.
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("0 2-4 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"]),
        # A rhythm follows real time: nothing is made up for.
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:10+01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00"]),
        ("15 * * * *", "Europe/Berlin", "2026-03-29T01:10+01:00", ["2026-03-29T01:15+01:00", "2026-03-29T03:15+02:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-30T02:00+02:00"]),
        ("30 */2 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T00:30+01:00", "2026-03-29T04:30+02:00"]),
        # Berlin, 2026-10-25: 02:00 to 03:00 comes twice.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10+01:00", ["2026-10-26T02:30+01:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-10-25T02:10+01:00", ["2026-10-25T03:00+01:00"]),
        ("0 0-23 * * *", "Europe/Berlin", "2026-10-25T01:10+02:00", ["2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T01:40+02:00",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"],
        ),
        ("@hourly", "Europe/Berlin", "2026-10-25T02:10+02:00", ["2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]),
        ("15 * * * *", "Europe/Berlin", "2026-10-25T02:20+02:00", ["2026-10-25T02:15+01:00", "2026-10-25T03:15+01:00"]),
        ("H/30 2 * * *", "Europe/Berlin", "2026-10-25T02:50+02:00", ["2026-10-25T02:20+01:00", "2026-10-25T02:50+01:00"]),
        # New York, on other days.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00-05:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00-04:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
        # Lord Howe: the clock goes by half an hour.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00+11:00", ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
        ("45 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00+11:00", ["2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30"]),
        # Havana: at midnight, 00:00 to 01:00. The day before ends with its own last minute.
        ("@daily", "America/Havana", "2026-03-07T12:00-05:00", ["2026-03-08T01:00-04:00", "2026-03-09T00:00-04:00"]),
        ("@daily", "America/Havana", "2026-10-31T12:00-04:00", ["2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"]),
        # Apia: all of 2011-12-30.
        ("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00-10:00", ["2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
        # Kathmandu: no changes, and no whole hour.
        ("0 0 * * *", "Asia/Kathmandu", "2026-03-29T12:00+05:45", ["2026-03-30T00:00+05:45"]),
    ],
)  # fmt: skip
def test_ticks_where_the_clocks_change(expression: str, zone: str, start: str, ticks: list[str]) -> None:
    schedule = parse(expression, zone, seed="4")  # which makes 20/30 of H/30
    instant = at(start)
    for tick in ticks:
        following = next_after(schedule, instant)
        assert following == at(tick), following.astimezone(schedule.zone)
        # The look back finds the same.
        assert latest_at_or_before(schedule, following) == following
        assert latest_at_or_before(schedule, following - SECOND) <= instant
        instant = following


@pytest.mark.parametrize(
    ("alias", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        (" @Daily ", "0 0 * * *"),
    ],
)
def test_an_alias_is_what_cron_says_whatever_the_id(alias: str, expression: str) -> None:
    assert parse(alias, seed="send-email").fields == parse(expression).fields


FIELDS = "minute, hour, day of month, month, day of week; seconds are a sixth, in front; there are no years"
STAYS = "is spread by the function's id, and stays"


@pytest.mark.parametrize(
    ("expression", "fault", "hint"),
    [
        ("", "it has 0 fields, not 5 or 6", FIELDS),
        ("daily", "it has 1 field, not 5 or 6", FIELDS),
        ("* * * *", "it has 4 fields, not 5 or 6", FIELDS),
        ("0 0 9 * * * 2026", "it has 7 fields, not 5 or 6", FIELDS),
        ("60 * * * * *", "second `60` is not in 0-59", None),
        ("60 * * * *", "minute `60` is not in 0-59", None),
        ("1-60 * * * *", "minute `1-60` is not in 0-59", None),
        ("-1 * * * *", "minute `-1` is unknown", None),
        ("* 24 * * *", "hour `24` is not in 0-23", None),
        ("0 0 0 * *", "day of month `0` is not in 1-31", None),
        ("0 0 32 * *", "day of month `32` is not in 1-31", None),
        ("0 0 * 13 *", "month `13` is not in 1-12 or JAN-DEC", None),
        ("0 0 * january *", "month `january` is not in 1-12 or JAN-DEC", None),
        ("0 0 * * 8", "day of week `8` is not in 0-7 or SUN-SAT", None),
        ("0 0 * * sunny", "day of week `sunny` is not in 0-7 or SUN-SAT", None),
        ("99999999999999999999 * * * *", "minute `99999999999999999999` is not in 0-59", None),
        ("٣ * * * *", "minute `٣` is unknown", None),
        ("1.5 * * * *", "minute `1.5` is unknown", None),
        ("1,,2 * * * *", "minute `` is empty", None),
        ("*-5 * * * *", "minute `*-5` is unknown", None),
        ("? * * * *", "minute `?` is unknown", None),
        ("0 0 L-3 * *", "day of month `L-3` is not in 1-31", None),
        ("0 0 31W * *", "day of month `31W` is not in every month", "`LW` is the last Monday to Friday of a month"),
        ("0 0 * * L5", "day of week `L5` is unknown", "the last one of a month is `5L`"),
        ("0 0 * * 5#6", "day of week `5#6` is in no month", "there are five of a day at most, `#1` to `#5`"),
        # Ranges don't run around the end; croniter's do.
        ("5-1 * * * *", "minute `5-1` runs backwards", "write `5-59,0-1`"),
        ("59-1 * * * *", "minute `59-1` runs backwards", "write `59,0-1`"),
        ("* 22-0 * * *", "hour `22-0` runs backwards", "write `22-23,0`"),
        ("* * * NOV-FEB *", "month `NOV-FEB` runs backwards", "write `11-12,1-2`"),
        ("* * * * 5-1", "day of week `5-1` runs backwards", "write `5-6,0-1`"),
        ("* * * * 5-0", "day of week `5-0` runs backwards", "write `5-7`"),
        ("* * * * 7-2", "day of week `7-2` runs backwards", "write `0-2`"),
        ("5-1/2 * * * *", "minute `5-1/2` runs backwards", None),
        ("H(5-1) * * * *", "minute `H(5-1)` runs backwards", None),
        # Nor are steps beyond the field.
        ("*/61 * * * *", "minute `*/61` has a step beyond the 60 values there are", None),
        ("* 2/25 * * *", "hour `2/25` has a step beyond the 24 values there are", None),
        ("H/61 * * * *", "minute `H/61` has a step beyond the 60 values there are", None),
        ("*/0 * * * *", "minute `*/0` has a step of 0", None),
        # Nor dice.
        ("R * * * *", "minute `R` would be another number after each start", f"`H` {STAYS}"),
        ("r/15 * * * *", "minute `r/15` would be another number after each start", f"`H/15` {STAYS}"),
        ("0 R(1-5) * * *", "hour `R(1-5)` would be another number after each start", f"`H(1-5)` {STAYS}"),
        # What others have.
        ("@reboot", "a start is no tick", "let what starts the engine send an event: `fanout send`"),
        ("@dayly", "`@dayly` is unknown", "did you mean `@daily`?"),
        (
            "@every 5m",
            "`@every 5m` is unknown",
            "there are `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`",
        ),
        (
            "TZ=Europe/Paris 0 12 * * 5",
            "the zone is not part of it",
            'it is an argument: `cron("0 12 * * 5", tz="Europe/Paris")`',
        ),
    ],
)
def test_what_is_refused_says_what_to_write(expression: str, fault: str, hint: str | None) -> None:
    with pytest.raises(CronError) as raised:
        parse(expression)
    assert raised.value.message == f"`{expression}` is not a cron expression: {fault}"
    assert raised.value.hint == hint


def test_what_can_not_be_shown_is_shown_otherwise() -> None:
    with pytest.raises(CronError) as raised:
        parse("\x1b[0m *\n* * *")
    assert raised.value.message == "`?[0m * * * *` is not a cron expression: minute `?[0m` is unknown"
    with pytest.raises(CronError) as raised:
        parse("1," * 300)
    assert (
        raised.value.message == f"`{'1,' * 39}1…` is not a cron expression: it has 600 characters, and 500 are the most"
    )


@pytest.mark.parametrize(
    ("expression", "months"),
    [
        ("0 0 30 2 *", "Feb"),
        ("0 0 31 2,4,6,9,11 *", "Feb, Apr, Jun, Sep, Nov"),
        ("0 0 31 FEB */2", "Feb"),
        # Movable days that can't be on one day.
        ("0 0 */30 2 MON#2", "Feb"),
        ("0 0 */28 * MON#3", "any month"),
        ("0 0 LW * */6", "any month"),
    ],
)
def test_what_never_ticks_is_refused(expression: str, months: str) -> None:
    with pytest.raises(CronError) as raised:
        parse(expression)
    assert raised.value.message == f"`{expression}` never ticks: there is no such day in {months}"


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("europe/berlin", "did you mean `Europe/Berlin`?"),
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("America/New York", "did you mean `America/New_York`?"),
        ("Europe/Berlinn", "did you mean `Europe/Berlin`?"),
        ("Mars/Base", "zones have IANA's names, like `Europe/Berlin`"),
        ("Europe", "zones have IANA's names, like `Europe/Berlin`"),
        ("/etc/localtime", "zones have IANA's names, like `Europe/Berlin`"),
        ("../UTC", "zones have IANA's names, like `Europe/Berlin`"),
        ("", "zones have IANA's names, like `Europe/Berlin`"),
    ],
)
def test_an_unknown_zone_is_refused(zone: str, hint: str) -> None:
    with pytest.raises(CronError) as raised:
        parse("* * * * *", zone)
    assert (raised.value.message, raised.value.hint) == (f"`{zone}` is no time zone", hint)


# What `H` stands for may never change: it is when people's functions run.
@pytest.mark.parametrize(
    ("expression", "seed", "plain"),
    [
        ("H * * * *", "send-email", "12 * * * *"),
        ("H H * * *", "send-email", "12 7 * * *"),
        ("H H * * *", "send-emails", "34 16 * * *"),
        ("H H H H H", "", "19 4 22 3 5"),
        ("H H H H * H", "send-email", "10 12 7 3 * 4"),
        ("H/15 * * * *", "send-email", "12/15 * * * *"),
        ("H(0-29) H(22-23) * * *", "send-email", "12 23 * * *"),
        ("h h * * h", "café", "42 14 * * 5"),
        ("0 0 H/14 * *", "send-email", "0 0 3,17,31 * *"),
    ],
)
def test_h_is_decided_by_the_id_for_ever(expression: str, seed: str, plain: str) -> None:
    assert parse(expression, seed=seed).wall_clocks == parse(plain).wall_clocks


def test_h_is_spread_over_the_whole_day() -> None:
    times = {parse("H H * * *", seed=f"function-{number}").wall_clocks for number in range(1_000)}
    # 1,000 throws at 1,440 minutes leave some 720 of them hit; croniter's own hash reaches 240 at all.
    assert 680 < len(times) < 760


def test_h_is_a_day_that_all_months_have() -> None:
    days = {parse("0 0 H * *", seed=f"function-{number}").fields.day.values for number in range(1_000)}
    assert days == {(day,) for day in range(1, 29)}


@pytest.mark.parametrize("expression", ["H/15 * * * *", "H(10-50)/15 * * * *", "H(7-9),H(20-29) * * * *"])
def test_h_stays_where_it_is_put(expression: str) -> None:
    for number in range(50):
        minutes = parse(expression, seed=f"function-{number}").fields.minute.values
        match expression.partition(" ")[0]:
            case "H/15":
                assert minutes == tuple(range(minutes[0], 60, 15))
                assert minutes[0] < 15
            case "H(10-50)/15":
                assert minutes == tuple(range(minutes[0], 51, 15))
                assert 10 <= minutes[0] < 25
            case _:
                assert 7 <= minutes[0] <= 9
                assert 20 <= minutes[1] <= 29


@pytest.mark.parametrize(
    ("instant", "latest"),
    [
        ("2026-01-01T09:00:00Z", "2026-01-01T09:00:00Z"),
        ("2026-01-01T09:00:00.5Z", "2026-01-01T09:00:00Z"),
        ("2026-01-01T08:59:59.5Z", "2025-12-31T09:00:00Z"),
        ("2026-01-02T08:00:00Z", "2026-01-01T09:00:00Z"),
        ("2026-01-01T10:00:00+01:00", "2026-01-01T09:00:00Z"),
    ],
)
def test_the_latest_tick_may_be_now(instant: str, latest: str) -> None:
    assert latest_at_or_before(parse("0 9 * * *"), at(instant)) == at(latest)


@pytest.mark.parametrize(
    ("expression", "instant", "latest"),
    [
        # In what comes twice.
        ("30 2 * * *", "2026-10-25T02:29+02:00", "2026-10-24T02:30+02:00"),
        ("30 2 * * *", "2026-10-25T02:10+01:00", "2026-10-25T02:30+02:00"),
        ("30 2 * * *", "2026-10-25T02:40+01:00", "2026-10-25T02:30+02:00"),
        ("0 3 * * *", "2026-10-25T03:00+01:00", "2026-10-25T03:00+01:00"),
        ("30 * * * *", "2026-10-25T02:29+02:00", "2026-10-25T01:30+02:00"),
        ("30 * * * *", "2026-10-25T02:10+01:00", "2026-10-25T02:30+02:00"),
        ("30 * * * *", "2026-10-25T02:40+01:00", "2026-10-25T02:30+01:00"),
        ("30 * * * *", "2026-10-25T03:10+01:00", "2026-10-25T02:30+01:00"),
        ("30 */3 * * *", "2026-10-25T02:10+01:00", "2026-10-25T00:30+02:00"),
        # In what is skipped, and after.
        ("30 2 * * *", "2026-03-29T01:59+01:00", "2026-03-28T02:30+01:00"),
        ("30 2 * * *", "2026-03-29T03:00+02:00", "2026-03-29T03:00+02:00"),
        ("30 2 * * *", "2026-03-29T12:00+02:00", "2026-03-29T03:00+02:00"),
        ("30 * * * *", "2026-03-29T03:10+02:00", "2026-03-29T01:30+01:00"),
        ("*/30 2 * * *", "2026-03-29T12:00+02:00", "2026-03-28T02:30+01:00"),
    ],
)
def test_the_latest_tick_where_the_clocks_change(expression: str, instant: str, latest: str) -> None:
    assert latest_at_or_before(parse(expression, "Europe/Berlin"), at(instant)) == at(latest)


def test_the_latest_tick_on_a_leap_day() -> None:
    # Lost by croniter 6.2.0, which gives January's.
    assert latest_at_or_before(parse("0 0 29 * *"), at("2028-03-16T00:00Z")) == at("2028-02-29T00:00Z")


@pytest.mark.parametrize(
    ("after", "until", "limit", "ticks"),
    [
        ("2026-01-01T00:00Z", "2026-01-04T09:00Z", 10, ["01", "02", "03", "04"]),
        ("2026-01-01T00:00Z", "2026-01-04T09:00Z", 4, ["01", "02", "03", "04"]),
        ("2026-01-01T00:00Z", "2026-01-04T09:00Z", 2, ["03", "04"]),
        ("2026-01-01T00:00Z", "2026-01-04T09:00Z", 0, []),
        # What is at `after` is not missed, what is at `until` is.
        ("2026-01-01T09:00Z", "2026-01-02T09:00Z", 10, ["02"]),
        ("2026-01-01T09:00Z", "2026-01-02T08:59Z", 10, []),
        ("2026-01-02T09:00Z", "2026-01-01T09:00Z", 10, []),
    ],
)
def test_the_newest_ticks_between_two_instants(after: str, until: str, limit: int, ticks: list[str]) -> None:
    expected = [at(f"2026-01-{day}T09:00Z") for day in ticks]
    assert ticks_between(parse("0 9 * * *"), at(after), at(until), limit) == expected


def test_a_year_of_missed_seconds_costs_no_more_than_a_day_of_them() -> None:
    schedule = parse("* * * * * *", "Europe/Berlin")
    now = at("2026-10-25T01:10:07.25Z")
    next_after(schedule, now)  # the library is loaded
    begin = time.perf_counter()
    latest = latest_at_or_before(schedule, now)
    ticks = ticks_between(schedule, now - timedelta(days=365), now, 100)
    took = time.perf_counter() - begin
    assert latest == at("2026-10-25T01:10:07Z")
    assert ticks == [latest - SECOND * ago for ago in reversed(range(100))]
    # 31 million of them; 10 ms is usual.
    assert took < 1.0


def test_an_instant_may_be_in_any_zone_even_at_a_time_that_it_skips() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    skipped = datetime(2026, 3, 29, 2, 30, tzinfo=berlin)  # which is 01:30 UTC
    assert next_after(parse("0 * * * *", "Europe/Berlin"), skipped) == at("2026-03-29T02:00Z")
    assert next_after(parse("0 * * * *"), skipped) == at("2026-03-29T02:00Z")


def test_an_instant_without_a_zone_is_a_mistake() -> None:
    naive = at("2026-01-01T00:00")
    for ask in (next_after, latest_at_or_before):
        with pytest.raises(ValueError, match=r"^an instant has a zone$"):
            ask(parse("* * * * *"), naive)


def test_asking_changes_nothing_so_threads_may_ask_at_once() -> None:
    schedule = parse("0 0 * * MON#1", "Europe/Berlin")
    (wall_clock,) = schedule.wall_clocks
    before = vars(_ticker(wall_clock)).copy()
    next_after(schedule, at("2026-01-01T00:00Z"))
    latest_at_or_before(schedule, at("2026-01-01T00:00Z"))
    assert vars(_ticker(wall_clock)) == before


def test_an_expression_is_checked_without_loading_the_library() -> None:
    code = (
        "import sys; from fanout.core.cron import parse; parse('0 0 1,31 * 1', 'Europe/Berlin', 'x');"
        "print('croniter' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("seed", "scheduled_at", "delay"),
    [
        ("send-email", 0, 14_362),
        ("send-email", 1_767_258_000_000, 35_603),
        ("send-emails", 1_767_258_000_000, 28_616),
        ("café", 1_767_258_000_000, 28_379),
    ],
)
def test_jitter_is_decided_by_function_and_tick_for_ever(seed: str, scheduled_at: int, delay: int) -> None:
    assert jitter(seed, scheduled_at, 60_000) == delay


def test_jitter_is_spread_over_its_range() -> None:
    delays = [jitter("send-email", number * 60_000, 10) for number in range(1_000)]
    assert set(delays) == set(range(10))
    assert jitter("send-email", 0, 1) == jitter("send-email", 0, 0) == 0
