"""What ends a run from outside: events that cancel it, and the end of its parent."""

from __future__ import annotations

import pytest

from fanout.engine.loop import EVENTS_A_TICK
from fanout.model import CancelRule
from tests.engine.checker import check, check_fan_out, check_history, check_over
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    FAIL,
    OK,
    Await,
    Body,
    Invoke,
    Map,
    Script,
    Send,
    Sleep,
    Step,
    event,
    function,
    items,
    parallel,
)

pytestmark = every_parking
STOP = (CancelRule("stop"),)


# Events that cancel.


@both_kinds
@pytest.mark.parametrize(
    "script",
    [
        (Step("one", takes_ms=2_000), Step("after")),
        (Sleep(60_000), Step("after")),
        (Await("f", 60_000), Step("after")),
        (Step("one", (FAIL, OK)), Step("after")),
        (Body((FAIL, OK)), Step("after")),
        (Invoke("child"), Step("after")),
        (Map("child", items(of=5), max_in_flight=2), Step("after")),
        (parallel(Sleep(60_000), Step("one", takes_ms=2_000), (Step("two"), Step("three", (FAIL, OK)))), Step("after")),
    ],
    ids=["step", "sleep", "wait", "retry", "body", "invoke", "map", "parallel"],
)
def test_an_event_cancels_a_run_wherever_it_is(simulate: Simulate, script: Script, is_async: bool) -> None:
    simulation = simulate(
        function("a", *script, cancel_on=STOP, backoff=(10.0,), is_async=is_async),
        function("child", Sleep(30_000), Step("in child"), on=[]),
    )
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.send(event("stop"))
    simulation.run(for_ms=100)
    assert simulation.state(1) == "cancelled"
    simulation.run()
    assert set(simulation.states().values()) == {"cancelled"}
    assert simulation.begun("after") == []
    assert simulation.begun("in child") == []
    assert {state for state, _ in simulation.steps(1).values()} <= {"completed", "cancelled", "running"}
    assert simulation.engine.is_idle()
    assert simulation.pool.executing() == []
    check_over(simulation)
    check_history(simulation)


def test_an_event_cancels_exactly_the_runs_that_it_matches(simulate: Simulate) -> None:
    rules = (
        CancelRule("stop", match="data.user"),
        CancelRule("stop", if_="async.data.all == true"),
        CancelRule("halt", match="data.user", if_="async.data.force && event.data.user > 1"),
        CancelRule("brief", timeout_ms=5_000),
    )
    simulation = simulate(
        function("a", Sleep(3_600_000), cancel_on=rules), function("b", Sleep(3_600_000), on=["e"]), slots=20
    )
    simulation.send(*[event(user=number) for number in range(5)])
    simulation.run(for_ms=1_000)

    def cancelled(*events: object) -> set[int]:
        simulation.send(*events)  # type: ignore[arg-type]
        simulation.run(for_ms=1_000)
        found = simulation.rows(
            "SELECT json_extract(data, '$.user') FROM run JOIN event ON event = event.key WHERE state = 'cancelled'"
        )
        return {user for (user,) in found}

    assert cancelled(event("stop", user=9), event("stop"), event("stop", user="1")) == set()
    assert cancelled(event("stop", user=3)) == {3}
    assert cancelled(event("halt", user=1, force=True), event("halt", user=2)) == {3}
    assert cancelled(event("halt", user=2, force=True)) == {2, 3}
    simulation.run(for_ms=5_000)
    assert cancelled(event("brief")) == {2, 3}
    assert cancelled(event("stop", all=False), event("stop", all=True)) == {0, 1, 2, 3, 4}
    assert simulation.rows("SELECT DISTINCT function FROM run WHERE state = 'cancelled'") == [("a",)]


