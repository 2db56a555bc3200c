"""Who waits in the queue, and for what: nobody is forgotten, whatever waits there and whatever becomes of it."""

from __future__ import annotations

import json

import pytest

from fanout.engine import queue
from fanout.model import ConcurrencyRule, FlowRules, ThrottleRule
from tests.engine.conftest import Simulate, every_parking
from tests.engine.scripts import FOREVER, Function, Sleep, Step, What, event, function
from tests.engine.simulation import Simulation

K = "event.data.k"
BY_KEY = (ConcurrencyRule(1, K),)
SHARED = (ConcurrencyRule(1, None, "app"),)
HOUR_MS = 3_600_000


def rules(**more: object) -> FlowRules:
    return FlowRules(**more)  # type: ignore[arg-type]


def states_of(simulation: Simulation, function: str) -> list[str]:
    rows = simulation.rows("SELECT state FROM run WHERE function LIKE ? ORDER BY key", function)
    return [state for (state,) in rows]


# More partitions than memory has room for.


@pytest.fixture
def small_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_PARTITIONS", 16)
    monkeypatch.setattr(queue, "LOOKED_AT", 8)


@pytest.mark.usefixtures("small_queue")
@pytest.mark.parametrize("others", [0, 6])
def test_none_of_many_keys_is_forgotten(simulate: Simulate, others: int) -> None:
    held_up = [function(f"h{number}", Step("s"), on=["h"]) for number in range(others)]
    many = function("f", Step("t", takes_ms=5), flow=rules(concurrency=BY_KEY))
    simulation = simulate(*held_up, many, processes=1, slots=1)
    simulation.run()
    simulation.request("pause", functions=[each.spec.id for each in held_up])
    simulation.run()
    simulation.send(event("h"), *[event(k=number) for number in range(100)])
    simulation.run()
    assert (states_of(simulation, "f"), states_of(simulation, "h%")) == (["completed"] * 100, ["queued"] * others)


PAUSED = function("f", Step("s"), flow=rules(concurrency=BY_KEY))
OTHER = function("g", Step("t"), on=["g"])
SLOW = function("f", Step("s"), flow=rules(concurrency=BY_KEY, throttle=ThrottleRule(1, 5_000)))
SLOW_BY_KEY = function("f", Step("s"), flow=rules(throttle=ThrottleRule(1, 5_000, 1, K)))


@pytest.mark.usefixtures("small_queue")
def test_many_keys_of_a_paused_function_hold_up_no_other(simulate: Simulate) -> None:
    simulation = simulate(PAUSED, OTHER)
    simulation.run()
    simulation.request("pause", functions=["f"])
    simulation.run()
    simulation.send(*[event(k=number) for number in range(50)])
    simulation.run()
    simulation.send(event("g"))
    simulation.run(for_ms=1_000)
    assert (states_of(simulation, "g"), states_of(simulation, "f")) == (["completed"], ["queued"] * 50)
    simulation.request("resume", functions=["f"])
    simulation.run()
    assert states_of(simulation, "f") == ["completed"] * 50


@pytest.mark.usefixtures("small_queue")
def test_many_keys_of_a_function_that_is_gone_hold_up_no_other(simulate: Simulate) -> None:
    simulation = simulate(PAUSED, OTHER)
    simulation.run()
    simulation.request("pause", functions=["f"])
    simulation.run()
    simulation.send(*[event(k=number) for number in range(50)])
    simulation.run()
    simulation.restart(OTHER)
    simulation.send(event("g"))
    simulation.run(for_ms=1_000)
    assert (states_of(simulation, "g"), simulation.engine.stranded()) == (["completed"], {"f"})


@pytest.mark.usefixtures("small_queue")
@pytest.mark.parametrize("many", [SLOW, SLOW_BY_KEY], ids=["one throttle", "one a key"])
def test_many_that_are_throttled_hold_up_no_other(simulate: Simulate, many: Function) -> None:
    simulation = simulate(many, OTHER)
    simulation.run()
    simulation.send(*[event(k=number) for number in range(40)] * 2)
    simulation.run(for_ms=1_000)
    simulation.send(event("g"))
    simulation.run(for_ms=1_000)
    assert states_of(simulation, "g") == ["completed"]
    simulation.run(for_ms=81 * 5_000)
    assert states_of(simulation, "f") == ["completed"] * 80


# What somebody was woken for, and does not take.


def test_a_suspect_that_waits_for_a_worker_leaves_its_place_to_others(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s", takes_ms=50, deaths=1), on=["f"], flow=rules(concurrency=SHARED)),
        function("h", Step("u", takes_ms=600_000), on=["h"]),
        function("g", Step("t", takes_ms=100), on=["g"], flow=rules(concurrency=SHARED)),
        processes=2,
        slots=4,
    )
    simulation.run()
    for name, for_ms in (("h", 50), ("h", 50), ("h", 50), ("f", 10), ("g", 120), ("g", 110)):
        simulation.send(event(name))
        simulation.run(for_ms=for_ms)
    simulation.run(for_ms=60_000)
    assert states_of(simulation, "g") == ["completed", "completed"]


