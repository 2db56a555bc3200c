from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("90", 90.0),
        ("0", 0.0),
        ("  1h ", 3600.0),
        (0, 0.0),
        (90, 90.0),
        (0.5, 0.5),
    ],
)
def test_durations_are_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("soon", '"soon" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("30m1h", '"30m1h" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("1h2h", '"1h2h" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("-1s", '"-1s" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("1e3s", '"1e3s" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("٣s", '"٣s" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("x" * 99, f'"{"x" * 35}... is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        ("9" * 400 + "s", f'"{"9" * 35}... is not a finite duration'),
        (-1, "-1 is a negative duration"),
        (float("inf"), "inf is not a finite duration"),
        (float("nan"), "nan is not a finite duration"),
        (True, "True is not a duration: write seconds, or text like `1h30m`"),
    ],
)
def test_what_is_no_duration_says_why(text: str | float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_duration(text)


def test_a_number_too_long_to_write_out_is_refused_too() -> None:
    with pytest.raises(ValueError, match=r"^the number is a negative duration$"):
        parse_duration(-(10**5000))
    with pytest.raises(ValueError, match=r"^the number is not a finite duration$"):
        parse_duration(10**5000)


@given(st.integers(0, 366 * 86_400_000))
def test_milliseconds_are_exact(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == milliseconds / 1000


@given(st.integers(0, 52), st.integers(0, 6), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_parts_add_up(weeks: int, days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(f"{weeks}w{days}d{hours}h{minutes}m{seconds}s") == expected


@given(st.floats(0, 1e12))
def test_a_number_is_seconds_already(seconds: float) -> None:
    assert parse_duration(seconds) == seconds


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert str(error)  # noqa: PT017 - both outcomes are fine, a third is not