def test_the_trigger_and_what_cancels_it_in_the_same_batch(simulate: Simulate) -> None:
    """What comes before the trigger means nothing to its run; what comes after it cancels it."""
    simulation = simulate(function("a", Sleep(60_000), cancel_on=STOP))
    simulation.send(event("stop"), event("e"), event("e"), event("stop"), event("e"))
    simulation.run()
    assert [*simulation.states().values()] == ["cancelled", "cancelled", "completed"]
    check(simulation, cancelled={1, 2})


def test_an_event_that_both_starts_and_cancels_leaves_the_newest(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(60_000), cancel_on=(CancelRule("e", match="data.user"),)))
    simulation.send(*[event(user=user) for user in (1, 1, 2, 1, 2)])
    simulation.run()
    assert [*simulation.states().values()] == ["cancelled", "cancelled", "cancelled", "completed", "completed"]
    check(simulation, cancelled={1, 2, 3})


def test_what_cancels_is_heard_however_long_the_queue_of_events(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(60_000), cancel_on=STOP))
    many = [event("other")] * EVENTS_A_TICK
    simulation.send(event("stop"), *many, event("e"), *many, event("stop"), *many, event("e"))
    simulation.run()
    assert [*simulation.states().values()] == ["cancelled", "completed"]
    check(simulation, cancelled={1})


def test_a_rule_ends_with_its_time(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(60_000), cancel_on=(CancelRule("stop", timeout_ms=5_000),)))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=5_000)
    simulation.clock.advance(1)
    simulation.send(event("stop"))
    simulation.run()
    assert simulation.states() == {1: "completed"}
    check(simulation)


@pytest.mark.parametrize(("after_ms", "state"), [(4_000, "cancelled"), (6_000, "completed")], ids=["in time", "late"])
def test_what_came_while_no_engine_ran_cancels_if_it_was_in_time(simulate: Simulate, after_ms: int, state: str) -> None:
    simulation = simulate(function("a", Sleep(60_000), cancel_on=(CancelRule("stop", timeout_ms=5_000),)))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=200)
    simulation.pool.drop()
    simulation.clock.advance(after_ms - 200)
    simulation.send(event("stop"))
    simulation.clock.advance(3_000)
    simulation.restart()
    simulation.run()
    assert simulation.states() == {1: state}


def test_a_delayed_run_and_a_queued_one_are_cancelled_before_they_start(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s"), cancel_on=STOP),
        function("b", Step("busy", takes_ms=5_000), on=["busy"]),
        processes=1,
        slots=1,
    )
    simulation.send(event("busy"), event(ts=simulation.clock() + 3_000))
    simulation.run(for_ms=100)
    simulation.send(event())
    simulation.run(for_ms=100)
    simulation.send(event("stop"))
    simulation.run()
    assert [*simulation.states().values()] == ["completed", "cancelled", "cancelled"]
    assert simulation.begun("s") == []
    check(simulation, cancelled={2, 3})


def test_an_event_that_a_run_sends_can_cancel_the_run_itself(simulate: Simulate) -> None:
    simulation = simulate(function("a", Send((event("stop"),)), Step("s", takes_ms=500), Step("never"), cancel_on=STOP))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    assert simulation.begun("never") == []
    check(simulation, cancelled={1})


def test_when_an_event_cancels_a_run_that_waits_for_it_the_run_is_cancelled(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("stop", 60_000), Step("s"), cancel_on=STOP))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.send(event("stop"))
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    assert simulation.begun() == []
    check_over(simulation)


def test_a_run_that_has_ended_is_not_cancelled(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s"), cancel_on=STOP))
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT * FROM wait") == []
    simulation.send(event("stop"))
    simulation.run()
    assert simulation.states() == {1: "completed"}


def test_rules_survive_a_crash(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=1_000), Step("t"), cancel_on=STOP))
    simulation.send()
    simulation.run(for_ms=500)
    simulation.restart()
    simulation.run(for_ms=500)
    simulation.send(event("stop"))
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    check(simulation, cancelled={1})


