"""The time of tests: it stands still, and is moved on."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from fanout.durations import parse_duration
from fanout.errors import UsageError

Span = float | str | timedelta
Moment = datetime | int

_WORDS = {"week": "w", "day": "d", "hour": "h", "minute": "m", "second": "s", "millisecond": "ms"}
_WORD = rf"\s*({'|'.join(_WORDS)})s?\b[\s,]*(?:and\s+)?"


class Clock:
    """Milliseconds UTC. The engine and the steps of a test have this one."""

    def __init__(self, now: Moment | None = None) -> None:
        self.now = time.time_ns() // 1_000_000 if now is None else milliseconds(now)

    def __call__(self) -> int:
        return self.now


def milliseconds(moment: Moment) -> int:
    """A datetime, local if it has no zone, or milliseconds since 1970."""
    return moment if isinstance(moment, int) else round(moment.astimezone(UTC).timestamp() * 1000)


def span_ms(span: Span) -> int:
    """Milliseconds from seconds, a timedelta, or text such as `3 days`, `1 hour 30 minutes` or `1h30m`.

    Raises:
        UsageError: it is no such span.
    """
    try:
        if isinstance(span, timedelta):
            seconds = span.total_seconds()
        else:
            short = re.sub(_WORD, lambda found: _WORDS[found[1]], span) if isinstance(span, str) else span
            seconds = parse_duration(short)
    except ValueError:
        raise UsageError(f"{span!r} is no span of time", hint="write seconds, or `3 days`, or `1h30m`") from None
    if seconds < 0:
        raise UsageError(f"{span!r} is in the past: time only goes on")
    return round(seconds * 1000)
