"""Durations, rates and moments as people write them: refused with a message, or read as what they are written as."""

from __future__ import annotations

import math

import pytest

from fanout.durations import duration, parse_duration, period
from fanout.errors import FanoutError
from fanout.views.filters import moment
from fanout.views.replays import interval_ms
from tests.fuzz.targets.saying import check_words

SEEDS = (
    b"90", b"1.5s", b"250ms", b"1h30m", b"2d", b"1w2d3h4m5s6ms", b"-1s", b"1m1h", b"10/s", b"100/5m", b"0/s", b"1/0s", b"inf",
    b"1e400", b"2026-01-01T00:00:00Z", b"2026-01-01", b"0001-01-01", b"9999-12-31T23:59:59.999999", b"yesterday",
    b"9" * 400 + b"d", b"\xd9\xa1\xd9\xa2s",
)  # fmt: skip
_MOST_S = 10.0**12


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert len(str(error)) < 200  # noqa: PT017 - what is refused is half of what is looked at
    else:
        assert seconds >= 0
        assert math.isfinite(seconds)
        milliseconds = round(min(seconds, _MOST_S) * 1000)
        assert round(parse_duration(duration(milliseconds)) * 1000) == milliseconds
        assert not 0 < milliseconds <= 10**10 or interval_ms(f"1/{period(milliseconds)}", "--rate") == pytest.approx(
            milliseconds
        )
    try:
        assert 0 < interval_ms(text, text[:80]) < 10**15
    except FanoutError as error:
        check_words(error)
    try:
        at = moment("--since", text[:80])
    except FanoutError as error:
        check_words(error)
    else:
        assert at is not None
        assert -(10**15) < at < 10**15
