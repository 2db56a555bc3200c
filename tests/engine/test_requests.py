"""What other processes ask for: cancel and replay."""

from __future__ import annotations

import pytest

from fanout.protocol import Start
from tests.engine.checker import check_history
from tests.engine.conftest import Simulate, every_parking
from tests.engine.scripts import FATAL, FOREVER, OK, Body, Step, event, function
from tests.engine.simulation import Simulation

pytestmark = every_parking


def all_handled(simulation: Simulation) -> bool:
    return simulation.rows("SELECT key FROM request WHERE handled_at IS NULL") == []


# Cancel.


def test_a_queued_run_is_cancelled_and_never_starts(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=50)), processes=1, slots=1)
    simulation.send(event(), event(), event())
    simulation.run(lambda: simulation.begun() != [])
    simulation.cancel(2)
    simulation.run()
    assert simulation.states() == {1: "completed", 2: "cancelled", 3: "completed"}
    assert len(simulation.begun()) == 2
    assert all_handled(simulation)


def test_a_run_beyond_the_window_is_cancelled_too(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), processes=1, slots=50)
    simulation.send(*[event()] * 1_500)
    simulation.run(lambda: len(simulation.states()) == 1_500)
    simulation.cancel(1_400, 1_500)
    simulation.run()
    assert {run for run, state in simulation.states().items() if state == "cancelled"} == {1_400, 1_500}
    assert len(simulation.begun()) == 1_498


def test_a_waiting_run_is_cancelled_and_its_time_means_nothing_then(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")))
    simulation.run()
    simulation.send(event(ts=simulation.clock() + 5_000))
    simulation.run(for_ms=1_000)
    simulation.cancel(1)
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "cancelled"}
    simulation.run(for_ms=10_000)
    assert simulation.engine.next_due is None
    assert simulation.engine.is_idle()
    assert simulation.begun() == []


def test_a_run_that_is_due_in_the_tick_of_its_cancelling_never_starts(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")))
    simulation.run()
    simulation.send(event(ts=simulation.clock() + 5_000), event(ts=simulation.clock() + 5_000))
    simulation.run(lambda: len(simulation.states()) == 2)
    simulation.clock.advance(5_000)
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled", 2: "completed"}
    assert simulation.engine.is_idle()


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("outcome", [OK, FATAL], ids=["completes", "fails"])
@pytest.mark.parametrize("rest", [(), (Step("next"),), (Body(takes_ms=30), Step("next"))], ids=["end", "step", "body"])
def test_an_executing_run_is_cancelled_and_its_step_in_flight_is_dropped(
    simulate: Simulate, is_async: bool, outcome: None, rest: tuple[Step | Body, ...]
) -> None:
    simulation = simulate(
        function("a", Step("first"), Step("flying", (outcome,), takes_ms=100), *rest, is_async=is_async),
        function("b", Step("s"), on=["f"]),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun("flying") != [])
    simulation.cancel(1)
    simulation.run(for_ms=50)
    assert simulation.states() == {1: "cancelled"}
    simulation.run()
    assert simulation.steps(1) == {"first": ("completed", 1)}
    assert simulation.begun("next") == []
    assert simulation.failures(1) == []
    # Its slot is free again.
    simulation.send(event("f"))
    simulation.run()
    assert simulation.states() == {1: "cancelled", 2: "completed"}
    check_history(simulation)


def test_a_run_that_is_cancelled_while_a_result_is_on_its_way_drops_it(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=10), Step("t")))
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun("s") != [])
    simulation.clock.advance(10)
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    assert simulation.steps(1) == {}
    assert simulation.begun("t") == []
    assert simulation.engine.executing == 0


def test_a_run_that_ends_in_the_tick_of_its_cancelling_is_cancelled(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=10)))
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun("s") != [])
    simulation.clock.advance(10)
    simulation.cancel(1)
    simulation.run()
    assert simulation.rows("SELECT state, output FROM run") == [("cancelled", None)]
    assert simulation.engine.executing == 0


