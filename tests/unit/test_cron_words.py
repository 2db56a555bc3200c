from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from fanout.core.cron import Schedule, next_after, parse
from fanout.core.cron_words import in_words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0,15,30,45 * * * *", "every 15 minutes"),
        ("*/60 * * * *", "every hour"),
        ("0 * * * *", "every hour"),
        ("@hourly", "every hour"),
        ("5 * * * *", "at minute 5 of every hour"),
        ("5,20 * * * *", "at minutes 5 and 20 of every hour"),
        ("*/40 * * * *", "at minutes 0 and 40 of every hour"),
        ("7/15 * * * *", "at minutes 7, 22, 37 and 52 of every hour"),
        ("0 */2 * * *", "every 2 hours"),
        ("15 */6 * * *", "every 6 hours at minute 15"),
        ("0 */12 * * *", "every day at 00:00 and 12:00"),
        ("* 9 * * *", "every minute from 09:00 to 09:59"),
        ("*/15 9-17 * * *", "every 15 minutes from 09:00 to 17:45"),
        ("7/15 9-17 * * *", "every 15 minutes from 09:07 to 17:52"),
        ("*/15 9-17 * * MON-FRI", "every 15 minutes from 09:00 to 17:45 on weekdays"),
        ("30 9-17 * * 1-5", "every hour from 09:30 to 17:30 on weekdays"),
        ("*/30 * 1 1 *", "every 30 minutes on 1 January"),
        ("*/30 * * 1 *", "every 30 minutes in January"),
        ("*/30 * 1 * 1", "every 30 minutes on the 1st of every month and on Mondays"),
        # Times of the day.
        ("30 2 * * *", "every day at 02:30"),
        ("@daily", "every day at 00:00"),
        ("@midnight", "every day at 00:00"),
        ("0 9,10,11 * * *", "every day at 09:00, 10:00 and 11:00"),
        ("0,30 8,20 * * *", "every day at 08:00, 08:30, 20:00 and 20:30"),
        ("H H * * *", "every day at 07:12"),
        ("0 9 ? * 1-5", "on weekdays at 09:00"),
        ("0 9 * * 0,6", "on weekends at 09:00"),
        ("0 9 * * SAT-SUN", "on weekends at 09:00"),
        ("@weekly", "on Sundays at 00:00"),
        ("0 9 * * 0,1,3", "on Mondays, Wednesdays and Sundays at 09:00"),
        ("0 9 * 6-8 FRI", "on Fridays in June, July and August at 09:00"),
        ("0 9 * 12 *", "every day in December at 09:00"),
        ("@monthly", "on the 1st of every month at 00:00"),
        ("0 0 2,3,11,12,13,22 * *", "on the 2nd, 3rd, 11th, 12th, 13th and 22nd of every month at 00:00"),
        ("0 0 31 * *", "on the 31st of every month that has one at 00:00"),
        ("0 0 L * *", "on the last day of every month at 00:00"),
        ("0 0 LW * *", "on the last weekday of every month at 00:00"),
        ("0 0 15W 3 *", "on the weekday nearest the 15th of March at 00:00"),
        ("0 0 * * FRI#2", "on the 2nd Friday of every month at 00:00"),
        ("0 0 * * FRI#5", "on the 5th Friday of every month that has one at 00:00"),
        ("0 0 * * FRIL", "on the last Friday of every month at 00:00"),
        ("0 0 1 1,4,7,10 *", "on the 1st of January, April, July and October at 00:00"),
        ("@yearly", "every year on 1 January at 00:00"),
        ("@annually", "every year on 1 January at 00:00"),
        ("0 0 29 2 *", "on 29 February at 00:00"),
        ("0 0 1 * 1", "at 00:00 on the 1st of every month and on Mondays"),
        ("0 0 1,L * *", "at 00:00 on the 1st of every month and on the last day of every month"),
        # All days of the month are enough, written without a star; with one, both fields must be right.
        ("0 0 1-31 * 1", "every day at 00:00"),
        ("0 0 */1 * 1", "on Mondays at 00:00"),
        ("0 0 31 2 1", "on Mondays in February at 00:00"),
        # Seconds.
        ("* * * * * *", "every second"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("0 * * * * *", "every minute"),
        ("30 * * * * *", "at second 30 of every minute"),
        ("0 30 2 * * *", "every day at 02:30"),
        ("15 30 2 * * *", "every day at 02:30:15"),
    ],
)
def test_words(expression: str, words: str) -> None:
    assert in_words(parse(expression, seed="send-email")) == words


@pytest.mark.parametrize(
    "expression",
    [
        "*/7 * * * *",
        "1-50 * * * *",
        "*/7 9-17 * * *",
        "0,10 9-17 * * *",
        "0 1,2,3,4,20,21,22 * * *",
        "0 1/3 * * *",
        "10,20 */2 * * *",
        "*/10 5 * * * *",
        "0 0 */2 * *",
        "0 0 */2 * 1",
        "0 0 30,31 * *",
        "0 0 31 1,2 *",
        "0 0 1 1 1",
        "0 0 1 1-11 *",
        "0 0 */2 * 1#1",
    ],
)
def test_what_words_would_not_say_well_is_said_by_the_expression(expression: str) -> None:
    assert in_words(parse(expression)) == expression


TIMES = [
    *product(("", "0 ", "30 ", "*/20 "), ("*", "0", "5", "0,30", "*/20", "5/20", "*/7"), ("*", "0", "*/2", "1/2")),
    *product(("",), ("*", "0", "5", "0,30", "*/20", "5/20", "*/7"), ("*/12", "9", "9-12", "9,12", "9-17", "0-22")),
]
DAYS = list(
    product(
        ("*", "1", "31", "1,15", "L", "1,L", "LW", "15W", "*/2"),
        ("*", "3", "1,7"),
        ("*", "1-5", "0,6", "1", "1,3", "5L", "5#2", "5#5"),
    )
)


def test_no_two_schedules_are_said_in_the_same_words() -> None:
    said: dict[str, Schedule] = {}
    for (second, *time), days in [*product(TIMES, DAYS[::8]), *product(TIMES[::8], DAYS)]:
        schedule = parse(second + " ".join((*time, *days)))
        other = said.setdefault(in_words(schedule), schedule)
        assert is_alike(schedule, other), (schedule.expression, other.expression)


def is_alike(schedule: Schedule, other: Schedule) -> bool:
    if tuple(each.removeprefix("0 ") for each in schedule.wall_clocks) == tuple(
        each.removeprefix("0 ") for each in other.wall_clocks
    ):
        return True
    return ticks(schedule) == ticks(other)


def ticks(schedule: Schedule) -> list[datetime]:
    found = [datetime(2027, 12, 31, tzinfo=UTC)]
    while len(found) < 70:
        found.append(next_after(schedule, found[-1]))
    return found
