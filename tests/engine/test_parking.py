"""Executions that wait: they hold no slot, are kept for a while, and come back to the same result."""

from __future__ import annotations

import pytest

from fanout.engine.parking import PARKED_A_SLOT
from fanout.engine.settings import DEFAULT_PARK_MS
from fanout.protocol import Parked, Resume, Unpark
from tests.engine.checker import check
from tests.engine.conftest import NEVER, Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    OK,
    Await,
    Body,
    Function,
    Invoke,
    Map,
    Send,
    Sleep,
    Step,
    What,
    event,
    function,
    items,
    parallel,
)
from tests.engine.simulation import Simulation

pytestmark = every_parking


def crashes(simulation: Simulation) -> list[tuple[int, int]]:
    return [*simulation.rows("SELECT crashes, is_suspect FROM run ORDER BY key")]


# Slots.


@both_kinds
def test_with_one_slot_parents_wait_for_children_that_wait_for_theirs(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Step("s"), Invoke("b"), Map("c", items(of=3), 2), is_async=is_async),
        function("b", Map("c", items(of=2)), Invoke("c"), on=[], is_async=is_async),
        function("c", Step("s"), Sleep(50), Step("t"), on=[], is_async=is_async),
        processes=1,
        slots=1,
    )
    simulation.send(event(), event())
    simulation.run()
    assert {*simulation.states().values()} == {"completed"}
    check(simulation)


@both_kinds
def test_while_a_run_waits_its_slot_is_for_others(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Step("one"), Sleep(2_000), Step("two"), is_async=is_async),
        function("b", Step("s", takes_ms=500), on=["f"]),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send(event("e"), event("f"))
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "waiting", 2: "completed"}
    simulation.run()
    check(simulation)


def test_a_run_that_is_woken_waits_for_a_slot_and_goes_before_runs_that_have_not_begun(
    simulate: Simulate, park_ms: int
) -> None:
    simulation = simulate(
        function("a", Step("one"), Sleep(100), Step("two")),
        function("b", Step("busy", takes_ms=1_000), on=["f"]),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send(event("e"))
    simulation.run(lambda: simulation.states().get(1) == "waiting")
    simulation.send(*[event("f")] * 3)
    simulation.run(for_ms=500)
    # Where it was evicted it is the last in the queue, but functions take turns.
    assert simulation.state(1) == ("running" if park_ms else "queued")
    assert simulation.begun("two") == []
    assert not simulation.engine.is_idle()
    simulation.run()
    busy = simulation.begun("busy")
    assert simulation.begun("two") == [busy[0] + 1_000 if park_ms else busy[1] + 1_000]
    check(simulation)


@both_kinds
def test_code_of_a_task_that_comes_to_a_step_while_its_run_is_parked_asks_for_a_slot(
    simulate: Simulate, is_async: bool
) -> None:
    """What a task waits for between its steps can't always be known; a thread never lets its run be parked."""
    simulation = simulate(
        function("a", parallel(Sleep(4_000), (Body(takes_ms=100, is_hidden=True), Step("s"))), is_async=is_async),
        function("b", Step("busy", takes_ms=1_000), on=["f"]),
        processes=1,
        slots=1,
        park_ms=NEVER,
    )
    simulation.run()
    simulation.send(event("e"))
    simulation.run(for_ms=50)
    simulation.send(event("f"))
    simulation.run()
    resumed = [message for _, message in simulation.pool.sent if isinstance(message, Resume)]
    assert any(isinstance(message, Unpark) for _, message in simulation.pool.said) is is_async
    assert len(resumed) == 1 + is_async
    first = simulation.begun("busy")[0]
    assert simulation.begun("s") == ([first + 1_000] if is_async else [20 + 100])
    check(simulation)


def test_what_asks_for_a_slot_that_it_never_lost_goes_on(simulate: Simulate) -> None:
    """An event, the word that all of it waits, and code that comes to a step: all are on their way at the same time."""
    simulation = simulate(
        function(
            "a",
            parallel(
                (Await("f", 60_000), Step("heard")),
                (Step("busy", takes_ms=50), Body(takes_ms=2, is_hidden=True), Step("s")),
            ),
            is_async=True,
        ),
        lag=lambda: 3,
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: any(isinstance(message, Parked) for _, message in simulation.pool.said))
    simulation.send(event("f"))
    at = simulation.clock() - BEGINNING
    simulation.run()
    assert simulation.begun("heard")[0] - at <= 10
    assert simulation.begun("s")[0] - at <= 10
    check(simulation)


def test_no_execution_is_kept_that_would_not_go_on_before_it_has_to_leave(simulate: Simulate, park_ms: int) -> None:
    simulation = simulate(
        function("soon", Sleep(DEFAULT_PARK_MS - 1)), function("later", Sleep(DEFAULT_PARK_MS + 1)),
        function("at-any-time", Await("f", DEFAULT_PARK_MS + 1)), slots=5,
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run(for_ms=100)
    assert len(simulation.pool.parked()) == {0: 0, NEVER: 3}.get(park_ms, 2)
    assert len(simulation.entries(What.LEFT)) == 3 - len(simulation.pool.parked())
    simulation.run()
    check(simulation)


def test_of_too_many_that_are_parked_the_longest_leave(simulate: Simulate, park_ms: int) -> None:
    simulation = simulate(function("a", Await("f", 60_000), Step("s")), processes=1, slots=2)
    simulation.run()
    simulation.send(*[event()] * 40)
    simulation.run(for_ms=200)
    assert [*simulation.states().values()] == ["waiting"] * 40
    most = 0 if park_ms == 0 else 2 * PARKED_A_SLOT
    assert len(simulation.pool.parked()) == most
    left = [each.run for each in simulation.entries(What.LEFT)]
    assert left == [simulation.run_id(run) for run in range(1, 41 - most)]
    simulation.send(event("f"))
    simulation.run()
    assert {*simulation.states().values()} == {"completed"}
    assert len(simulation.begun("s")) == 40
    check(simulation)


def test_parked_runs_are_not_executing_and_the_engine_is_idle(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 60_000)), slots=5)
    simulation.run()
    simulation.send(*[event()] * 4)
    simulation.run(for_ms=100)
    assert simulation.engine.is_idle()
    assert simulation.engine.executing == 0


