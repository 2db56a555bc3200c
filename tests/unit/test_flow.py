from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.expressions import parse
from fanout.core.flow import (
    _FRACTION_BITS,
    MAX_KEY_CHARS,
    Verdict,
    batch_due,
    debounced,
    gcra,
    is_full,
    is_sequence,
    key_text,
    keys_of,
    partition,
    rank,
    rate_limit,
    replaces,
    spent_tat,
    throttle,
)
from fanout.model import MAX_LIMIT, BatchRule, DebounceRule, RateLimitRule, ThrottleRule

NOW = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000


# The rate of starts.


class Rate(NamedTuple):
    limit: int
    period_ms: int
    burst: int

    @property
    def interval(self) -> Fraction:
        return Fraction(self.period_ms, self.limit)

    def ask(self, tat: int | None, now: int) -> Verdict:
        return gcra(tat, now, limit=self.limit, period_ms=self.period_ms, burst=self.burst)


class Bucket:
    """The same rule written the other way: I.371's continuous-state leaky bucket, in exact milliseconds.

    It holds what is owed, drains one millisecond in one, and takes another interval if it is not too full. A drain of
    less than a millisecond beyond empty is kept, as the clock tells no shorter time.
    """

    def __init__(self, rate: Rate) -> None:
        self.interval = rate.interval
        self.burst = rate.burst
        self.level = Fraction(0)
        self.at: int | None = None

    def take(self, now: int) -> bool:
        if self.at is not None:
            self.level = min(self.level - (now - self.at), self.burst * self.interval)
        if self.level <= -1:
            self.level = Fraction(0)
        self.at = now
        has_room = self.level <= (self.burst - 1) * self.interval
        if has_room:
            self.level += self.interval
        return has_room


rates = st.builds(Rate, st.integers(1, 50), st.integers(1, 5_000), st.integers(1, 20))
# Mostly near, so that limits are met; some are pauses; those below zero are clocks that were set back.
gaps = st.integers(0, 3) | st.integers(0, 300) | st.integers(0, 20_000)
steps = gaps | st.integers(-20_000, -1) | st.integers(-10, -1)


def instants(gaps: list[int], start: int = NOW) -> list[int]:
    found = [start]
    for gap in gaps:
        found.append(found[-1] + gap)
    return found


def verdicts(rate: Rate, asked_at: list[int]) -> list[Verdict]:
    tat: int | None = None
    found = []
    for now in asked_at:
        found.append(rate.ask(tat, now))
        tat = found[-1].tat
    return found


def starts(rate: Rate, asked_at: list[int]) -> list[int]:
    return [now for now, verdict in zip(asked_at, verdicts(rate, asked_at), strict=True) if verdict.is_allowed]


def busy_starts(rate: Rate, count: int, first: int = NOW) -> list[int]:
    """When runs start of which there are always more: each refusal asks again when it was told to."""
    found: list[int] = []
    tat, now = None, first
    while len(found) < count:
        verdict = rate.ask(tat, now)
        tat, now = verdict.tat, verdict.allowed_at
        if verdict.is_allowed:
            found.append(now)
    return found


@pytest.mark.parametrize(
    ("rate", "asked_at", "allowed"),
    [
        # a burst of 1 is strict spacing: what was refused costs nothing, what was not used is not saved
        (Rate(1, 100, 1), [0, 0, 99, 100, 100, 199, 200], [0, 100, 200]),
        (Rate(2, 100, 1), [0, 49, 50, 99, 100, 1_000, 1_000, 1_050], [0, 50, 100, 1_000, 1_050]),
        # late by a millisecond or more: the next is an interval after it
        (Rate(1, 100, 1), [0, 101, 200, 201], [0, 101, 201]),
        # a burst after a pause, then one an interval
        (Rate(1, 100, 3), [0, 0, 0, 0, 99, 100, 100, 200], [0, 0, 0, 100, 200]),
        (Rate(1, 100, 3), [0, 0, 0, 1_000, 1_000, 1_000, 1_000], [0, 0, 0, 1_000, 1_000, 1_000]),
        (Rate(1, 100, 3), [0, 0, 0, 200, 200, 200], [0, 0, 0, 200, 200]),
        # the whole limit at once
        (Rate(3, 300, 3), [0, 0, 0, 0, 100, 100, 400, 400, 400], [0, 0, 0, 100, 400, 400, 400]),
        # several a millisecond: those that the clock was too coarse for come with its next tick
        (Rate(3, 1, 1), [0, 0, 1, 1, 1, 1], [0, 1, 1, 1]),
        (Rate(3, 1, 2), [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1]),
        (Rate(3, 1, 1), [0, 0, 2, 2, 3, 3, 3, 3], [0, 2, 3, 3, 3]),
    ],
)
def test_who_may_start(rate: Rate, asked_at: list[int], allowed: list[int]) -> None:
    assert starts(rate, [NOW + each for each in asked_at]) == [NOW + each for each in allowed]