def test_cancelling_what_has_ended_or_never_was_changes_nothing(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), function("b", Step("s", (FATAL,))))
    simulation.send()
    simulation.run()
    before = simulation.rows("SELECT * FROM run")
    simulation.cancel(1, 2, 99)
    simulation.run()
    assert simulation.rows("SELECT * FROM run") == before
    assert all_handled(simulation)


@pytest.mark.parametrize("requests", [[(2, 2)], [(2,), (2,)], [(2, 1), (1, 2)]], ids=["in one", "in two", "crossed"])
def test_cancelling_twice_at_once_is_cancelling_once(simulate: Simulate, requests: list[tuple[int, ...]]) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=50), Step("t")), processes=1, slots=1)
    simulation.send(event(), event())
    simulation.run(lambda: simulation.begun() != [])
    for runs in requests:
        simulation.cancel(*runs)
    simulation.run()
    assert simulation.state(2) == "cancelled"
    assert all_handled(simulation)


def test_cancelling_a_waiting_run_twice_at_once_is_cancelling_it_once(simulate: Simulate) -> None:
    simulation = simulate(function("a"))
    simulation.run()
    simulation.send(event(ts=simulation.clock() + 5_000))
    simulation.run(for_ms=200)
    simulation.cancel(1)
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled"}


def test_a_suspect_is_cancelled_while_it_waits_for_its_worker(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=FOREVER)),
        *[function(f"i{n}", Step("slow", takes_ms=400)) for n in range(3)],
        function("other", Step("s"), on=["f"]),
        processes=1,
        slots=4,
    )
    simulation.send()
    simulation.run(lambda: simulation.begun("slow")[3:] != [])
    simulation.cancel(3, 4)
    simulation.send(*[event("f")] * 6)
    simulation.run()
    assert [*simulation.states().values()] == ["failed", "completed", "cancelled", "cancelled", *["completed"] * 6]


def test_a_run_without_code_is_cancelled(simulate: Simulate) -> None:
    a, b = function("a", Step("s", takes_ms=50)), function("b", Step("s"))
    simulation = simulate(a, b, processes=1, slots=1)
    simulation.send()
    simulation.run(lambda: simulation.begun() != [])
    simulation.restart(a)
    simulation.run()
    simulation.cancel(2)
    simulation.run()
    assert simulation.states() == {1: "completed", 2: "cancelled"}
    simulation.restart(a, b)
    simulation.run()
    assert simulation.states() == {1: "completed", 2: "cancelled"}
    assert simulation.engine.stranded() == set()


@pytest.mark.parametrize("linger", [True, False])
def test_a_cancelled_run_stays_so_after_a_crash(simulate: Simulate, linger: bool) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=100), Step("t")))
    simulation.faults.linger = linger
    simulation.run()
    simulation.send()
    simulation.run(for_ms=50)
    simulation.cancel(1)
    simulation.run(lambda: simulation.states() == {1: "cancelled"})
    simulation.restart()
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    assert simulation.begun("t") == []


# Replay.


def broken_and_mended() -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    first = (Step("one"), Step("two"))
    return (*first, Step("three", (FATAL,))), (*first, Step("three"), Step("four"))


def failed_run(simulate: Simulate) -> Simulation:
    """Run 1 of `a` has failed at its third step, and the code has been mended since."""
    broken, mended = broken_and_mended()
    simulation = simulate(function("a", *broken), function("b", Step("s")))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "failed", 2: "completed"}
    simulation.restart(function("a", *mended), function("b", Step("s")))
    return simulation


