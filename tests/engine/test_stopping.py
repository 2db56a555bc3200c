"""An engine that is asked to stop."""

from __future__ import annotations

import pytest

from tests.engine.checker import check
from tests.engine.conftest import Simulate, every_parking
from tests.engine.scripts import FAIL, FATAL, OK, Body, Step, What, event, function
from tests.engine.simulation import Simulation

pytestmark = every_parking


def stopped(simulation: Simulation) -> None:
    simulation.engine.stop()
    simulation.run(lambda: not simulation.engine.executing)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_executions_leave_at_their_next_step_and_go_on_later(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Step("one", takes_ms=100), Step("two", takes_ms=100), Step("three"), is_async=is_async),
        processes=2,
    )
    simulation.send(*[event()] * 6)
    simulation.run(for_ms=60)
    stopped(simulation)
    assert simulation.clock() == simulation.entries(What.START)[-1].at + 100
    # Their steps in flight ended, and count.
    assert [*simulation.states().values()] == ["queued"] * 6
    assert [simulation.steps(run) for run in range(1, 7)] == [{"one": ("completed", 1)}] * 4 + [{}] * 2
    assert simulation.begun("two") == []
    simulation.restart()
    simulation.run()
    assert len(simulation.begun("one")) == 6
    check(simulation)


def test_nothing_new_starts(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one", takes_ms=100)), processes=1, slots=1)
    simulation.send(event(), event(), event(ts=simulation.clock() + 80))
    simulation.run(for_ms=60)
    stopped(simulation)
    simulation.send(event())
    simulation.cancel(2)
    simulation.run(for_ms=1_000)
    assert len(simulation.begun()) == 1
    assert simulation.states() == {1: "completed", 2: "queued", 3: "waiting"}
    simulation.restart()
    simulation.run()
    assert simulation.states() == {1: "completed", 2: "cancelled", 3: "completed", 4: "completed"}


def test_steps_that_fail_while_it_stops_are_counted(simulate: Simulate) -> None:
    simulation = simulate(
        function("retried", Step("s", (FAIL, OK), takes_ms=100), Step("t"), backoff=(50.0,)),
        function("given-up", Step("s", (FATAL,), takes_ms=100, is_caught=True), Step("t")),
        function("broken", Body((FAIL, OK), takes_ms=100), Step("t"), backoff=(50.0,)),
        function("ended", Step("s", takes_ms=100)),
        slots=4,
    )
    simulation.send()
    simulation.run(for_ms=60)
    stopped(simulation)
    # A step that is tried again keeps its own time; its run is started to wait for it.
    assert [*simulation.states().values()] == ["queued", "queued", "waiting", "completed"]
    ((due_at,),) = simulation.rows("SELECT due_at FROM step WHERE state = 'retrying'")
    assert due_at == simulation.clock() + 50_000
    simulation.restart()
    simulation.run()
    check(simulation)


def test_a_worker_that_dies_while_it_stops(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", takes_ms=100, deaths=1)), function("b", Step("s", takes_ms=200)), processes=1
    )
    simulation.send()
    simulation.run(for_ms=60)
    stopped(simulation)
    assert [*simulation.states().values()] == ["queued"] * 2
    simulation.restart()
    simulation.run()
    check(simulation)


def test_a_crash_while_it_stops_loses_nothing(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one", takes_ms=100), Step("two")))
    simulation.send(*[event()] * 3)
    simulation.run(for_ms=60)
    simulation.engine.stop()
    simulation.run(for_ms=20)
    simulation.restart()
    simulation.run()
    check(simulation)


def test_an_engine_that_stops_before_its_code_is_loaded_has_done_nothing(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")))
    simulation.send()
    simulation.engine.stop()
    simulation.run(for_ms=1_000)
    assert simulation.states() == {}
    simulation.restart()
    simulation.run()
    check(simulation)
