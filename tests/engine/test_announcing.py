"""The engine's own events: for `on_failure`, and for functions that listen to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.checker import check
from tests.engine.conftest import Simulate
from tests.engine.scripts import (
    FAIL,
    FATAL,
    FOREVER,
    Body,
    Faults,
    Function,
    Invoke,
    Map,
    Obey,
    Part,
    Sleep,
    Step,
    event,
    function,
    items,
)
from tests.engine.simulation import Simulation

ALL = ("fanout/*",)
FINISHED, FAILED, CANCELLED = (f"fanout/function.{name}" for name in ("finished", "failed", "cancelled"))
RESCUE = function("rescue", Step("rescue"), on=[])


def runs_of(simulation: Simulation, function_id: str) -> list[tuple[str, dict[str, Any]]]:
    """(event, data) of the runs of a function."""
    found = simulation.rows(
        "SELECT name, data FROM run JOIN event ON event = event.key WHERE function = ? ORDER BY run.key", function_id
    )
    return [(name, json.loads(data)) for name, data in found]


@pytest.mark.parametrize(
    "part",
    [Step("s", (FAIL,)), Body((FATAL,)), Step("s", deaths=FOREVER), Invoke("broken")],
    ids=["step", "body", "crash", "child"],
)
def test_on_failure_runs_once_when_a_run_has_failed(simulate: Simulate, part: Part) -> None:
    simulation = simulate(
        function("a", part, on_failure="rescue", retries=1, backoff=(1.0,)),
        RESCUE,
        function("broken", Body((FATAL,)), on=[]),
        function("fine", Step("s"), on_failure="rescue"),
    )
    simulation.send(event(user=7))
    simulation.run()
    ((name, said),) = runs_of(simulation, "rescue")
    assert name == FAILED
    ((run_id,),) = simulation.rows("SELECT id FROM run WHERE function = 'a'")
    type_, message, traceback = simulation.rows(
        "SELECT type, message, traceback FROM failure WHERE run = 1 AND step = '' ORDER BY rowid DESC"
    )[0]
    assert {key: said[key] for key in ("function_id", "run_id", "state", "error")} == {
        "function_id": "a",
        "run_id": run_id,
        "state": "failed",
        "error": {"type": type_, "message": message, "traceback": traceback},
    }
    assert said["event"]["data"] == {"user": 7}
    assert len(simulation.begun("rescue")) == 1
    check(simulation)


def test_on_failure_runs_once_whatever_crashes(simulate: Simulate) -> None:
    made = (function("a", Step("s", (FATAL,)), on_failure="rescue"), RESCUE, function("l", on=[FAILED]))
    quiet = simulate(*made)
    quiet.send()
    quiet.run()
    for where in ("before", "after", "sending"):
        for number in range(1, max(quiet.faults.commits, quiet.faults.sends) + 1):
            simulation = simulate(*made, faults=Faults.at(where, number))
            simulation.send()
            simulation.run()
            assert len(runs_of(simulation, "rescue")) == len(runs_of(simulation, "l")) == 1
            check(simulation)


def test_an_on_failure_that_fails_itself_is_the_end_of_it(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Body((FATAL,)), on_failure="rescue"),
        function("rescue", Body((FATAL,)), on=[], on_failure="rescue"),
    )
    simulation.send()
    simulation.run()
    assert [*simulation.states().values()] == ["failed", "failed"]
    check(simulation)


def test_on_failure_that_also_listens_runs_once(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Body((FATAL,)), on_failure="rescue"), function("rescue", Step("rescue"), on=[FAILED])
    )
    simulation.send()
    simulation.run()
    assert len(runs_of(simulation, "rescue")) == 1
    check(simulation)


def test_without_the_code_of_on_failure_nothing_happens(simulate: Simulate) -> None:
    simulation = simulate(function("a", Body((FATAL,)), on_failure="gone"))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "failed"}
    check(simulation)


def test_a_run_that_was_not_started_in_time_or_was_cancelled_while_queued_is_announced(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", takes_ms=5_000)), function("listener", on=[CANCELLED]), processes=1, slots=1
    )
    simulation.send(event(), event())
    simulation.run(for_ms=100)
    simulation.cancel(2)
    simulation.run()
    ((name, said),) = runs_of(simulation, "listener")
    assert (name, said["run_id"], said["state"]) == (CANCELLED, simulation.run_id(2), "cancelled")
    check(simulation, cancelled={2})


def test_listeners_hear_of_every_end_and_of_every_invoke(simulate: Simulate) -> None:
    simulation = simulate(
        function("good", Step("s")),
        function("bad", Body((FATAL,))),
        function("parent", Invoke("child")),
        function("slow", Sleep(60_000)),
        function("child", Step("s"), on=[]),
        function("all", Step("heard"), on=ALL),
        function("failures", on=[FAILED]),
    )
    simulation.send()
    simulation.run(for_ms=1_000)
    ((slow,),) = simulation.rows("SELECT key FROM run WHERE function = 'slow'")
    simulation.cancel(slow)
    simulation.run()
    heard = [(name, said.get("function_id")) for name, said in runs_of(simulation, "all")]
    assert sorted(heard, key=str) == sorted(
        [
            (FINISHED, "good"), (FINISHED, "bad"), (FAILED, "bad"), ("fanout/function.invoked", None),
            (FINISHED, "child"), (FINISHED, "parent"), (CANCELLED, "slow"),
        ],
        key=str,
    )  # fmt: skip
    (finished,) = [said for name, said in runs_of(simulation, "all") if said.get("function_id") == "good"]
    assert (finished["state"], finished["result"]) == ("completed", "good is done")
    assert len(runs_of(simulation, "failures")) == 1
    check(simulation, cancelled={slow})


@pytest.mark.parametrize(
    "listener",
    [
        function("l", Step("s"), on=ALL),
        function("l", Body((FATAL,)), on=ALL, on_failure="l"),
        function("l", Invoke("child"), on=ALL),
        function("l", Map("child", items(of=3)), on=ALL),
    ],
    ids=["fine", "failing", "invoking", "mapping"],
)
def test_what_listens_never_starts_itself_without_end(simulate: Simulate, listener: Function) -> None:
    simulation = simulate(
        function("a", Step("s")),
        function("child", Obey(), on=[], on_failure="l"),
        listener,
        function("other", on=[FINISHED, FAILED]),
    )
    simulation.send()
    simulation.run(for_ms=30_000)
    assert len(simulation.states()) < 40
    assert set(simulation.states().values()) <= {"completed", "failed"}


def test_an_event_of_the_engines_own_is_never_routed_again(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), function("l", Step("heard"), on=ALL))
    simulation.send()
    simulation.run()
    for _ in range(3):
        simulation.restart()
        simulation.run()
    assert len(simulation.begun("heard")) == 1
    keys = [key for (key,) in simulation.rows("SELECT key FROM event ORDER BY key")]
    assert keys == [-1, 1]
    check(simulation)


def test_keys_of_the_engines_own_events_go_on_below_after_a_restart(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), function("l", on=ALL))
    for _ in range(3):
        simulation.send()
        simulation.run()
        simulation.restart()
    simulation.run()
    assert [key for (key,) in simulation.rows("SELECT key FROM event ORDER BY key")] == [-3, -2, -1, 1, 2, 3]
    check(simulation)


def test_an_invoked_function_is_asked_for_by_a_request(simulate: Simulate) -> None:
    simulation = simulate(function("a", Obey(), Step("s"), on=[]), function("l", on=ALL))
    simulation.run()
    simulation.request("invoke", function="a", data={"item": 3})
    simulation.request("invoke", function="nothing", data={})
    simulation.run()
    assert simulation.rows("SELECT function, state, output, parent FROM run WHERE function = 'a'") == [
        ("a", "completed", '"a is done with 3"', None)
    ]
    assert simulation.rows("SELECT kind, run FROM request ORDER BY key") == [("invoke", 1), ("invoke", None)]
    assert [name for name, _ in runs_of(simulation, "l")] == ["fanout/function.invoked", FINISHED]