def test_a_replay_is_a_new_run_with_the_completed_steps_of_the_old(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    before = simulation.rows("SELECT * FROM run WHERE key <= 2")
    simulation.replay(1)
    simulation.run()
    assert simulation.rows("SELECT function, event, state, replay_of, attempt FROM run WHERE key > 2") == [
        ("a", 1, "completed", 1, 0)
    ]
    assert simulation.rows("SELECT * FROM run WHERE key <= 2") == before
    assert simulation.steps(3) == dict.fromkeys(("one", "two", "three", "four"), ("completed", 1))
    assert simulation.steps(1)["three"] == ("failed", 1)
    assert [len(simulation.begun(step)) for step in ("one", "two", "three", "four")] == [1, 1, 2, 1]
    outputs = "SELECT output FROM step WHERE run = ? AND key IN ('one', 'two') ORDER BY key"
    assert simulation.rows(outputs, 3) == simulation.rows(outputs, 1)
    (start,) = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    assert [each.key for each in start.steps] == ["one", "two"]
    check_history(simulation)


def test_a_run_that_was_replayed_is_left_out_of_a_second_replay(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    simulation.replay(1)
    simulation.run()
    simulation.replay(1)
    simulation.run()
    assert simulation.rows("SELECT key FROM run WHERE replay_of = 1") == [(3,)]
    assert all_handled(simulation)


def test_a_run_that_is_being_replayed_is_left_out_too(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    simulation.replay(1)
    simulation.run(lambda: simulation.begun("four") != [])
    simulation.replay(1)
    simulation.run()
    assert simulation.rows("SELECT key FROM run WHERE replay_of = 1") == [(3,)]


@pytest.mark.parametrize("requests", [[(1, 1)], [(1,), (1,)]], ids=["in one", "in two"])
def test_two_replays_at_once_make_one_run(simulate: Simulate, requests: list[tuple[int, ...]]) -> None:
    simulation = failed_run(simulate)
    for runs in requests:
        simulation.replay(*runs)
    simulation.run()
    assert simulation.rows("SELECT key FROM run WHERE replay_of = 1") == [(3,)]


def test_again_makes_another_replay(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    for _ in range(3):
        simulation.replay(1, again=True)
        simulation.run()
    assert simulation.rows("SELECT key, state FROM run WHERE replay_of = 1") == [
        (key, "completed") for key in (3, 4, 5)
    ]


def test_a_replay_that_was_cancelled_does_not_count(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    simulation.replay(1)
    simulation.run(lambda: simulation.states().get(3) is not None)
    simulation.cancel(3)
    simulation.run()
    assert simulation.state(3) == "cancelled"
    simulation.replay(1)
    simulation.run()
    assert simulation.state(4) == "completed"


def test_a_live_or_unknown_run_is_not_replayed(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=100)))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=50)
    simulation.replay(1, 99)
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert all_handled(simulation)


def test_a_replay_of_a_function_that_is_not_in_the_code_makes_no_run(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    simulation.restart(function("b", Step("s")))
    simulation.replay(1, 2)
    simulation.run()
    assert simulation.rows("SELECT key, replay_of FROM run WHERE key > 2") == [(3, 2)]
    assert all_handled(simulation)


def test_a_replay_of_a_replay_links_to_it(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    simulation.replay(1)
    simulation.run()
    simulation.replay(3)
    simulation.run()
    assert simulation.rows("SELECT key, replay_of FROM run WHERE key > 2") == [(3, 1), (4, 3)]
    assert len(simulation.begun("four")) == 1


def test_a_replay_of_an_event_with_a_future_ts_does_not_wait_again(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")))
    simulation.run()
    simulation.send(event(ts=simulation.clock() + 100_000))
    simulation.run(for_ms=200)
    simulation.cancel(1)
    simulation.run(for_ms=200)
    simulation.replay(1)
    simulation.run(for_ms=200)
    assert simulation.states() == {1: "cancelled", 2: "completed"}


def test_more_requests_than_one_tick_takes(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    for _ in range(50):
        simulation.replay(1, again=True)
    simulation.run()
    assert len(simulation.rows("SELECT key FROM run WHERE replay_of = 1 AND state = 'completed'")) == 50


def test_a_request_is_answered_once_whatever_dies(simulate: Simulate) -> None:
    simulation = failed_run(simulate)
    first = simulation.faults.commits
    for where in ("before", "after"):
        for number in range(1, 6):
            again = failed_run(simulate)
            setattr(again.faults, where, frozenset({again.faults.commits + number}))
            again.replay(1)
            again.run()
            assert again.rows("SELECT state, replay_of FROM run WHERE key > 2") == [("completed", 1)]
            check_history(again)
    assert first