@pytest.mark.parametrize("cancelled", [2, 3])
def test_a_permit_that_its_run_can_not_use_is_for_the_next(simulate: Simulate, cancelled: int) -> None:
    """It is paused when its time comes, and cancelled."""
    simulation = simulate(
        function("f", Step("s"), flow=rules(throttle=ThrottleRule(1, 10_000), concurrency=BY_KEY)), slots=8
    )
    simulation.run()
    simulation.send(*[event(k=number) for number in range(3)])
    simulation.run(for_ms=100)
    simulation.request("pause", functions=["f"])
    simulation.run(for_ms=15_000)
    simulation.cancel(cancelled)
    simulation.run(for_ms=100)
    simulation.request("resume", functions=["f"])
    simulation.run(for_ms=15_000)
    assert simulation.states() == {1: "completed", 2: "completed", 3: "completed"} | {cancelled: "cancelled"}


def test_a_suspect_whose_app_has_no_worker_does_not_hold_up_those_of_others(simulate: Simulate) -> None:
    def app(name: str, deaths: int) -> tuple[Function, ...]:
        return (
            function("kill", Step("k", takes_ms=50, deaths=deaths), on=[name]),
            function("slow", Step("s", takes_ms=500), on=[name]),
        )

    simulation = simulate(apps={"x": app("x", FOREVER), "y": app("y", 1)}, processes=2, slots=4)
    simulation.run()
    simulation.send(event("x"))
    simulation.run(lambda: len(simulation.entries(What.DEATH)) == 2)
    simulation.broken.add("x")
    simulation.run(for_ms=1_000)
    simulation.send(event("y"))
    simulation.run(for_ms=60_000)
    assert (states_of(simulation, "y/%"), "queued" in states_of(simulation, "x/%")) == (["completed"] * 2, True)


# What has begun.


THROTTLED = function("f", Step("s", takes_ms=400), flow=rules(throttle=ThrottleRule(1, HOUR_MS)))


def test_a_run_whose_worker_died_goes_on_at_once_though_its_function_is_throttled(simulate: Simulate) -> None:
    made = function("f", Step("s", takes_ms=100, deaths=1), flow=rules(throttle=ThrottleRule(1, HOUR_MS)))
    simulation = simulate(made)
    simulation.run()
    simulation.send(event(), event())
    simulation.run(for_ms=10_000)
    assert [*simulation.states().values()] == ["completed", "queued"]


def test_a_run_whose_engine_died_goes_on_at_once_though_its_function_is_throttled(simulate: Simulate) -> None:
    simulation = simulate(THROTTLED)
    simulation.run()
    simulation.send(event(), event())
    simulation.run(for_ms=300)
    assert [*simulation.states().values()] == ["running", "queued"]
    simulation.restart()
    simulation.run(for_ms=10_000)
    assert [*simulation.states().values()] == ["completed", "queued"]


def test_a_run_that_left_when_its_engine_stopped_goes_on_at_once_though_its_function_is_throttled(
    simulate: Simulate,
) -> None:
    made = function("f", Step("s", takes_ms=400), Step("t"), flow=rules(throttle=ThrottleRule(1, HOUR_MS)))
    simulation = simulate(made)
    simulation.run()
    simulation.send(event(), event())
    simulation.run(for_ms=100)
    simulation.engine.stop()
    simulation.run(lambda: not simulation.engine.executing)
    simulation.restart()
    simulation.run(for_ms=10_000)
    assert [*simulation.states().values()] == ["completed", "queued"]


@every_parking
def test_a_pause_holds_up_none_that_has_begun_however_long_it_is_parked(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s"), Sleep(1_000), Step("t")))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=500)
    simulation.request("pause", functions=["f"])
    simulation.send()
    simulation.run(for_ms=60_000)
    assert simulation.states() == {1: "completed", 2: "queued"}


def test_a_pause_holds_up_no_suspect(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s", takes_ms=50, deaths=1)), function("g", Step("t", takes_ms=5_000)), processes=2
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: bool(simulation.entries(What.DEATH)))
    simulation.request("pause", functions=["f", "g"])
    simulation.send()
    simulation.run(for_ms=60_000)
    assert [*simulation.states().values()] == ["completed", "completed", "queued", "queued"]


# Clocks.


def test_a_throttle_forgets_what_it_said_before_the_clock_stepped_back(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s"), flow=rules(throttle=ThrottleRule(1, 10_000))))
    simulation.run()
    simulation.send(event(), event())
    simulation.run(for_ms=1_000)
    assert [*simulation.states().values()] == ["completed", "queued"]
    simulation.clock.advance(-HOUR_MS)
    simulation.pool._last.clear()
    simulation.run(for_ms=60_000)
    assert [*simulation.states().values()] == ["completed", "completed"]


def test_priority_means_the_same_after_a_restart(simulate: Simulate) -> None:
    made = function("f", Step("s", takes_ms=10), flow=rules(priority="event.data.p"))
    simulation = simulate(made, processes=1, slots=1)
    simulation.run()
    simulation.request("pause", functions=["f"])
    simulation.run()
    simulation.send(event(p=0, n="first"))
    simulation.run()
    simulation.clock.advance(1_000)
    simulation.send(event(p=-600, n="last"))
    simulation.run()
    simulation.restart()
    simulation.run()
    simulation.send(event(p=60, n="urgent"))
    simulation.run()
    simulation.request("resume", functions=["f"])
    simulation.run()
    names = dict(simulation.rows("SELECT run.id, data FROM run JOIN event ON event = event.key"))
    began = [json.loads(names[entry.run])["n"] for entry in simulation.entries(What.START)]
    assert began == ["urgent", "first", "last"]