# Death.


@both_kinds
def test_what_is_parked_in_a_worker_that_dies_is_neither_charged_nor_lost(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("sleeps", Step("one"), Sleep(4_000), Step("two"), is_async=is_async),
        function("waits", Await("f", 60_000), Step("heard"), is_async=is_async),
        function("invokes", Invoke("child"), Step("after"), is_async=is_async),
        function("child", Sleep(3_000), on=[]),
        processes=1,
        slots=8,
    )
    simulation.send()
    simulation.run(for_ms=500)
    simulation.pool.lose(1)
    simulation.run(for_ms=500)
    assert simulation.rows("SELECT DISTINCT state FROM run") == [("waiting",)]
    simulation.send(event("f"))
    simulation.run()
    assert crashes(simulation) == [(0, 0)] * 4
    assert [len(simulation.begun(step)) for step in ("one", "two", "heard", "after")] == [1] * 4
    assert simulation.begun("two") == [20 + 1 + 4_000]
    check(simulation)


def test_a_parked_run_is_no_companion_of_what_kills_its_worker(simulate: Simulate) -> None:
    simulation = simulate(
        function("parked", Sleep(4_000), Step("s")),
        function("killer", Step("boom", takes_ms=100, deaths=1), on=["f"]),
        processes=1,
        slots=8,
    )
    simulation.run()
    simulation.send()
    simulation.run(for_ms=100)
    simulation.send(event("f"))
    simulation.run()
    # The killer was alone in it: it is charged at once.
    assert crashes(simulation) == [(0, 0), (1, 0)]
    check(simulation)


def test_a_run_that_was_about_to_go_on_when_its_worker_died_goes_back_to_the_queue(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Sleep(100), Step("s")),
        function("b", Step("busy", takes_ms=1_000), on=["f"]),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.states().get(1) == "waiting")
    simulation.send(event("f"))
    simulation.run(for_ms=500)
    simulation.pool.lose(1)
    simulation.run()
    # `b` was alone with a slot there.
    assert crashes(simulation) == [(0, 0), (1, 0)]
    assert len(simulation.begun("s")) == 1


@pytest.mark.parametrize("at_ms", [3_999, 4_000, 4_001])
def test_the_worker_dies_in_the_tick_in_which_the_wait_ends(simulate: Simulate, at_ms: int) -> None:
    simulation = simulate(function("a", parallel(Sleep(4_000), Await("f", 9_000)), Step("s")), processes=1, slots=1)
    simulation.run()
    simulation.send()
    simulation.run(for_ms=at_ms - 1)
    simulation.clock.advance(1)
    simulation.send(event("f"))
    for worker in [*simulation.pool.workers]:
        simulation.pool.lose(worker)
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert simulation.outputs(1)["await"]["name"] == "f"
    assert simulation.rows("SELECT crashes FROM run")[0][0] <= 1


