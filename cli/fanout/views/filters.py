"""What people ask for: times as they write them, and names that are nearly right."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from fanout.durations import parse_duration
from fanout.errors import UsageError
from fanout.journal.filters import fits
from fanout.views import words

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader


def moment(name: str, said: str | None) -> int | None:
    """The time as milliseconds: so long ago, or a date and time, of the local zone if it names none.

    Raises:
        UsageError: it is neither.
    """
    if said is None:
        return None
    try:
        # Before 1970 there was nothing.
        return max(0, words.now() - round(parse_duration(said) * 1000))
    except (ValueError, OverflowError):
        pass
    try:
        return round(datetime.fromisoformat(said).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"`{name} {said}` is no time", hint="write `2h` for two hours ago, or a time like 2025-10-26T02:30"
        ) from None


def near_function(reader: JournalReader, function: str | None) -> str:
    """What to say behind `no such runs` if the code never had the function, as `; did you mean ...?`."""
    known = [each.spec.id for each in reader.functions()]
    if function is None or any(fits(function, id_) for id_ in known):
        return ""
    return words.nearest(function, known)
