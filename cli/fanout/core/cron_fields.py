"""The fields of a cron expression: a text becomes the values that each allows, or an error that says what to write.

The grammar is ours, narrower than croniter's, which runs `5-1` around the end, takes `5-5` and `*/61` for `*`, rolls
dice for `R`, makes `@daily` a random hour of the day as soon as it is given an id, and draws 240 minutes of the day
for `H H`, not 1,440. It knows no calendar, no zone and no clock.
"""

from __future__ import annotations

import difflib
import re
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from fanout.errors import CronError

MAX_CHARS = 500

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_SHOWN_CHARS = 80
_ITEM = re.compile(r"(?:(?P<star>\*)|(?P<first>[0-9A-Z]+)(?:-(?P<last>[0-9A-Z]+))?)(?:/(?P<step>[0-9]{1,4}))?")
_HASHED = re.compile(r"H(?:\((?P<low>[0-9A-Z]+)-(?P<high>[0-9A-Z]+)\))?(?:/(?P<step>[0-9]{1,4}))?")
_RANDOM = re.compile(r"R(?:\(.*\))?(?:/[0-9]*)?")
_ZONE_PREFIX = re.compile(r"(?:CRON_)?TZ=(?P<zone>\S*)\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


class Unit(NamedTuple):
    """What a field counts, from `low` to `high`, and the three-letter words for some of it."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.high - self.low + 1


SECOND = Unit("second", 0, 59)
MINUTE = Unit("minute", 0, 59)
HOUR = Unit("hour", 0, 23)
DAY = Unit("day of month", 1, 31)
MONTH = Unit("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"))
WEEKDAY = Unit("day of week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
UNITS = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)

_DAY_THAT_ALL_MONTHS_HAVE = 28
_SUNDAY_TOO = 7


class Field(msgspec.Struct, frozen=True):
    """What one field allows: `values`, sorted, and days that are another number each month.

    `movable` has them as croniter writes them: `l` is the last day, `15w` the Monday to Friday nearest the 15th,
    `l5` the last Friday, `5#2` the second. `is_star`: it was written with a star in front, which is what Debian's
    cron goes by where it tells a time of the day from a rhythm, and "and" from "or" among the days. `H/15` is a
    `*/15` that begins elsewhere, so it is one too.
    """

    values: tuple[int, ...]
    movable: tuple[str, ...] = ()
    is_star: bool = False


class Fields(msgspec.Struct, frozen=True):
    """A whole expression; `second` is None where there are five fields."""

    second: Field | None
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field


def read(expression: str, seed: str) -> Fields:
    """The fields of an expression: five, or six with the seconds in front, as Quartz and Spring have it.

    `H` is a number that `seed` decides, the same in each process, on each machine and for ever.

    Raises:
        CronError: it is not in the accepted syntax. Whether it can ever tick is not asked here.
    """
    text = expression.strip()
    try:
        if len(text) > MAX_CHARS:
            raise CronError(f"it has {len(text):,} characters, and {MAX_CHARS} are the most")  # noqa: TRY301 - told with the rest
        return _fields(ALIASES.get(text.lower(), text), seed)
    except CronError as error:
        message = f"`{shown(text)}` is not a cron expression: {error.message}"
        raise CronError(message, hint=error.hint) from None


def shown(text: str) -> str:
    """The text on one line, printable and cut short, for a message."""
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 1]}…"


def _fields(text: str, seed: str) -> Fields:
    if text.startswith("@"):
        raise _unknown_alias(shown(text).lower())
    if zoned := _ZONE_PREFIX.fullmatch(text):
        hint = f'it is an argument: `cron("{shown(zoned["rest"])}", tz="{shown(zoned["zone"])}")`'
        raise CronError("the zone is not part of it", hint=hint)
    texts = text.split()
    if len(texts) not in (5, 6):
        raise CronError(
            f"it has {len(texts)} field{'s' if len(texts) != 1 else ''}, not 5 or 6",
            hint="minute, hour, day of month, month, day of week; seconds are a sixth, in front; there are no years",
        )
    units = UNITS[-len(texts) :]
    parsed = [_field(each, unit, seed) for each, unit in zip(texts, units, strict=True)]
    second = parsed.pop(0) if len(texts) == len(UNITS) else None
    return Fields(second, *parsed)


def _unknown_alias(alias: str) -> CronError:
    if alias == "@reboot":
        return CronError("a start is no tick", hint="let what starts the engine send an event: `fanout send`")
    near = difflib.get_close_matches(alias, ALIASES, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "there are " + ", ".join(f"`{name}`" for name in ALIASES)
    return CronError(f"`{alias}` is unknown", hint=hint)


def _field(text: str, unit: Unit, seed: str) -> Field:
    if text == "?" and unit in (DAY, WEEKDAY):
        text = "*"  # as Quartz writes the one that is left open
    values: set[int] = set()
    movable: list[str] = []
    for item in text.split(","):
        try:
            found = _movable(item.upper(), unit)
            if found is None:
                values.update(value % 7 if unit is WEEKDAY else value for value in _values(item.upper(), unit, seed))
            elif found not in movable:
                movable.append(found)
        except CronError as error:
            raise CronError(f"{unit.name} `{shown(item)}` {error.message}", hint=error.hint) from None
    return Field(tuple(sorted(values)), tuple(movable), is_star=text.upper().startswith(("*", "H/")))


def _movable(item: str, unit: Unit) -> str | None:
    """The word of croniter's for a day that is another number each month, or None if the item is no such day."""
    if unit is DAY:
        return _movable_day(item)
    return _movable_weekday(item) if unit is WEEKDAY else None


def _movable_day(item: str) -> str | None:
    if item == "L":
        return "l"
    if item == "LW":
        return "31w"  # croniter takes a month's last day where there is no 31st
    nearest = re.fullmatch(r"([0-9]{1,2})W", item)
    if nearest is None:
        return None
    if not 1 <= int(nearest[1]) <= _DAY_THAT_ALL_MONTHS_HAVE:
        raise CronError("is not in every month", hint="`LW` is the last Monday to Friday of a month")
    return f"{int(nearest[1])}w"


def _movable_weekday(item: str) -> str | None:
    if last := re.fullmatch(r"([0-9]|[A-Z]{3})L", item):
        return f"l{_number(last[1], WEEKDAY) % 7}"
    if nth := re.fullmatch(r"([0-9]|[A-Z]{3})#([0-9]+)", item):
        if nth[2] not in ("1", "2", "3", "4", "5"):
            raise CronError("is in no month", hint="there are five of a day at most, `#1` to `#5`")
        return f"{_number(nth[1], WEEKDAY) % 7}#{nth[2]}"
    if re.fullmatch(r"L([0-9]|[A-Z]{3})", item):
        raise CronError("is unknown", hint=f"the last one of a month is `{item[1:]}L`")
    return None


def _values(item: str, unit: Unit, seed: str) -> range:
    """The numbers that one item of a list allows; Sunday may be a 7."""
    if hashed := _HASHED.fullmatch(item):
        return _spread(unit, seed, hashed)
    if _RANDOM.fullmatch(item):
        hint = f"`H{item[1:]}` is spread by the function's id, and stays"
        raise CronError("would be another number after each start", hint=hint)
    parts = _ITEM.fullmatch(item)
    if parts is None:
        raise CronError("is unknown" if item else "is empty")
    step = _step(unit, parts["step"])
    if parts["star"]:
        return range(unit.low, unit.high + 1, step)
    first = _number(parts["first"], unit)
    if parts["last"]:
        return _between(unit, first, parts["last"], step)
    if parts["step"]:
        return range(first % 7 if unit is WEEKDAY else first, unit.high + 1, step)
    return range(first, first + 1)


def _between(unit: Unit, first: int, last_text: str, step: int) -> range:
    last = _number(last_text, unit)
    if last_text == "SUN" and first > 0:
        last = _SUNDAY_TOO  # the week of `FRI-SUN` ends with it
    if first > last:
        raise CronError("runs backwards", hint=_forwards(unit, first, last) if step == 1 else None)
    return range(first, last + 1, step)


def _forwards(unit: Unit, first: int, last: int) -> str:
    """What to write for a range that runs around the end, and was perhaps meant to."""
    if unit is WEEKDAY and last == 0:
        return f"write `{first}-{_SUNDAY_TOO}`"
    if unit is WEEKDAY and first == _SUNDAY_TOO:
        return f"write `0-{last}`"
    runs = ((first, unit.high), (unit.low, last))
    return "write `" + ",".join(f"{low}-{high}" if low < high else f"{low}" for low, high in runs) + "`"


def _spread(unit: Unit, seed: str, asked: re.Match[str]) -> range:
    """`H`, `H(1-5)`, `H/15`: a number, or the first of a rhythm, that looks random and is decided by `seed`."""
    low, high = unit.low, unit.high
    if unit is DAY and not asked["step"]:
        high = _DAY_THAT_ALL_MONTHS_HAVE  # else some functions would have no tick in February, or in five months
    if asked["low"]:
        low, high = _number(asked["low"], unit), _number(asked["high"], unit)
        if low > high:
            raise CronError("runs backwards")
    step = _step(unit, asked["step"])
    choices = min(step, high - low + 1) if asked["step"] else high - low + 1
    # The unit is hashed with it, so that minute and hour are independent; seed and unit can't run into each other.
    digest = blake2b(f"{unit.name}\0{seed}".encode(), digest_size=8).digest()
    start = low + int.from_bytes(digest, "big") % choices
    return range(start, high + 1, step) if asked["step"] else range(start, start + 1)


def _step(unit: Unit, text: str | None) -> int:
    step = int(text or "1")
    if step == 0:
        raise CronError("has a step of 0")
    if step > unit.size:
        raise CronError(f"has a step beyond the {unit.size} values there are")
    return step


def _number(text: str, unit: Unit) -> int:
    if text in unit.words:
        return unit.words.index(text) + unit.low
    high = _SUNDAY_TOO if unit is WEEKDAY else unit.high
    if not re.fullmatch(r"[0-9]{1,4}", text) or not unit.low <= int(text) <= high:
        words = f" or {unit.words[0]}-{unit.words[-1]}" if unit.words else ""
        raise CronError(f"is not in {unit.low}-{high}{words}")
    return int(text)
