"""A schedule in words: "every day at 02:30". Where they would be long, or not quite true, the expression itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, product

from fanout.core.cron import Schedule
from fanout.core.cron_fields import HOUR, MINUTE, MONTH, SECOND, Fields, Unit

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# More items in one list are harder to read than the expression. Up to a few, a list says more than a rhythm would.
_MOST, _FEW = 6, 3


def in_words(schedule: Schedule) -> str:
    """When it ticks, in its zone, with the number that `H` has become. What the clocks' changes do is left out."""
    days = _days(schedule)
    if days is None:
        return schedule.expression
    if times := _times(schedule.fields, _FEW):
        return _at(times, days)
    if rhythm := _rhythm(schedule.fields):
        return f"{rhythm} {' and '.join(days).removeprefix('every day').removeprefix('every year').strip()}".rstrip()
    if times := _times(schedule.fields, _MOST):
        return _at(times, days)
    return schedule.expression


def _at(times: str, days: list[str]) -> str:
    # With several kinds of days the times could be taken for those of the last kind only.
    return f"{days[0]} at {times}" if len(days) == 1 else f"at {times} {' and '.join(days)}"


def _times(fields: Fields, most: int) -> str | None:
    seconds = fields.second.values if fields.second else (0,)
    if len(fields.hour.values) * len(fields.minute.values) * len(seconds) > most:
        return None
    return _listed(_time(*each) for each in product(fields.hour.values, fields.minute.values, seconds))


def _rhythm(fields: Fields) -> str | None:
    minutes, hours = fields.minute.values, fields.hour.values
    if fields.second and fields.second.values != (0,):
        is_always = len(minutes) == MINUTE.size and len(hours) == HOUR.size
        return _within(fields.second.values, SECOND, MINUTE) if is_always else None
    return _within(minutes, MINUTE, HOUR) if len(hours) == HOUR.size else _at_hours(minutes, hours)


def _at_hours(minutes: tuple[int, ...], hours: tuple[int, ...]) -> str | None:
    step = _step(hours, HOUR.size)
    if step and hours[0] == 0 and len(minutes) == 1:
        return _every(step, HOUR.name) + (f" at minute {minutes[0]}" if minutes[0] else "")
    if any(later - hour > 1 for hour, later in pairwise(hours)):
        return None
    step = _step(minutes, MINUTE.size)
    if not step and len(minutes) > 1:
        return None
    every = _every(step, MINUTE.name) if step else "every hour"
    return f"{every} from {_time(hours[0], minutes[0])} to {_time(hours[-1], minutes[-1])}"


def _within(values: tuple[int, ...], unit: Unit, larger: Unit) -> str | None:
    """`every 15 minutes`, or `at minutes 5 and 20 of every hour`."""
    step = _step(values, unit.size)
    if step and values[0] == 0:
        return _every(step, unit.name)
    if values == (0,):
        return _every(1, larger.name)
    if len(values) > _MOST:
        return None
    return f"at {unit.name}{'s' if len(values) > 1 else ''} {_listed(map(str, values))} of every {larger.name}"


def _days(schedule: Schedule) -> list[str] | None:
    """The kinds of days on which it ticks, one or several; None where it takes more than a few words."""
    numbers = schedule.fields.month.values
    if _MOST < len(numbers) < MONTH.size:
        return None
    pairs = [(words[-3], words[-1]) for words in map(str.split, schedule.wall_clocks)]
    if ("*", "*") in pairs:
        return ["every day" if len(numbers) == MONTH.size else f"every day in {_listed_months(numbers)}"]
    # In which months the first kind of several is would be left to guess.
    if len(pairs) > 1 and len(numbers) < MONTH.size:
        return None
    kinds = []
    for day, weekday in pairs:
        if "*" not in (day, weekday):
            return None
        kind = _weekdays(weekday, numbers) if day == "*" else _days_of_month(day, numbers)
        if kind is None:
            return None
        kinds.append(kind)
    return kinds


def _days_of_month(day: str, months: tuple[int, ...]) -> str | None:
    of = f"of {_listed_months(months)}"
    if day == "l":
        return f"on the last day {of}"
    if day.endswith("w"):
        return f"on the last weekday {of}" if day == "31w" else f"on the weekday nearest the {_nth(int(day[:-1]))} {of}"
    days = [int(each) for each in day.split(",")]
    is_everywhere = max(days) <= min(_LENGTHS[month - 1] for month in months)
    if len(days) > _MOST or not (is_everywhere or len(days) == 1):
        return None
    if len(months) == 1:
        year = "every year " if is_everywhere else ""
        return f"{year}on {_listed(map(str, days))} {_listed_months(months)}"
    if not is_everywhere and len(months) < MONTH.size:
        return None
    return f"on the {_listed(map(_nth, days))} {of}" + ("" if is_everywhere else " that has one")


def _weekdays(weekday: str, months: tuple[int, ...]) -> str:
    day, is_nth, nth = weekday.partition("#")
    if is_nth or day.startswith("l"):
        # A fifth one is not in every month.
        that_has = " that has one" if nth == "5" else ""
        which = _nth(int(nth)) if is_nth else "last"
        return f"on the {which} {_WEEKDAYS[int(day.removeprefix('l'))]} of {_listed_months(months)}{that_has}"
    within = "" if len(months) == MONTH.size else f" in {_listed_months(months)}"
    if day in ("1,2,3,4,5", "0,6"):
        return ("on weekdays" if len(day) > len("0,6") else "on weekends") + within
    # A week begins on Monday for those who read it.
    numbers = sorted(map(int, day.split(",")), key=lambda number: (number - 1) % 7)
    return f"on {_listed(f'{_WEEKDAYS[number]}s' for number in numbers)}{within}"


def _listed_months(numbers: tuple[int, ...]) -> str:
    return "every month" if len(numbers) == MONTH.size else _listed(_MONTHS[number - 1] for number in numbers)


def _step(values: tuple[int, ...], size: int) -> int | None:
    """The distance of values that are evenly spread, across the end of the field too."""
    if len(values) == 1 or size % len(values):
        return None
    step = size // len(values)
    return step if values == tuple(range(values[0], size, step)) else None


def _every(count: int, unit: str) -> str:
    return f"every {unit}" if count == 1 else f"every {count} {unit}s"


def _time(hour: int, minute: int, second: int = 0) -> str:
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def _nth(number: int) -> str:
    # 11, 12 and 13 are spoken as one word.
    ending = "th" if number // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