def test_a_refusal_says_when_to_ask_again_and_changes_nothing() -> None:
    first = gcra(None, NOW, limit=7, period_ms=1_000, burst=1)
    second = gcra(first.tat, NOW + 1, limit=7, period_ms=1_000, burst=1)
    assert (first.is_allowed, first.allowed_at) == (True, NOW)
    assert second == Verdict(is_allowed=False, tat=first.tat, allowed_at=NOW + 143)


def test_seven_a_second_are_seven_in_every_second() -> None:
    rate = Rate(7, 1_000, 1)
    assert busy_starts(rate, 8, first=0) == [0, 143, 286, 429, 572, 715, 858, 1_000]
    assert busy_starts(rate, 7 * 3_600 + 1)[-1] == NOW + 3_600_000


@given(rates, st.integers(1, 300))
def test_what_is_always_busy_starts_exactly_on_time(rate: Rate, count: int) -> None:
    """Without drift: the n-th start is in the first whole millisecond that may have it, for any n."""
    due = [max(Fraction(0), (number - rate.burst + 1) * rate.interval) for number in range(count)]
    assert busy_starts(rate, count) == [NOW + -(-each.numerator // each.denominator) for each in due]


@given(rates, st.lists(gaps | steps, max_size=60))
def test_it_decides_like_the_leaky_bucket_whatever_the_clock_does(rate: Rate, steps: list[int]) -> None:
    asked_at = instants(steps)
    bucket = Bucket(rate)
    assert [each.is_allowed for each in verdicts(rate, asked_at)] == [bucket.take(now) for now in asked_at]


@given(rates, st.lists(gaps, max_size=60))
def test_no_window_has_more_than_its_burst_and_its_share(rate: Rate, gaps: list[int]) -> None:
    allowed = starts(rate, instants(gaps))
    for (first, start), (last, end) in combinations(enumerate(allowed), 2):
        assert last - first + 1 < rate.burst + (end - start + 1) / rate.interval
    for number, end in enumerate(allowed):  # from the first on to the millisecond
        assert number + 1 <= rate.burst + (end - NOW) / rate.interval


@given(rates, st.lists(st.tuples(gaps, st.integers(-100_000, 0) | st.just(0)), max_size=60))
def test_a_clock_that_steps_back_lets_nothing_more_through(rate: Rate, steps: list[tuple[int, int]]) -> None:
    """Counted in real time, which the rule is never told."""
    real = instants([gap for gap, _ in steps])
    offsets = instants([step for _, step in steps], start=0)
    told = [now + offset for now, offset in zip(real, offsets, strict=True)]
    allowed = [now for now, each in zip(real, verdicts(rate, told), strict=True) if each.is_allowed]
    for (first, start), (last, end) in combinations(enumerate(allowed), 2):
        assert last - first + 1 < rate.burst + (end - start + 1) / rate.interval


@given(rates, st.lists(gaps | steps, max_size=60), st.integers(-(10**13), 10**13))
def test_nobody_waits_longer_than_an_interval_and_the_time_told_is_the_first(
    rate: Rate, steps: list[int], jump: int
) -> None:
    tat = verdicts(rate, instants(steps))[-1].tat
    now = max(0, NOW + jump)
    verdict = rate.ask(tat, now)
    assert now <= verdict.allowed_at < now + rate.interval + 1
    assert verdict.is_allowed == (verdict.allowed_at == now)
    if not verdict.is_allowed:
        assert rate.ask(verdict.tat, verdict.allowed_at).is_allowed
        assert not rate.ask(verdict.tat, verdict.allowed_at - 1).is_allowed


@given(rates, st.lists(gaps | steps, max_size=60))
def test_asking_again_at_once_changes_nothing(rate: Rate, steps: list[int]) -> None:
    asked_at = instants(steps)
    last = verdicts(rate, asked_at)[-1]
    if not last.is_allowed:
        assert rate.ask(last.tat, asked_at[-1]) == last


@given(rates, rates, st.lists(gaps | steps, max_size=60), st.integers(0, 20_000))
def test_a_limit_that_has_been_changed_reads_the_same_time(old: Rate, new: Rate, steps: list[int], later: int) -> None:
    asked_at = instants(steps)
    tat = verdicts(old, asked_at)[-1].tat
    now = asked_at[-1] + later
    owed = Fraction(tat & ((1 << _FRACTION_BITS) - 1), old.limit) + (tat >> _FRACTION_BITS) - now
    tolerance = (new.burst - 1) * new.interval
    if owed > tolerance + 1:
        assert not new.ask(tat, now).is_allowed
    if owed <= tolerance:
        assert new.ask(tat, now).is_allowed
    assert new.ask(tat, now).allowed_at < now + new.interval + 1


@given(rates, st.lists(gaps, max_size=60), gaps)
def test_what_is_spent_is_as_good_as_none(rate: Rate, gaps: list[int], later: int) -> None:
    asked_at = instants(gaps)
    tat = verdicts(rate, asked_at)[-1].tat
    now = asked_at[-1] + later
    if tat <= spent_tat(now):
        kept, forgotten = rate.ask(tat, now), rate.ask(None, now)
        assert (kept.is_allowed, forgotten.is_allowed) == (True, True)
        assert 0 <= forgotten.tat - kept.tat < 1 << _FRACTION_BITS


def test_a_kept_time_fits_the_journal_for_any_declared_rate() -> None:
    assert MAX_LIMIT <= 1 << _FRACTION_BITS
    the_year_2240 = int(datetime(2240, 1, 1, tzinfo=UTC).timestamp() * 1000)
    for limit in (1, MAX_LIMIT):
        rate = Rate(limit, 366 * DAY_MS, limit)
        tat = the_year_2240 + rate.burst * rate.interval
        assert rate.ask(int(tat) << _FRACTION_BITS | limit - 1, the_year_2240).tat < 2**63


def test_a_throttle_is_spaced_and_a_rate_limit_comes_at_once() -> None:
    def answers(ask: Callable[[int | None, int], Verdict]) -> list[int]:
        tat, found = None, []
        for now in range(NOW, NOW + 1_001):
            for _ in range(5):
                verdict = ask(tat, now)
                tat = verdict.tat
                found += [now - NOW] * verdict.is_allowed
        return found

    assert answers(lambda tat, now: throttle(tat, now, ThrottleRule(4, 1_000))) == [0, 250, 500, 750, 1_000]
    assert answers(lambda tat, now: throttle(tat, now, ThrottleRule(2, 1_000, burst=3))) == [0, 0, 0, 500, 1_000]
    assert answers(lambda tat, now: rate_limit(tat, now, RateLimitRule(2, 1_000))) == [0, 0, 500, 1_000]


# Keys.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (2.0**60, "1152921504606846976"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("", '""'),
        ("1", '"1"'),
        ("null", '"null"'),
        ('a "b"\n\x00é', '"a \\"b\\"\\n\\u0000é"'),
        ([1.0, "1", [None]], '[1,"1",[null]]'),
        ({"b": 1.0, "a": [], "": {}}, '{"":{},"a":[],"b":1}'),
        ({2: "b", "2": None, True: 1.0}, '{"2":null,2:"b",true:1}'),
        (b"\x00a", "bytes(0061)"),
        (bytearray(b"\x00a"), "bytes(0061)"),
        (datetime(2024, 6, 1, 12, tzinfo=UTC), "timestamp(2024-06-01T12:00:00+00:00)"),
        (datetime(2024, 6, 1, 14, tzinfo=timezone(timedelta(hours=2))), "timestamp(2024-06-01T12:00:00+00:00)"),
        (timedelta(seconds=1.5), "duration(1500000us)"),
        (timedelta(seconds=-1), "duration(-1000000us)"),
        ("x" * 198, f'"{"x" * 198}"'),
        ("x" * 199, "sha256:29f870946e51a0266ea9b8912e9f50fefca7015bb979e9a4ef320c9d79172ab3"),
    ],
)
def test_a_key_has_one_text(value: Any, text: str) -> None:
    found = key_text(value)
    assert len(found) <= MAX_KEY_CHARS
    assert found == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("event.data.account", '"a-1"'),
        ("event.data.whole", "5"),
        ("event.data.real", "5"),
        ("event.data.missing", "null"),
        ("event.data.nothing", "null"),
        ("[event.data.account, event.data.real]", '["a-1",5]'),
        ('event.data.account + "/" + event.name', '"a-1/app/order.paid"'),
        ("timestamp('2024-06-01T12:00:00Z')", "timestamp(2024-06-01T12:00:00+00:00)"),
        ("duration('90s')", "duration(90000000us)"),
        ("b'ab'", "bytes(6162)"),
        ("type(1)", "Type(INT)"),
        ("event.data", '{"account":"a-1","nothing":null,"real":5,"whole":5}'),
    ],
)
def test_what_an_expression_gives_has_a_text(source: str, text: str) -> None:
    data = {"account": "a-1", "whole": 5, "real": 5.0, "nothing": None}
    assert key_text(parse(source).value(event={"name": "app/order.paid", "data": data})) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def kinds(value: Any) -> Any:
    """The value so that Python's own equality tells what CEL's does: a bool is no number."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return [kinds(each) for each in value]
        case dict():
            return {name: kinds(each) for name, each in value.items()}
        case _:
            return value


@given(json_values, json_values)
def test_keys_are_equal_exactly_when_the_values_are(one: Any, other: Any) -> None:
    assert (key_text(one) == key_text(other)) == (kinds(one) == kinds(other))


def as_floats(value: Any) -> Any:
    match value:
        case list():
            return [as_floats(each) for each in value]
        case dict():
            return {name: as_floats(each) for name, each in reversed(value.items())}
        case int() if not isinstance(value, bool) and float(value) == value:
            return float(value)
        case _:
            return value


@given(json_values)
def test_a_whole_float_and_an_int_are_one_key_however_deep_and_order_is_none(value: Any) -> None:
    assert key_text(as_floats(value)) == key_text(value)
    assert len(key_text(value)) <= MAX_KEY_CHARS


def test_long_values_are_told_apart_by_their_ends() -> None:
    assert len({key_text("x" * 10_000 + end) for end in "abc"} | {key_text(key_text("x" * 10_000 + "a"))}) == 4


# Partitions.


@pytest.mark.parametrize(
    ("keys", "throttle_key", "text"),
    [
        ((), None, ""),
        (("",), None, '["",null]'),
        (('"acme"',), None, '["\\"acme\\"",null]'),
        (("1", "2"), "3", '["1","2","3"]'),
        ((), "3", '["3"]'),
    ],
)
def test_a_partition_is_text_that_people_can_read(keys: tuple[str, ...], throttle_key: str | None, text: str) -> None:
    assert partition(keys, throttle_key) == text
    assert keys_of(text) == (keys, throttle_key)


def test_the_partition_of_a_sequence_is_another_with_the_same_keys() -> None:
    for keys in ((), None), (("1",), "2"):
        text = partition(*keys, is_sequence=True)
        assert (is_sequence(text), is_sequence(partition(*keys))) == (True, False)
        assert keys_of(text) == keys


key_texts = st.text(max_size=20) | json_values.map(key_text)
key_sets = st.tuples(st.lists(key_texts, max_size=3).map(tuple), st.none() | key_texts)


@given(key_sets, key_sets)
def test_a_partition_gives_its_keys_back(
    keys: tuple[tuple[str, ...], str | None], others: tuple[tuple[str, ...], str | None]
) -> None:
    assert keys_of(partition(*keys)) == keys
    assert (partition(*keys) == partition(*others)) == (keys == others)


# The place in the queue.


@pytest.mark.parametrize(
    ("priority_s", "earlier_ms"),
    [
        (0, 0),
        (120, 120_000),
        (-120, -120_000),
        (0.25, 250),
        (600, 600_000),
        (601, 600_000),
        (-601, -600_000),
        (10**400, 600_000),
        (-(10**400), -600_000),
        (float("inf"), 600_000),
        (float("-inf"), -600_000),
        (float("nan"), 0),
        (None, 0),
        (True, 0),
        ("120", 0),
        ([120], 0),
        (timedelta(seconds=120), 0),
    ],
)
def test_a_priority_is_as_if_queued_earlier(priority_s: Any, earlier_ms: int) -> None:
    assert rank(NOW, priority_s) == NOW - earlier_ms


@given(st.integers(-600, 600), st.integers(-600, 600), st.integers(0, 10**7))
def test_a_rank_is_an_order_of_time_and_priority(one: int, other: int, later: int) -> None:
    assert (rank(NOW, one) < rank(NOW + later, other)) == (later > (other - one) * 1_000)


# Debounce and batch, against a walk through every millisecond.


class Came(NamedTuple):
    at: int
    ts: int


arrivals = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=25).map(
    lambda steps: [
        Came(at, ts) for at, (_, ts) in zip(instants([gap for gap, _ in steps], start=0)[1:], steps, strict=True)
    ]
)
debounces = st.builds(
    lambda period, more: DebounceRule(period, timeout_ms=None if more is None else period + more),
    st.integers(1, 15),
    st.none() | st.integers(0, 20),
)
END = 1_000


def debounced_runs(events: list[Came], rule: DebounceRule) -> list[tuple[int, int]]:
    """(when, which event), by the functions: what is due starts before what comes in the same millisecond."""
    runs = []
    first_at, due_at, newest = 0, END, -1
    for number, event in enumerate(events):
        if due_at <= event.at:
            runs.append((due_at, newest))
            newest = -1
        if newest < 0:
            first_at = event.at
        if newest < 0 or replaces(events[newest].ts, event.ts):
            newest = number
        due_at = debounced(first_at, event.at, rule)
    return [*runs, (due_at, newest)]


def walked_debounce(events: list[Came], rule: DebounceRule) -> list[tuple[int, int]]:
    runs = []
    waiting: list[int] = []
    for now in range(END):
        if waiting:
            quiet = now - events[waiting[-1]].at
            waited = now - events[waiting[0]].at
            if quiet == rule.period_ms or waited == rule.timeout_ms:
                runs.append((now, max(waiting, key=lambda number: (events[number].ts, number))))
                waiting = []
        waiting += [number for number, event in enumerate(events) if event.at == now]
    return runs


@given(arrivals, debounces)
def test_a_debounce_is_what_a_walk_through_time_finds(events: list[Came], rule: DebounceRule) -> None:
    assert debounced_runs(events, rule) == walked_debounce(events, rule)


@pytest.mark.parametrize(
    ("first_at", "now", "timeout_ms", "due_at"),
    [
        (0, 0, None, 10),
        (0, 7, None, 17),
        (0, 10_000, None, 10_010),
        (0, 7, 15, 15),
        (0, 5, 15, 15),
        (0, 4, 15, 14),
        (0, 20, 15, 15),  # over already: at once
        (0, 0, 10, 10),
    ],
)
def test_a_debounce_waits_anew_but_not_for_ever(first_at: int, now: int, timeout_ms: int | None, due_at: int) -> None:
    assert debounced(first_at, now, DebounceRule(10, timeout_ms=timeout_ms)) == due_at


@pytest.mark.parametrize(("old_ts", "new_ts", "expected"), [(1, 2, True), (2, 1, False), (1, 1, True)])
def test_the_newest_counts_and_of_two_as_new_the_later(old_ts: int, new_ts: int, expected: bool) -> None:
    assert replaces(old_ts, new_ts) is expected


batches = st.builds(BatchRule, st.integers(1, 6), st.integers(1, 20))


def batched_runs(events: list[Came], rule: BatchRule) -> list[tuple[int, list[int]]]:
    """(when, which events), by the functions: what is due starts before what comes in the same millisecond."""
    runs = []
    batch: list[int] = []
    for number, event in enumerate(events):
        if batch and batch_due(events[batch[0]].at, rule) <= event.at:
            runs.append((batch_due(events[batch[0]].at, rule), batch))
            batch = []
        batch = [*batch, number]
        if is_full(len(batch), rule):
            runs.append((event.at, batch))
            batch = []
    return [*runs, (batch_due(events[batch[0]].at, rule), batch)] if batch else runs


def walked_batches(events: list[Came], rule: BatchRule) -> list[tuple[int, list[int]]]:
    runs: list[tuple[int, list[int]]] = []
    batch: list[int] = []
    for now in range(END):
        if batch and now - events[batch[0]].at == rule.timeout_ms:
            runs.append((now, batch))
            batch = []
        for number, event in enumerate(events):
            if event.at == now:
                batch = [*batch, number]
                if len(batch) == rule.max_size:
                    runs.append((now, batch))
                    batch = []
    return runs


@given(arrivals, batches)
def test_a_batch_is_what_a_walk_through_time_finds(events: list[Came], rule: BatchRule) -> None:
    runs = batched_runs(events, rule)
    assert runs == walked_batches(events, rule)
    assert [number for _, batch in runs for number in batch] == list(range(len(events)))
    assert all(one <= other for (one, _), (other, _) in pairwise(runs))


@pytest.mark.parametrize(("size", "expected"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_batch_is_full_at_its_size(size: int, expected: bool) -> None:
    assert is_full(size, BatchRule(3, 1_000)) is expected
