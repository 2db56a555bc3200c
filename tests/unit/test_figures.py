"""Percentiles, slices of time, and levels of bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.figures import levels, percentile, slice_length

DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7], 95, 7),
        ([1, 2], 50, 1),
        ([1, 2, 3], 50, 2),
        (list(range(1, 101)), 95, 95),
        ([1, 9], 100, 9),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[int], percent: int, expected: int | None) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("span_ms", "most", "expected"),
    [(1, 60, 1_000), (60_000, 60, 1_000), (60_001, 60, 2_000), (DAY_MS, 60, 30 * 60_000), (DAY_MS, 150, 10 * 60_000),
     (30 * DAY_MS, 52, DAY_MS)],
)  # fmt: skip
def test_a_slice_is_of_a_length_that_people_count_in(span_ms: int, most: int, expected: int) -> None:
    assert slice_length(span_ms, most) == expected


@given(st.integers(1, 10**13), st.integers(1, 200))
def test_there_are_never_more_slices_than_may_be(span_ms: int, most: int) -> None:
    assert -(-span_ms // slice_length(span_ms, most)) <= most


@given(st.lists(st.integers(0, 10**9)), st.integers(1, 8))
def test_only_nothing_is_at_level_0_and_the_highest_is_at_the_top(values: list[int], number: int) -> None:
    found = levels(values, number)
    assert [level == 0 for level in found] == [value == 0 for value in values]
    assert max(found, default=0) == (number if any(values) else 0)
