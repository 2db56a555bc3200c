"""When the runs of a throttled queue may start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.core import flow
from fanout.model import ThrottleRule

NOW = 1_760_000_000_000
rules = st.builds(ThrottleRule, limit=st.integers(1, 50), period_ms=st.integers(1, 100_000), burst=st.integers(1, 5))


@given(rules, st.integers(0, 8), st.integers(0, 8), st.integers(0, 200_000))
def test_it_is_when_those_before_it_have_started_as_early_as_they_may(
    rule: ThrottleRule, before: int, ahead: int, later: int
) -> None:
    tat, now = None, NOW
    for _ in range(before):
        verdict = flow.throttle(tat, now, rule)
        tat = verdict.tat
    now += later
    foretold = flow.throttled_until(tat, now, rule, ahead)
    for _ in range(ahead):
        tat, now = start(tat, now, rule)
    verdict = flow.throttle(tat, now, rule)
    # A start in the first millisecond in which it may counts as in time, so the fraction may add up to one.
    assert abs((now if verdict.is_allowed else verdict.allowed_at) - foretold) <= 1


def start(tat: int | None, now: int, rule: ThrottleRule) -> tuple[int, int]:
    verdict = flow.throttle(tat, now, rule)
    if not verdict.is_allowed:
        now = verdict.allowed_at
        verdict = flow.throttle(verdict.tat, now, rule)
    return verdict.tat, now


def test_nobody_ahead_and_nothing_started_yet_is_now() -> None:
    assert flow.throttled_until(None, NOW, ThrottleRule(limit=6, period_ms=60_000), 0) == NOW


def test_the_intervals_add_up() -> None:
    rule = ThrottleRule(limit=6, period_ms=60_000)
    tat = flow.throttle(None, NOW, rule).tat
    assert [flow.throttled_until(tat, NOW, rule, ahead) - NOW for ahead in range(3)] == [10_000, 20_000, 30_000]
