from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.retry import TABLE, TABLE_JITTER, delay_ms, next_try
from fanout.model import MAX_RETRIES, Backoff

NOW = 1_700_000_000_000

attempts = st.integers(0, 1_000)
chances = st.floats(0, 1)
seconds = st.floats(0, 366 * 24 * 3600)
# What `declare` lets through, so that no declared policy can overflow at an attempt that it can reach.
backoffs = st.builds(Backoff, initial=seconds, factor=seconds, maximum=seconds, jitter=seconds)
delay_lists = st.lists(seconds, min_size=1, max_size=20).map(tuple)
policies = st.none() | backoffs | delay_lists


def test_the_table_goes_from_15_seconds_to_two_hours_and_stays_there() -> None:
    minutes = [0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 120, 120]
    assert [delay_ms(attempt, None, 0.0) for attempt in range(12)] == [round(each * 60_000) for each in minutes]


@given(attempts, chances)
def test_the_table_is_spread_by_up_to_30_seconds(attempt: int, chance: float) -> None:
    base = TABLE[min(attempt, len(TABLE) - 1)] * 1000
    assert delay_ms(attempt, None, chance) == round(base + 30_000 * chance)
    assert base <= delay_ms(attempt, None, chance) <= base + TABLE_JITTER * 1000


def test_a_backoff_grows_by_its_factor_up_to_its_maximum() -> None:
    policy = Backoff(initial=1, factor=3, maximum=20)
    assert [delay_ms(attempt, policy, 1.0) for attempt in range(5)] == [1_000, 3_000, 9_000, 20_000, 20_000]


def test_jitter_comes_on_top_of_the_maximum() -> None:
    policy = Backoff(initial=10, factor=2, maximum=15, jitter=4)
    assert [delay_ms(1, policy, chance) for chance in (0.0, 0.5, 1.0)] == [15_000, 17_000, 19_000]


def test_a_list_gives_its_delays_and_then_repeats_the_last() -> None:
    assert [delay_ms(attempt, (1, 0.25, 60), 1.0) for attempt in range(5)] == [1_000, 250, 60_000, 60_000, 60_000]


@given(delay_lists, attempts, chances)
def test_a_list_is_not_spread_and_its_last_repeats(delays: tuple[float, ...], attempt: int, chance: float) -> None:
    assert delay_ms(len(delays) - 1 + attempt, delays, chance) == round(delays[-1] * 1000)


@given(st.integers(0, MAX_RETRIES), policies, chances)
def test_a_delay_is_a_whole_number_and_never_negative(
    attempt: int, policy: Backoff | tuple[float, ...] | None, chance: float
) -> None:
    delay = delay_ms(attempt, policy, chance)
    assert type(delay) is int
    assert delay >= 0


@given(st.integers(0, MAX_RETRIES), backoffs, chances)
def test_a_backoff_stays_below_its_maximum_and_jitter(attempt: int, policy: Backoff, chance: float) -> None:
    assert delay_ms(attempt, policy, chance) <= round((policy.maximum + policy.jitter) * 1000) + 1


@given(st.integers(0, 10_000), st.floats(1, 1_000), seconds, seconds)
def test_without_jitter_a_backoff_that_grows_never_shrinks(
    attempt: int, factor: float, initial: float, maximum: float
) -> None:
    policy = Backoff(initial=initial, factor=factor, maximum=maximum)
    assert delay_ms(attempt, policy, 0.5) <= delay_ms(attempt + 1, policy, 0.5)


@pytest.mark.parametrize(
    ("attempt", "is_retriable", "retry_after_ms", "override_ms", "expected"),
    [
        # attempts 0, 1 and 2 are all that a run with three has
        (0, True, None, None, NOW + 7_000),
        (1, True, None, None, NOW + 7_000),
        (2, True, None, None, None),
        (9, True, None, None, None),
        # not retriable: never, whatever else is said
        (0, False, None, None, None),
        (0, False, 5_000, 1_000, None),
        # the code's own wish, then development's, then the policy
        (0, True, 5_000, 1_000, NOW + 5_000),
        (0, True, 5_000, None, NOW + 5_000),
        (0, True, None, 1_000, NOW + 1_000),
        (0, True, 0, 1_000, NOW),
        (0, True, None, 0, NOW),
        # a wish gives no attempt more
        (2, True, 5_000, 1_000, None),
    ],
)
def test_next_try(
    attempt: int, is_retriable: bool, retry_after_ms: int | None, override_ms: int | None, expected: int | None
) -> None:
    assert expected == next_try(
        attempt,
        3,
        is_retriable=is_retriable,
        retry_after_ms=retry_after_ms,
        policy=(7.0,),
        override_ms=override_ms,
        now=NOW,
        random=0.5,
    )
