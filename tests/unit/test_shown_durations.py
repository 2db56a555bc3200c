"""Durations written so that they can be read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.durations import duration, parse_duration, period


@given(st.integers(0, 366 * 86_400_000))
def test_what_is_written_reads_as_the_same(milliseconds: int) -> None:
    assert round(parse_duration(duration(milliseconds)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "shown", "behind_a_slash"),
    [
        (250, "250ms", "250ms"),
        (30_000, "30s", "30s"),
        (60_000, "1m", "m"),
        (90_000, "1m30s", "90s"),
        (3_600_000, "1h", "h"),
        (5_400_000, "1h30m", "90m"),
        (86_400_000, "1d", "d"),
    ],
)
def test_how_they_look(milliseconds: int, shown: str, behind_a_slash: str) -> None:
    assert (duration(milliseconds), period(milliseconds)) == (shown, behind_a_slash)