@both_kinds
def test_a_suspect_that_waits_leaves_at_once_and_is_alone_each_time(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=50, deaths=1)),
        function("innocent", Step("one", takes_ms=100), Sleep(2_000), Step("two", (FAIL, OK), takes_ms=200),
                 backoff=(2.0,), is_async=is_async),
        function("other", Step("s", takes_ms=30), Sleep(500), Step("t"), on=["f"]),
        processes=2,
        slots=2,
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.entries(What.DEATH) != [])
    for _ in range(30):
        simulation.send(event("f"))
        simulation.run(for_ms=200)
    simulation.run()
    starts = [each for each in simulation.entries(What.START) if each.run == simulation.run_id(2)]
    assert len(starts) == 4
    for start in starts[1:]:
        assert start.companions == ()
        later = [each for each in simulation.entries(What.START) if start.claim in each.companions]
        assert [each for each in later if each.worker == start.worker] == []
    assert {*crashes(simulation)} == {(0, 0)}
    check(simulation)


def test_what_is_parked_makes_room_for_a_suspect(simulate: Simulate) -> None:
    simulation = simulate(
        *[function(f"parked{number}", Await("f", 60_000), Step("heard")) for number in range(3)],
        function("killer", Step("boom", takes_ms=100, deaths=1), on=["g"]),
        function("innocent", Step("s", takes_ms=200), on=["g"]),
        processes=1,
        slots=4,
    )
    simulation.run()
    simulation.send()
    simulation.run(for_ms=100)
    simulation.send(event("g"))
    simulation.run(lambda: simulation.entries(What.DEATH) != [])
    simulation.send(event())
    simulation.run(lambda: [simulation.state(run) for run in (4, 5)] == ["completed"] * 2)
    for start in simulation.entries(What.START)[5:]:
        if start.run in (simulation.run_id(4), simulation.run_id(5)):
            assert start.companions == ()
    simulation.send(event("f"))
    simulation.run()
    assert {*crashes(simulation)} == {(0, 0)}
    check(simulation)


# Stopping.


@both_kinds
def test_an_engine_that_stops_lets_what_is_parked_and_what_goes_on_leave(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("sleeps", Sleep(4_000), Step("slept"), is_async=is_async),
        function("woken", Sleep(300), Step("then"), is_async=is_async),
        function("busy", Step("busy", takes_ms=1_000), Sleep(50), Send((event("g"),)), on=["f"], is_async=is_async),
        function("g", on=["g"]),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send(event("e"))
    simulation.run(lambda: [*simulation.states().values()] == ["waiting"] * 2)
    simulation.send(event("f"))
    simulation.run(for_ms=500)
    simulation.engine.stop()
    simulation.run(lambda: not simulation.engine.executing)
    simulation.run(for_ms=1_000)
    assert simulation.pool.executing() == []
    assert [*simulation.states().values()] == ["waiting", "queued", "queued"]
    assert simulation.begun("then") == []
    simulation.restart()
    simulation.run()
    assert [len(simulation.begun(step)) for step in ("slept", "then", "busy")] == [1, 1, 1]
    check(simulation)


def test_what_comes_while_it_stops_is_there_for_the_next_engine(simulate: Simulate) -> None:
    simulation = simulate(function("a", parallel(Await("f", 60_000), Sleep(300)), Step("s")))
    simulation.send()
    simulation.run(for_ms=200)
    simulation.engine.stop()
    simulation.send(event("f"))
    simulation.run(for_ms=5_000)
    assert simulation.states() == {1: "waiting"}
    simulation.restart()
    simulation.run()
    assert simulation.begun("s") == [5_200 + 20]
    assert simulation.outputs(1)["await"] is not None
    check(simulation)


# Steps that change while the run is elsewhere.


@both_kinds
@pytest.mark.parametrize("at_ms", [1_999, 2_000, 2_001])
def test_what_comes_while_a_run_leaves_is_not_lost(simulate: Simulate, at_ms: int, is_async: bool) -> None:
    """The eviction, and an event at the same moment, or as close to it as can be."""
    simulation = simulate(function("a", Await("f", 60_000), Step("s"), is_async=is_async), park_ms=2_000, lag=lambda: 3)
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.states().get(1) == "waiting")
    simulation.run(for_ms=at_ms)
    simulation.send(event("f"))
    at = simulation.clock() - BEGINNING
    simulation.run()
    (begun,) = simulation.begun("s")
    assert begun - at <= 20
    check(simulation)


def test_it_is_over_at_once_when_nothing_more_can_come(simulate: Simulate, park_ms: int) -> None:
    """An engine is idle between two waits, and knows when the next ends."""
    made: list[Function] = [function("a", Sleep(700), Sleep(900)), function("b", Await("f", 1_000))]
    simulation = simulate(*made, slots=4)
    simulation.run()
    simulation.send()
    simulation.run(for_ms=500)
    assert simulation.engine.is_idle()
    assert simulation.engine.next_due == BEGINNING + 20 + 700
    simulation.run()
    assert simulation.rows("SELECT 1 FROM step WHERE due_at IS NOT NULL") == []
    assert simulation.clock() - BEGINNING == 20 + 1_600
