"""Cron expressions and zones: refused, or ticks that go on and go back in order.

Three lines: the expression, the zone, and the second from which to look.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fanout.core import cron
from fanout.errors import CronError
from tests.fuzz.targets.saying import check_words

SEEDS = (
    b"*/15 * * * *\nEurope/Berlin\n1761440000", b"30 2 * * *\nAmerica/New_York\n1762000000", b"0 0 29 2 1\nUTC\n0",
    b"H H(2-5) * * MON-FRI\nAsia/Kolkata\n1", b"0 0 0 L * *\nAustralia/Lord_Howe\n1700000000", b"@daily\n\n5",
    b"0 9 15W * *\nPacific/Apia\n1325200000", b"0 9 * * 5#3\nAfrica/Casablanca\n1700000000", b"5-1 * * * *\nX/Y\n",
    b"*/61 * * * *\n../../etc/passwd\n", b"@fortnightly\nUTC\n", b"R * * * *\nUTC\n", b"0 0 31 2 *\nUTC\n", b"0 0 * * L5\nUTC\n7",
)  # fmt: skip
_LAST = 4_000_000_000


def check(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n", 2)
    expression, zone, second = (*lines, "", "")[:3]
    try:
        schedule = cron.parse(expression, zone or "UTC", seed="f")
    except CronError as error:
        check_words(error)
        return
    at = int(second) % _LAST if second.isascii() and second.isdecimal() and len(second) < 20 else 1_700_000_000
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    first = cron.next_after(schedule, instant)
    assert first > instant
    assert first.tzinfo is UTC
    second_ = cron.next_after(schedule, first)
    assert second_ > first
    # Nothing between: seen from the other side it is the same tick.
    assert cron.latest_at_or_before(schedule, first) == first
    assert cron.latest_at_or_before(schedule, second_ - timedelta(microseconds=1)) == first
    assert cron.latest_at_or_before(schedule, instant) <= instant
