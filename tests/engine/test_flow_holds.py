"""Runs that are held for more events: which event they start with, when, and with whose keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanout.model import (
    BatchRule,
    CancelRule,
    ConcurrencyRule,
    DebounceRule,
    FlowRules,
    SingletonRule,
    TimeLimits,
)
from fanout.protocol import Start
from tests.engine.conftest import Simulate
from tests.engine.scripts import Function, Part, Sleep, Step, What, event, function
from tests.engine.simulation import Simulation
from tests.engine.test_flow import everywhere, states_by_event
from tests.engine.workers import SimPool

K = "event.data.k"
BUSY = (Step("s"), Sleep(60_000), Step("t"))
HOUR_MS = 3_600_000


def made(*script: Part, cancel_on: tuple[CancelRule, ...] = (), start_ms: int | None = None, **rules: Any) -> Function:
    return function(
        "f", *(script or (Step("s"),)), cancel_on=cancel_on, timeouts=TimeLimits(start_ms=start_ms),
        flow=FlowRules(**rules),
    )  # fmt: skip


def runs(simulation: Simulation) -> list[tuple[object, str, str | None]]:
    """(n of its event, state, reason) of all runs."""
    found = simulation.rows("SELECT data, state, reason FROM run JOIN event ON event = event.key ORDER BY run.key")
    return [(json.loads(data).get("n"), *rest) for data, *rest in found]


def starts(simulation: Simulation) -> list[int]:
    return [entry.at for entry in simulation.entries(What.START)]


def batches(simulation: Simulation) -> list[list[int]]:
    """The numbers of the events with which runs were started."""
    found = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    return [[json.loads(each[3])["n"] for each in start.batch] for start in found]


# When.


def test_the_time_in_the_queue_begins_when_a_run_is_held_no_longer(simulate: Simulate) -> None:
    simulation = simulate(made(debounce=DebounceRule(10_000), start_ms=5_000))
    simulation.run()
    for number in range(5):
        simulation.send(event(n=number))
        simulation.run(for_ms=8_000)
    simulation.request("pause", functions=["f"])
    simulation.run(for_ms=6_000)
    assert runs(simulation) == [(4, "queued", None)]
    simulation.run(for_ms=2_000)
    assert runs(simulation) == [(4, "failed", "timed out")]


def test_the_time_in_the_queue_of_a_full_batch_begins_at_once(simulate: Simulate) -> None:
    simulation = simulate(made(batch=BatchRule(2, HOUR_MS), start_ms=5_000))
    simulation.run()
    simulation.request("pause", functions=["f"])
    simulation.send(event(n=1), event(n=2))
    simulation.run(for_ms=4_000)
    assert runs(simulation) == [(1, "queued", None)]
    simulation.run(for_ms=2_000)
    assert runs(simulation) == [(1, "failed", "timed out")]


def test_a_debounce_waits_no_longer_than_it_may_also_if_there_is_an_event_in_each_tick(simulate: Simulate) -> None:
    simulation = simulate(made(debounce=DebounceRule(1_000, None, 2_500)))
    simulation.run()
    began = simulation.clock()
    for number in range(2_000):
        simulation.send(event(n=number))
        simulation.engine.tick()
        simulation.clock.advance(2)
    assert 2_500 <= starts(simulation)[0] - began < 2_600


@pytest.mark.parametrize("is_first", [True, False])
def test_a_debounced_event_of_the_future_does_not_run_before_its_time(simulate: Simulate, *, is_first: bool) -> None:
    simulation = simulate(made(debounce=DebounceRule(1_000, None, 2_000)))
    simulation.run()
    later = simulation.clock() + HOUR_MS
    for is_later in (is_first, not is_first):
        simulation.send(event(n="later", ts=later) if is_later else event(n="now"))
        simulation.run(for_ms=10)
    simulation.run()
    assert runs(simulation) == [("later", "completed", None)]
    assert starts(simulation) == [later]


@pytest.mark.parametrize("max_size", [2, 5], ids=["full", "not full"])
@pytest.mark.parametrize("future", [0, 1])
def test_a_batch_does_not_run_before_the_time_of_any_of_its_events(
    simulate: Simulate, future: int, max_size: int
) -> None:
    simulation = simulate(made(singleton=SingletonRule(), batch=BatchRule(max_size, 5_000), start_ms=1_000))
    simulation.run()
    later = simulation.clock() + HOUR_MS
    for number in range(2):
        simulation.send(event(n=number, ts=later if number == future else None))
        simulation.run(for_ms=10)
    if max_size == 2:
        # It is complete, and the next event is not for it.
        simulation.send(event(n=2))
        simulation.run(for_ms=10_000)
        assert runs(simulation)[1:] == [(2, "skipped", "singleton")]
    simulation.restart()
    simulation.run()
    assert runs(simulation)[0] == (0, "completed", None)
    assert batches(simulation) == [[0, 1]]
    assert starts(simulation) == [later]


def test_an_event_that_is_a_little_ahead_delays_a_full_batch_by_just_that(simulate: Simulate) -> None:
    simulation = simulate(made(batch=BatchRule(3, 5_000)))
    simulation.run()
    began = simulation.clock()
    for number, ts in enumerate((None, began + 200, None)):
        simulation.send(event(n=number, ts=ts))
        simulation.run(for_ms=10)
    simulation.run()
    assert starts(simulation) == [began + 200]


# Whose keys.


def test_a_debounced_run_has_the_places_of_its_event(simulate: Simulate) -> None:
    most = []

    def watch(pool: SimPool) -> None:
        there = [json.loads(each.start.event[3])["account"] for each in pool.executing() if not each.real.is_parked]
        most.append(there.count("a"))

    simulation = simulate(
        made(
            Step("s", takes_ms=1_000), debounce=DebounceRule(1_000, K),
            concurrency=(ConcurrencyRule(1, "event.data.account"),),
        ),
        processes=2, slots=4, watch=watch,
    )  # fmt: skip
    simulation.run()
    simulation.send(event(k=1, account="x"), event(k=2, account="y"))
    simulation.run(for_ms=100)
    simulation.send(event(k=1, account="a"), event(k=2, account="a"))
    simulation.run()
    assert simulation.rows("SELECT DISTINCT partition FROM run") == [('["\\"a\\"",null]',)]
    assert max(most) == 1


@pytest.mark.parametrize("is_together", [True, False])
@pytest.mark.parametrize("for_ms", [100, 2_000], ids=["while it is held", "when it has begun"])
def test_a_debounced_run_is_cancelled_by_what_its_own_event_says(
    simulate: Simulate, for_ms: int, *, is_together: bool
) -> None:
    simulation = simulate(
        made(*BUSY, cancel_on=(CancelRule("stop", "data.order"),), debounce=DebounceRule(1_000, K)),
    )
    simulation.run()
    for number in (1, 2):
        simulation.send(event(n=f"won-{number}", k=number, order=f"lost-{number}"))
        if not is_together:
            simulation.run(for_ms=100)
        # The last one has no order, so nothing cancels it.
        order: dict[str, Any] = {"order": "won"} if number == 1 else {}
        simulation.send(event(n=f"won-{number}", k=number, **order))
    simulation.run(for_ms=for_ms)
    simulation.send(event("stop", order="lost-1"), event("stop", order="lost-2"))
    simulation.run(for_ms=10)
    assert [state for _, state, _ in runs(simulation)] == ["waiting", "waiting"]
    simulation.send(event("stop", order="won"))
    simulation.run()
    assert runs(simulation) == [("won-1", "cancelled", None), ("won-2", "completed", None)]
    assert simulation.rows("SELECT * FROM wait") == []


def test_idempotency_is_asked_for_the_event_that_a_debounced_run_starts_with(simulate: Simulate) -> None:
    simulation = simulate(made(debounce=DebounceRule(1_000), idempotency="event.data.n"))
    simulation.run()
    simulation.send(event(n="a"))
    simulation.run(for_ms=100)
    for number in ("b", "b", "a"):
        simulation.send(event(n=number))
        simulation.run(for_ms=5_000)
    assert runs(simulation) == [
        ("b", "completed", None),
        ("b", "skipped", 'idempotency on `event.data.n` "b"'),
        ("a", "completed", None),
    ]


@pytest.mark.parametrize("rules", [{"debounce": DebounceRule(1_000)}, {"batch": BatchRule(2, 1_000)}], ids=str)
@pytest.mark.parametrize(
    ("mode", "states"), [("skip", ["completed", "skipped"]), ("cancel", ["cancelled", "completed"])]
)
def test_a_singleton_is_asked_for_when_a_run_is_held_no_longer(
    simulate: Simulate, rules: dict[str, Any], mode: str, states: list[str]
) -> None:
    singleton = SingletonRule(K, mode)  # type: ignore[arg-type]
    simulation = simulate(made(*BUSY, singleton=singleton, **rules))
    simulation.run()
    simulation.send(event(k=1))
    simulation.run(for_ms=2_000)
    simulation.send(event(k=1))
    simulation.run(for_ms=500)
    assert [state for _, state, _ in runs(simulation)] == ["waiting", "waiting"], "one goes on, and one is held"
    simulation.run()
    assert [state for _, state, _ in runs(simulation)] == states
    assert simulation.rows("SELECT count(*) FROM run WHERE hold IS NOT NULL OR due_at IS NOT NULL") == [(0,)]


def test_runs_that_are_let_go_together_are_one_of_a_singleton(simulate: Simulate) -> None:
    simulation = simulate(made(*BUSY, singleton=SingletonRule(), debounce=DebounceRule(1_000, K)))
    simulation.run()
    simulation.send(event(k=1), event(k=2), event(k=3))
    simulation.run()
    assert [state for _, state, _ in runs(simulation)] == ["completed", "skipped", "skipped"]


# What else changes meanwhile.


def test_a_batch_keeps_its_events_when_the_code_has_no_batch_any_more(simulate: Simulate) -> None:
    simulation = simulate(made(batch=BatchRule(10, 5_000)))
    simulation.run()
    simulation.send(event(n=1), event(n=2), event(n=3))
    simulation.run(for_ms=100)
    simulation.restart(made())
    simulation.run()
    assert batches(simulation) == [[1, 2, 3]]


def test_a_batch_that_waits_in_the_queue_keeps_its_events_over_a_restart(simulate: Simulate) -> None:
    simulation = simulate(made(batch=BatchRule(2, 5_000)))
    simulation.run()
    simulation.request("pause", functions=["f"])
    simulation.send(event(n=1), event(n=2))
    simulation.run()
    simulation.restart(made())
    simulation.request("resume", functions=["f"])
    simulation.run()
    assert batches(simulation) == [[1, 2]]


# Whatever crashes.


def test_a_debounced_run_with_all_other_rules_comes_out_the_same_whatever_crashes(simulate: Simulate) -> None:
    f = made(
        *BUSY, cancel_on=(CancelRule("stop", "data.order"),), start_ms=5_000, debounce=DebounceRule(1_000, K),
        singleton=SingletonRule(None, "cancel"), idempotency="event.data.n",
    )  # fmt: skip

    def play(simulation: Simulation) -> None:
        simulation.send(event(k=1, n=1, order=1), event(k=1, n=2, order=2, id="known"))
        simulation.run(for_ms=5_000)
        simulation.send(event(k=2, n=2))
        simulation.run(for_ms=5_000)
        simulation.send(event(k=3, n=3, order=5))
        simulation.run(for_ms=500)
        simulation.send(event(k=3, n=4))
        simulation.run(for_ms=5_000)
        simulation.send(event("stop", order=5), event(id="known", n=9, k=9))
        simulation.run()

    assert everywhere(simulate, f, play, states_by_event) == [
        (2, "cancelled", None), (3, "skipped", "idempotency on `event.data.n` 2"), (5, "completed", None),
    ]  # fmt: skip


def test_a_batch_of_the_future_with_a_singleton_comes_out_the_same_whatever_crashes(simulate: Simulate) -> None:
    f = made(*BUSY, start_ms=5_000, batch=BatchRule(3, 4_000, K), singleton=SingletonRule(K))

    def play(simulation: Simulation) -> None:
        later = simulation.clock() + 30_000
        simulation.send(event(k=1), event(k=1, ts=later), event(k=1))
        simulation.run(for_ms=5_000)
        simulation.send(event(k=1), event(k=2), event(k=2), event(k=2))
        simulation.run()

    def view(simulation: Simulation) -> object:
        return states_by_event(simulation), sorted(simulation.rows("SELECT event FROM run_event"))

    assert everywhere(simulate, f, play, view) == (
        [(1, "completed", None), (4, "skipped", "singleton on `event.data.k` 1"), (5, "completed", None)],
        [(number,) for number in range(1, 8)],
    )
