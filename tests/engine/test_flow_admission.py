"""What becomes of an event that several rules have a say in, or that has come before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from fanout.model import (
    BatchRule,
    CronTrigger,
    DebounceRule,
    EventTrigger,
    FlowRules,
    Overlap,
    RateLimitRule,
    SingletonRule,
)
from fanout.protocol import Start
from tests.engine.conftest import Simulate
from tests.engine.scripts import FAIL, FATAL, Body, Function, Invoke, Map, Part, Sleep, Step, event, function, items
from tests.engine.simulation import Simulation

K = "event.data.k"
MINUTE = "* * * * *"
BUSY = (Step("s"), Sleep(60_000), Step("t"))
HOUR_MS = 3_600_000


def made(*script: Part, on: Sequence[str] = ("e",), cron: tuple[CronTrigger, ...] = (), **rules: Any) -> Function:
    return function("f", *(script or (Step("s"),)), on=on, cron=cron, flow=FlowRules(**rules))


def listening(id_: str, name: str, if_: str) -> Function:
    plain = function(id_, Step("l"))
    return Function(msgspec.structs.replace(plain.spec, triggers=(EventTrigger(name, if_),)), plain.script)


def states(simulation: Simulation, function_id: str = "f") -> list[str]:
    return [state for (state,) in simulation.rows("SELECT state FROM run WHERE function = ? ORDER BY key", function_id)]


def ran(simulation: Simulation, name: str) -> list[object]:
    """The value at this name in the events of the runs that have completed."""
    done = simulation.rows(
        "SELECT data FROM run JOIN event ON event = event.key WHERE state = 'completed' ORDER BY run.key"
    )
    return [json.loads(data).get(name) for (data,) in done]


def live(simulation: Simulation) -> int:
    ((number,),) = simulation.rows("SELECT count(*) FROM run WHERE function = 'f' AND ended_at IS NULL")
    return int(number)


# Singleton and idempotency.


def test_an_event_that_is_a_repetition_cancels_nothing(simulate: Simulate) -> None:
    simulation = simulate(made(*BUSY, singleton=SingletonRule(K, "cancel"), idempotency="event.data.order"))
    simulation.run()
    simulation.send(event(k="u", order=1))
    simulation.run(for_ms=1_000)
    simulation.send(event(k="u", order=1))
    simulation.run()
    assert states(simulation) == ["completed", "skipped"]


def test_of_equal_events_that_come_together_the_first_has_its_run(simulate: Simulate) -> None:
    simulation = simulate(made(singleton=SingletonRule(None, "cancel"), idempotency="event.data.order"))
    simulation.run()
    simulation.send(event(order=1), event(order=1))
    simulation.run()
    assert states(simulation) == ["completed", "skipped"]


@pytest.mark.parametrize(
    ("step_ms", "expected"), [(-5, "skipped"), (-23 * HOUR_MS, "skipped"), (-25 * HOUR_MS, "completed")]
)
def test_a_key_counts_once_also_when_the_clock_steps_back(simulate: Simulate, step_ms: int, expected: str) -> None:
    simulation = simulate(made(idempotency=K))
    simulation.run()
    simulation.send(event(k=1))
    simulation.run()
    simulation.clock.advance(step_ms)
    simulation.restart()
    simulation.send(event(k=1))
    simulation.run()
    assert states(simulation) == ["completed", expected]


@pytest.mark.parametrize("mode", ["skip", "cancel"])
def test_an_invoked_run_is_not_refused_and_is_the_live_one_for_events(simulate: Simulate, mode: str) -> None:
    singleton = SingletonRule(None, mode)  # type: ignore[arg-type]
    simulation = simulate(function("p", Map("f", items(of=3)), on=["p"]), made(*BUSY, singleton=singleton), processes=2)
    simulation.run()
    simulation.send(event("p"))
    simulation.run(for_ms=1_000)
    assert live(simulation) == 3
    simulation.send()
    simulation.run(for_ms=1_000)
    assert live(simulation) == {"skip": 3, "cancel": 1}[mode]
    simulation.run()
    assert states(simulation) == (
        ["completed"] * 3 + ["skipped"] if mode == "skip" else ["cancelled"] * 3 + ["completed"]
    )


def test_a_replay_is_the_live_run_for_events(simulate: Simulate) -> None:
    simulation = simulate(made(*BUSY, singleton=SingletonRule()))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=100)
    simulation.cancel(1)
    simulation.run()
    simulation.replay(1)
    simulation.run(for_ms=100)
    simulation.send()
    simulation.run()
    assert states(simulation) == ["cancelled", "completed", "skipped"]


@pytest.mark.parametrize("mode", ["skip", "cancel"])
def test_a_singleton_holds_between_ticks_and_events(simulate: Simulate, mode: str) -> None:
    """Also with a key that is the same for both."""
    singleton = SingletonRule("event.data.k", mode)  # type: ignore[arg-type]
    timed = made(Step("s"), Sleep(90_000), Step("t"), cron=(CronTrigger(MINUTE),), singleton=singleton)
    simulation = simulate(timed)
    simulation.run()
    simulation.clock.advance(60_000 - simulation.clock() % 60_000 + 1_000)
    simulation.run(for_ms=1_000)
    simulation.send(event(k=7))
    simulation.send()
    simulation.run(for_ms=1_000)
    assert states(simulation) == (
        ["waiting", "waiting", "skipped"] if mode == "skip" else ["cancelled", "waiting", "waiting"]
    )
    simulation.clock.advance(60_000)
    simulation.run(for_ms=1_000)
    assert states(simulation)[3:] == (["skipped"] if mode == "skip" else ["waiting"])
    assert live(simulation) == 2


@pytest.mark.parametrize("mode", ["skip", "cancel"])
@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.SKIP, ["completed", "skipped"]),
        (Overlap.CANCEL, ["cancelled", "cancelled"]),
        (Overlap.QUEUE, ["completed", "completed"]),
    ],
)
def test_among_ticks_overlap_decides_and_not_the_singleton(
    simulate: Simulate, overlap: Overlap, expected: list[str], mode: str
) -> None:
    timed = function(
        "f", Step("s"), Sleep(90_000), Step("t"), on=(), cron=(CronTrigger(MINUTE),), overlap=overlap,
        flow=FlowRules(singleton=SingletonRule(None, mode)),  # type: ignore[arg-type]
    )  # fmt: skip
    simulation = simulate(timed)
    simulation.run()
    for _ in range(5):
        simulation.clock.advance(60_000 - simulation.clock() % 60_000)
        simulation.run(for_ms=50_000)
    assert states(simulation)[:2] == expected


def test_ticks_are_not_for_rate_limit_debounce_batch_and_idempotency(simulate: Simulate) -> None:
    cron = (CronTrigger(MINUTE),)
    for rules in (
        {"rate_limit": RateLimitRule(1, 24 * HOUR_MS), "debounce": DebounceRule(HOUR_MS), "idempotency": K},
        {"batch": BatchRule(10, HOUR_MS)},
    ):
        simulation = simulate(made(on=(), cron=cron, **rules))
        simulation.run()
        for _ in range(3):
            simulation.clock.advance(60_000)
            simulation.run(for_ms=1_000)
        assert states(simulation) == ["completed"] * 3


# Events that have come before.


def test_an_event_of_a_batch_is_a_duplicate_when_it_comes_again(simulate: Simulate) -> None:
    simulation = simulate(made(batch=BatchRule(10, 5_000)))
    simulation.run()
    simulation.send(event(id="one"), event(id="two"))
    simulation.run(for_ms=1_000)
    assert [each.is_duplicate for each in simulation.send(event(id="two"), event(id="three"))] == [True, False]
    simulation.run()
    simulation.send(event(id="one"), event(id="two"), event(id="three"))
    simulation.run()
    assert simulation.rows("SELECT id FROM run_event JOIN event ON event = event.key ORDER BY position") == [
        ("one",), ("two",), ("three",),
    ]  # fmt: skip


@pytest.mark.parametrize("after_ms", [10, 10_000], ids=["while it is held", "when it has run"])
@pytest.mark.parametrize("again", ["one", "two", "three"])
def test_a_debounced_event_is_a_duplicate_when_it_comes_again(simulate: Simulate, again: str, after_ms: int) -> None:
    simulation = simulate(made(debounce=DebounceRule(1_000)))
    simulation.run()
    began = simulation.clock()
    simulation.send(event(id="one", n=1))
    simulation.run(for_ms=10)
    simulation.send(event(id="two", n=2), event(id="three", n=3, ts=began - 1))
    simulation.run(for_ms=after_ms)
    simulation.send(event(id=again))
    simulation.run()
    assert states(simulation) == ["completed"]
    assert ran(simulation, "n") == [2]
    # It runs for one event, and those that were left out are known.
    (start,) = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    assert start.batch == ()
    left_out = "SELECT id FROM run_event JOIN event ON event = event.key WHERE is_replaced ORDER BY position"
    assert simulation.rows(left_out) == [("one",), ("three",)]


# Events of the engine's own.


@pytest.mark.parametrize("name", ["fanout/function.failed", "fanout/function.finished", "fanout/function.invoked"])
def test_a_condition_holds_for_events_of_the_engine(simulate: Simulate, name: str) -> None:
    simulation = simulate(
        function("f", Invoke("g"), retries=0),
        function("g", Step("s", (FAIL,)), on=[], retries=0),
        listening("wrong", name, "event.data.function_id == 'other' || event.data.k == 1"),
        listening("right", name, "event.data.function_id == 'f' || event.name == 'fanout/function.invoked'"),
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT function FROM run ORDER BY 1") == [("f",), ("g",), ("right",)]


def test_a_condition_holds_for_timers(simulate: Simulate) -> None:
    simulation = simulate(
        made(on=(), cron=(CronTrigger(MINUTE),)),
        listening("wrong", "fanout/scheduled.timer", "event.data.cron == 'never'"),
        listening("right", "fanout/scheduled.timer", f"event.data.cron == '{MINUTE}'"),
    )
    simulation.run()
    simulation.clock.advance(60_000)
    simulation.run(for_ms=1_000)
    assert simulation.rows("SELECT function FROM run ORDER BY 1") == [("f",), ("right",)]


def test_an_on_failure_runs_also_if_its_own_condition_does_not_hold(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Body((FATAL,)), on_failure="rescue"), listening("rescue", "fanout/function.failed", "false")
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert states(simulation, "rescue") == ["completed"]


def test_flow_control_holds_for_events_of_the_engine(simulate: Simulate) -> None:
    on = ["fanout/function.failed"]
    simulation = simulate(
        function("f", Body((FATAL,)), retries=0),
        function("limited", Step("l"), on=on, flow=FlowRules(rate_limit=RateLimitRule(1, HOUR_MS))),
        function("one", *BUSY, on=on, flow=FlowRules(singleton=SingletonRule(None, "cancel"))),
        function("joined", Step("l"), on=on, flow=FlowRules(batch=BatchRule(5, HOUR_MS))),
        function("last", Step("l"), on=on, flow=FlowRules(debounce=DebounceRule(1_000))),
    )
    simulation.run()
    simulation.send(*[event()] * 5)
    simulation.run()
    assert {
        name: sorted(states(simulation, name)) for name in ("limited", "one", "joined", "last")
    } == {
        "limited": ["completed"] + ["skipped"] * 4,
        "one": ["cancelled"] * 4 + ["completed"],
        "joined": ["completed"],
        "last": ["completed"],
    }  # fmt: skip


@pytest.mark.parametrize("rules", [{"debounce": DebounceRule(1_000)}, {"batch": BatchRule(9, 1_000)}], ids=str)
def test_a_run_that_also_has_an_event_of_the_engine_is_not_announced(simulate: Simulate, rules: dict[str, Any]) -> None:
    """Or it would start itself without end."""
    simulation = simulate(made(on=("e", "fanout/function.finished"), **rules), function("g", Sleep(500), Step("s")))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=60_000)
    assert states(simulation) == ["completed"]
