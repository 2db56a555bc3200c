"""The parts of a list or of lines of JSON as they stand. No more are held than anybody wants to count."""

from __future__ import annotations

from io import BytesIO

import msgspec

MOST_COUNTED = 100_000
_as_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Item:
    """Stands for whatever is in the list."""


class _LongerError(Exception):
    """Enough is known."""


def listed(text: bytes, most: int = MOST_COUNTED) -> list[msgspec.Raw]:
    """The items of this list, which is valid JSON. If there are more than `most`, so many and one: empty ones."""
    if text.count(b",") >= most and _has_more(text, most):
        return [msgspec.Raw()] * (most + 1)
    return _as_raws(text)


def _has_more(text: bytes, most: int) -> bool:
    there, number = _Item(), 0

    def count(_kind: type, _item: object) -> _Item:
        nonlocal number
        number += 1
        if number > most:
            raise _LongerError
        return there

    try:
        msgspec.json.Decoder(list[_Item], dec_hook=count).decode(text)
    except _LongerError:
        return True
    except (msgspec.ValidationError, RecursionError):
        return False  # What is wrong with an item is found when that is looked at.
    return False


def lines_of(text: bytes) -> BytesIO:
    """Each line with its end, a line feed: JSON text may hold all else that `str.splitlines` takes for one."""
    return BytesIO(text)


def counted(number: int) -> str:
    """The number in words, of what has been counted so far and no further."""
    return f"{number:,}" if number <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