def test_a_replay_is_cancelled_by_what_comes_after_it_and_not_by_what_came_before(simulate: Simulate) -> None:
    simulation = simulate(function("a", Body(takes_ms=1_000), Step("s"), cancel_on=STOP))
    simulation.send()
    simulation.run()
    simulation.send(*[event("other")] * EVENTS_A_TICK, event("stop"))
    simulation.replay(1)
    simulation.run()
    simulation.replay(1, again=True)
    simulation.run(for_ms=500)
    simulation.send(event("stop"))
    simulation.run()
    assert simulation.rows("SELECT state FROM run WHERE replay_of = 1") == [("completed",), ("cancelled",)]


# Parents and children.


@both_kinds
def test_a_cancelled_parent_cancels_all_below_it(simulate: Simulate, is_async: bool) -> None:
    """A step in flight ends, and its result is dropped, however deep it is."""
    simulation = simulate(
        function("a", parallel(Invoke("b"), Map("c", items(of=6), max_in_flight=3)), is_async=is_async),
        function("b", Invoke("c"), Step("after"), on=[], is_async=is_async),
        function("c", Step("flying", takes_ms=2_000), Step("after"), on=[], is_async=is_async),
        function("d", Step("s", takes_ms=3_000)),
        processes=2,
        slots=2,
    )
    simulation.send()
    simulation.run(lambda: len(simulation.begun("flying")) >= 3)
    simulation.cancel(1)
    simulation.run(for_ms=100)
    states = dict(simulation.rows("SELECT function, group_concat(DISTINCT state) FROM run GROUP BY function"))
    assert {name: states[name] for name in "abc"} == dict.fromkeys("abc", "cancelled")
    simulation.run()
    assert simulation.begun("after") == []
    assert [step for (step,) in simulation.rows("SELECT key FROM step WHERE state = 'completed'")] == ["s"]
    check_over(simulation)
    check_fan_out(simulation)
    check_history(simulation)


def test_a_child_that_is_cancelled_in_the_tick_in_which_it_is_made(simulate: Simulate) -> None:
    """The items of a map, when the request comes in the tick that would have made more of them."""
    for at in range(0, 40, 2):
        simulation = simulate(
            function("a", Step("s"), Map("c", items(of=20, takes_ms=3), max_in_flight=4), Step("t")),
            function("c", Step("s", takes_ms=1), on=[]),
            slots=8,
        )
        simulation.run()
        simulation.send()
        simulation.run(for_ms=at)
        was_over = simulation.states() != {} and simulation.state(1) == "completed"
        simulation.cancel(1)
        simulation.run()
        check_over(simulation)
        check_history(simulation)
        assert simulation.state(1) == ("completed" if was_over else "cancelled")
        assert set(simulation.states().values()) <= {"completed", "cancelled"}


def test_a_failing_parent_leaves_its_children_alone(simulate: Simulate) -> None:
    """All branches of a parallel come to their end before the failure counts."""
    simulation = simulate(
        function("a", parallel(Invoke("c"), Step("s", (FAIL,))), retries=0),
        function("c", Sleep(1_000), Step("t"), on=[]),
    )
    simulation.send()
    simulation.run()
    assert [*simulation.states().values()] == ["failed", "completed"]
    check(simulation)


@pytest.mark.parametrize("linger", [True, False])
def test_a_cancelled_family_stays_so_after_a_crash(simulate: Simulate, linger: bool) -> None:
    simulation = simulate(
        function("a", Map("c", items(of=3)), Step("t")),
        function("c", Sleep(10_000), Step("t"), on=[]),
    )
    simulation.faults.linger = linger
    simulation.send()
    simulation.run(for_ms=500)
    simulation.cancel(1)
    simulation.run(lambda: simulation.state(1) == "cancelled")
    simulation.restart()
    simulation.run()
    assert set(simulation.states().values()) == {"cancelled"}
    assert simulation.begun("t") == []
    check_over(simulation)
