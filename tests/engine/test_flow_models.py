"""Flow control in the whole engine, on a real journal, against models that try every moment; restarts forget nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.model import BatchRule, DebounceRule, FlowRules, RateLimitRule, ThrottleRule
from tests.engine.gcra import Gcra
from tests.engine.scripts import Step, What, event, function
from tests.engine.simulation import Simulation

K = "event.data.k"
GRID_MS = 50
"""Events come at multiples of it, and times are over in between; a new engine knows the code before the next."""
HALF_MS = GRID_MS // 2
ROUTED_TO = "SELECT value FROM meta WHERE name = 'routed_to'"
few = settings(max_examples=30)


class Came(NamedTuple):
    """An event: so many steps of the grid after the one before, perhaps to a new engine."""

    gap: int
    key: str
    age: int
    is_to_new_engine: bool


class Sent(NamedTuple):
    at: int
    ts: int
    number: int


class Started(NamedTuple):
    at: int
    number: int


arrivals = st.lists(
    st.builds(
        Came, st.integers(0, 2) | st.integers(0, 12), st.sampled_from("aab"), st.integers(0, 4), st.integers(0, 5).map(lambda n: n == 0)
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


def grid(least: int, most: int) -> st.SearchStrategy[int]:
    """Durations that end between two events."""
    return st.integers(least, most).map(lambda number: number * GRID_MS + HALF_MS)


@contextmanager
def played(came: list[Came], rules: FlowRules) -> Iterator[tuple[Simulation, dict[str, list[Sent]]]]:
    """All is over. What was sent of each key, in order; times are milliseconds since the first engine was ready."""
    with TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder), function("f", Step("s"), flow=rules), processes=2, slots=40)
        simulation.run()
        simulation.run(for_ms=-simulation.clock() % GRID_MS)
        sent: dict[str, list[Sent]] = {}
        for number, each in enumerate(came):
            if each.gap:
                simulation.run(for_ms=each.gap * GRID_MS)
            if each.is_to_new_engine:
                simulation.restart()
                simulation.run(for_ms=GRID_MS)
            now = simulation.clock()
            ts = now - each.age * 60
            simulation.send(event(k=each.key, n=number, ts=ts))
            while simulation.rows("SELECT max(key) FROM event") != simulation.rows(ROUTED_TO):
                simulation.tick()
            sent.setdefault(each.key, []).append(Sent(now, ts, number))
        simulation.run()
        yield simulation, sent
        simulation.close()


def started(simulation: Simulation) -> dict[str, list[Started]]:
    """When the runs of each key began, and with the number of which event."""
    found = simulation.rows("SELECT run.id, data FROM run JOIN event ON event = event.key")
    events = {run: json.loads(data) for run, data in found}
    starts: dict[str, list[Started]] = {}
    seen: set[str] = set()
    for entry in simulation.entries(What.START):
        if entry.run not in seen:
            seen.add(entry.run)
            starts.setdefault(events[entry.run]["k"], []).append(Started(entry.at, events[entry.run]["n"]))
    return starts


# Rates.


@few
@given(arrivals, st.integers(1, 4), st.integers(1, 400))
def test_a_rate_limit_is_gcra_over_restarts(came: list[Came], limit: int, interval_ms: int) -> None:
    rule = RateLimitRule(limit, limit * interval_ms, K)
    with played(came, FlowRules(rate_limit=rule)) as (simulation, sent):
        states = dict(simulation.rows("SELECT event - 1, state FROM run"))
    for events in sent.values():
        reference = Gcra(interval_ms, limit)
        expected = ["completed" if reference.allows(each.at) else "skipped" for each in events]
        assert [states[each.number] for each in events] == expected


def first_possible(arrived: list[int], reference: Gcra) -> list[int]:
    """One after the other, each in the first millisecond in which it may."""
    now, starts = 0, []
    for at in arrived:
        now = max(now, at)
        while not reference.allows(now):
            now += 1
        starts.append(now)
    return starts


@few
@given(arrivals, st.integers(1, 3), st.integers(1, 3), st.integers(1, 200))
def test_a_throttle_is_gcra_and_first_in_first_out(came: list[Came], limit: int, burst: int, interval_ms: int) -> None:
    rule = ThrottleRule(limit, limit * interval_ms, min(burst, limit), K)
    quiet = [each._replace(is_to_new_engine=False) for each in came]
    with played(quiet, FlowRules(throttle=rule)) as (simulation, sent):
        starts = started(simulation)
    for key, events in sent.items():
        times = first_possible([each.at for each in events], Gcra(interval_ms, rule.burst))
        assert starts[key] == [Started(at, each.number) for at, each in zip(times, events, strict=True)]


@few
@given(arrivals, st.integers(1, 3), st.integers(1, 3), st.integers(1, 200))
def test_a_throttle_is_kept_over_restarts(came: list[Came], limit: int, burst: int, interval_ms: int) -> None:
    """A permit may be lost with an engine, and then all are later; nothing is earlier, and none is left out."""
    rule = ThrottleRule(limit, limit * interval_ms, min(burst, limit), K)
    with played(came, FlowRules(throttle=rule)) as (simulation, sent):
        starts = started(simulation)
    for key, events in sent.items():
        reference = Gcra(interval_ms, rule.burst)
        assert all(reference.allows(each.at) for each in starts[key])
        assert [each.number for each in starts[key]] == [each.number for each in events]


# Runs that wait for more events.


def debounced(events: list[Sent], rule: DebounceRule) -> list[Started]:
    starts: list[Started] = []
    waiting: list[Sent] = []
    for now in range(events[0].at, events[-1].at + rule.period_ms + 1):
        if waiting and (now == waiting[-1].at + rule.period_ms or now - waiting[0].at == rule.timeout_ms):
            starts.append(Started(now, max(waiting, key=lambda each: (each.ts, each.number)).number))
            waiting = []
        waiting += [each for each in events if each.at == now]
    assert not waiting
    return starts


@few
@given(arrivals, grid(0, 6), st.none() | grid(0, 9))
def test_a_debounce_is_a_walk_through_time_over_restarts(
    came: list[Came], period_ms: int, timeout_ms: int | None
) -> None:
    rule = DebounceRule(period_ms, K, None if timeout_ms is None else max(period_ms, timeout_ms))
    with played(came, FlowRules(debounce=rule)) as (simulation, sent):
        assert started(simulation) == {key: debounced(events, rule) for key, events in sent.items()}


def batched(events: list[Sent], rule: BatchRule) -> list[tuple[int, list[int]]]:
    starts: list[tuple[int, list[int]]] = []
    batch: list[Sent] = []
    for now in range(events[0].at, events[-1].at + rule.timeout_ms + 1):
        if batch and now == batch[0].at + rule.timeout_ms:
            starts.append((now, [each.number for each in batch]))
            batch = []
        for each in (each for each in events if each.at == now):
            batch.append(each)
            if len(batch) == rule.max_size:
                starts.append((now, [each.number for each in batch]))
                batch = []
    assert not batch
    return starts


@few
@given(arrivals, st.integers(1, 5), grid(0, 9))
def test_a_batch_is_a_walk_through_time_over_restarts(came: list[Came], max_size: int, timeout_ms: int) -> None:
    rule = BatchRule(max_size, timeout_ms, K)
    with played(came, FlowRules(batch=rule)) as (simulation, sent):
        starts = started(simulation)
        batches: dict[int, list[int]] = {}
        for run, number in simulation.rows("SELECT run, event - 1 FROM run_event ORDER BY run, position"):
            batches.setdefault(run, []).append(number)
    of_first = {numbers[0]: numbers for numbers in batches.values()}
    for key, events in sent.items():
        assert [(each.at, of_first[each.number]) for each in starts[key]] == batched(events, rule)
