"""What waits is in the journal, not in memory."""

from __future__ import annotations

import gc
import tracemalloc

from fanout.engine.queue import WINDOW
from fanout.journal.rows import QueuedRun
from tests.engine.checker import check_fan_out
from tests.engine.conftest import Simulate
from tests.engine.scripts import BEGINNING, Step, event, function
from tests.engine.simulation import Simulation


def held(simulation: Simulation) -> int:
    """How many queued runs the engine has in its hands."""
    return sum(len(partition.runs) for partition in simulation.engine._queue._partitions.values())


def test_five_thousand_queued_runs_are_a_window_in_memory(simulate: Simulate) -> None:
    # Other tests may have left some behind.
    gc.collect()
    before = sum(isinstance(each, QueuedRun) for each in gc.get_objects())
    simulation = simulate(function("a", Step("s", takes_ms=1)), processes=1, slots=2)
    simulation.run()
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, held(simulation))
        return False

    simulation.send(*[event()] * 5_000)
    simulation.run(look, for_ms=100)
    assert len(simulation.states()) == 5_000
    assert 0 < most <= WINDOW
    simulation.restart()
    simulation.run(look, for_ms=100)
    assert 0 < most <= WINDOW
    gc.collect()
    assert sum(isinstance(each, QueuedRun) for each in gc.get_objects()) - before <= WINDOW + 300


def test_memory_does_not_grow_with_the_queue(simulate: Simulate) -> None:
    def peak(events: int) -> int:
        simulation = simulate(function("a", Step("s", takes_ms=1)), processes=1, slots=2)
        simulation.run()
        for _ in range(events // 500):
            simulation.send(*[event()] * 500)
        gc.collect()
        tracemalloc.start()
        simulation.run(for_ms=30)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(simulation.states()) == events
        return most

    assert peak(6_000) < peak(3_000) + 100_000


def test_a_queue_of_thousands_is_worked_off_once_each_in_order(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), processes=2, slots=25)
    simulation.send(*[event()] * 3_000)
    simulation.run()
    check_fan_out(simulation)
    order = [key for (key,) in simulation.rows("SELECT key FROM run ORDER BY started_at, key")]
    assert order == sorted(order)
    assert len(simulation.begun("s")) == 3_000


def test_thousands_that_become_due_at_once_are_a_window_too(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), processes=1, slots=25)
    simulation.run()
    simulation.send(*[event(ts=BEGINNING + 60_000)] * 2_000)
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, held(simulation))
        return set(simulation.states().values()) == {"completed"}

    simulation.run(look)
    assert most <= WINDOW
    check_fan_out(simulation)
