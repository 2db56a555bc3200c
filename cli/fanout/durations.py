"""Durations as people write them: `250ms`, `1h30m`, `2d`. Seconds inside."""

from __future__ import annotations

import math
import re

_UNITS = {"w": 7 * 86_400.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
# Each unit at most once, the large ones first: `30m1h` and `1h2h` are slips, not durations.
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PARTS = "".join(f"(?:({_NUMBER}){unit})?" for unit in (*_UNITS, "ms"))


def parse_duration(text: str | float) -> float:
    """Seconds, from a number of them or from text such as `90`, `1.5s`, `250ms`, `1h30m`, `2d`, `1w`.

    Raises:
        ValueError: it is no such text, negative, or not finite; the message says so about the value.
    """
    seconds = _seconds_of_text(text) if isinstance(text, str) else _seconds_of_number(text)
    if not math.isfinite(seconds):
        raise ValueError(f"{_shown(text)} is not a finite duration")
    return seconds


def period(milliseconds: int) -> str:
    """What comes behind a slash, as in `10/m` or `10/30s`."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % length == 0:
            number = milliseconds // length
            return unit if number == 1 else f"{number}{unit}"
    return f"{milliseconds}ms"


def duration(milliseconds: int) -> str:
    """The shortest of the texts that `parse_duration` reads as it: `1h30m`, `250ms`."""
    parts, rest = [], milliseconds
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        number, rest = divmod(rest, length)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def _seconds_of_number(number: float) -> float:
    # A bool would pass as 0 or 1, and is always a mistake.
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{number!r} is not a duration: write seconds, or text like `1h30m`")  # noqa: TRY004 - as documented
    if number < 0:
        raise ValueError(f"{_shown(number)} is a negative duration")
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _seconds_of_text(text: str) -> float:
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped):
        return float(stripped)
    parts = re.fullmatch(_PARTS, stripped)
    if not stripped or parts is None:
        raise ValueError(f"{_shown(text)} is not a duration: write it like `500ms`, `30s` or `1h30m`")
    *whole, milliseconds = parts.groups(default="0")
    seconds = sum(float(part) * unit for part, unit in zip(whole, _UNITS.values(), strict=True))
    # Divided, not multiplied by 0.001: 250ms is then exactly 0.25.
    return seconds + float(milliseconds) / 1000


def _shown(value: str | float) -> str:
    """The value for a message, cut short: a slip can be a whole file."""
    try:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
    except ValueError:
        return "the number"  # Python refuses to write out integers of thousands of digits
    return shown if len(shown) <= 40 else f"{shown[:36]}..."  # noqa: PLR2004 - a line's worth
