"""Steps that wait for a time or for an event."""

from __future__ import annotations

import pytest

from fanout.engine.loop import EVENTS_A_TICK
from fanout.engine.settings import DEFAULT_PARK_MS
from tests.engine.checker import check
from tests.engine.conftest import NEVER, Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    OK,
    Await,
    Body,
    Function,
    Send,
    Sleep,
    Step,
    What,
    event,
    function,
    parallel,
)
from tests.engine.simulation import Simulation

pytestmark = every_parking


# Sleep.


@both_kinds
@pytest.mark.parametrize("ms", [1, 4_999, 5_000, 5_001, 3_600_000, 366 * 86_400_000])
def test_a_sleep_ends_exactly_on_time(simulate: Simulate, park_ms: int, ms: int, is_async: bool) -> None:
    simulation = simulate(function("a", Step("one"), Sleep(ms), Step("two"), is_async=is_async))
    simulation.send()
    simulation.run()
    assert simulation.begun("two") == [simulation.begun("one")[0] + 1 + ms]
    assert len(simulation.entries(What.LEFT)) == (ms > park_ms)
    assert simulation.outputs(1)["sleep"] is None
    check(simulation)


def test_a_sleep_of_nothing_is_recorded_at_once(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(0), Step("s"), Sleep(-5), Sleep(0)))
    simulation.send()
    simulation.run()
    assert simulation.steps(1) == dict.fromkeys(("sleep", "s", "sleep#2", "sleep#3"), ("completed", 1))
    assert simulation.entries(What.WAITS) == []
    check(simulation)


def test_a_sleeping_run_is_waiting_and_its_step_is_due(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(3_600_000), Step("s")))
    simulation.run()
    now = simulation.clock()
    simulation.send()
    simulation.run(for_ms=1_000)
    assert simulation.rows("SELECT state, due_at, attempt FROM run") == [("waiting", None, 0)]
    assert simulation.rows("SELECT key, kind, state, due_at FROM step") == [
        ("sleep", "sleep", "waiting", now + 3_600_000)
    ]
    assert simulation.engine.is_idle()
    assert simulation.engine.executing == 0
    assert simulation.engine.next_due == now + 3_600_000


@both_kinds
def test_sleeps_survive_a_crash(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(function("a", Sleep(10_000), Step("s"), Sleep(10_000), Step("t"), is_async=is_async))
    simulation.send()
    simulation.run(for_ms=3_000)
    simulation.restart()
    simulation.run(lambda: simulation.begun("s") != [])
    assert simulation.begun("s") == [20 + 10_000]
    simulation.run(for_ms=3_000)
    simulation.restart()
    simulation.run()
    assert simulation.begun("t") == [20 + 10_001 + 10_000]
    check(simulation)


def test_a_sleep_that_ended_while_no_engine_ran_is_over_at_once(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(10_000), Step("s")))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.clock.advance(3_600_000)
    simulation.restart()
    simulation.run()
    assert simulation.begun("s") == [3_601_000 + 20]
    check(simulation)


@both_kinds
def test_parallel_sleeps_end_each_at_its_time(simulate: Simulate, is_async: bool) -> None:
    naps = (100, 7_000, 2_000, 40_000)
    simulation = simulate(
        function(
            "a", parallel(*((Sleep(ms, f"nap{ms}"), Step(f"after{ms}")) for ms in naps)), Step("end"), is_async=is_async
        )
    )
    simulation.run()
    simulation.send()
    simulation.run()
    first = simulation.clock() - 40_000 - 2 - BEGINNING
    for ms in naps:
        assert simulation.begun(f"after{ms}") == [first + ms]
    assert simulation.begun("end") == [first + 40_001]
    check(simulation)


def test_a_thousand_sleepers_wake_on_time(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(60_000), Step("s")), slots=50)
    simulation.run()
    simulation.send(*[event()] * 1_000)
    simulation.run()
    late = [at for at in simulation.begun("s") if at > simulation.begun("s")[0] + 300]
    assert late == []
    assert len(simulation.begun("s")) == 1_000


# Events.


def until_waiting(simulation: Simulation, count: int = 1) -> None:
    simulation.run(lambda: len(simulation.entries(What.WAITS)) >= count)


def after_commits(simulation: Simulation, commits: int) -> None:
    simulation.run(lambda: simulation.faults.commits >= commits)


@both_kinds
def test_an_event_ends_the_wait(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(function("a", Await("paid", 60_000), Step("s"), is_async=is_async))
    simulation.send()
    until_waiting(simulation)
    simulation.run(for_ms=1_000)
    (sent,) = simulation.send(event("paid", amount=3))
    at = simulation.clock()
    simulation.run()
    assert simulation.outputs(1)["await"] == {"id": sent.id, "name": "paid", "ts": at, "data": {"amount": 3}}
    assert simulation.begun("s") == [at - BEGINNING]
    assert simulation.rows("SELECT * FROM wait") == []
    check(simulation)


@both_kinds
@pytest.mark.parametrize("timeout_ms", [2_000, 60_000])
def test_without_an_event_the_wait_ends_with_none_on_time(simulate: Simulate, timeout_ms: int, is_async: bool) -> None:
    simulation = simulate(function("a", Await("paid", timeout_ms), Step("s"), is_async=is_async))
    simulation.run()
    began = simulation.clock() - BEGINNING
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["await"] is None
    assert simulation.begun("s") == [began + timeout_ms]
    assert simulation.rows("SELECT * FROM wait") == []
    check(simulation)


def test_an_event_wakes_exactly_the_runs_that_it_matches(simulate: Simulate) -> None:
    simulation = simulate(
        function("by-user", Await("paid", 60_000, match="data.user"), on=["e"]),
        function("by-value", Await("paid", 60_000, if_="async.data.amount > 10 && event.data.user == 2"), on=["e"]),
        function("any", Await("paid", 60_000), on=["f"]),
        function("other", Await("refunded", 60_000), on=["e"]),
        slots=20,
    )
    simulation.send(*[event("e", user=number) for number in (1, 2, 3)], event("f"))
    until_waiting(simulation, 10)
    simulation.run(for_ms=100)
    simulation.send(event("paid", user=2, amount=5))
    simulation.run(for_ms=1_000)
    done = "SELECT function, json_extract(data, '$.user') FROM run JOIN event ON event = event.key WHERE state = ?"
    assert {*simulation.rows(done, "completed")} == {("by-user", 2), ("any", None)}
    simulation.send(event("paid", user=4, amount=50))
    simulation.run(for_ms=1_000)
    assert {*simulation.rows(done, "completed")} == {("by-user", 2), ("any", None), ("by-value", 2)}
    simulation.send(event("paid", user=1.0, amount=5), event("paid", amount=1), event("refunded"))
    simulation.run(for_ms=1_000)
    assert {*simulation.rows(done, "waiting")} == {("by-user", 3), ("by-value", 1), ("by-value", 3)}
    simulation.run()
    check(simulation)


def test_one_event_ends_all_the_waits_that_it_matches(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", parallel(Await("f", 60_000), Await("f", 60_000, name="also"), Await("g", 5_000, name="not")))
    )
    simulation.send(*[event()] * 3)
    until_waiting(simulation, 9)
    simulation.send(event("f"))
    simulation.run()
    for run in (1, 2, 3):
        outputs = simulation.outputs(run)
        assert outputs["await"] == outputs["also"]
        assert outputs["await"]["name"] == "f"
        assert outputs["not"] is None
    check(simulation)


def test_of_two_events_the_first_ends_the_wait(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 60_000), Await("f", 60_000)))
    simulation.send()
    until_waiting(simulation)
    simulation.run(for_ms=200)
    # The second wait is recorded after both.
    simulation.send(event("f", n=1), event("f", n=2))
    simulation.run(for_ms=200)
    simulation.send(event("f", n=3))
    simulation.run()
    outputs = simulation.outputs(1)
    assert [outputs[key]["data"]["n"] for key in ("await", "await#2")] == [1, 3]
    check(simulation)


def test_an_event_that_was_accepted_before_the_wait_was_recorded_is_not_seen(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=50), Await("f", 1_000)))
    simulation.send(event("f"), event("e"), event("f"))
    simulation.run(lambda: simulation.begun("s") != [])
    simulation.send(event("f"))
    simulation.run()
    assert simulation.outputs(1)["await"] is None
    check(simulation)


def test_an_event_that_was_accepted_before_is_not_seen_however_late_it_is_routed(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 1_000)))
    simulation.run()
    simulation.send(event("e"), *[event("other")] * EVENTS_A_TICK * 2, event("f"))
    simulation.run()
    assert simulation.outputs(1)["await"] is None
    check(simulation)


def test_what_a_run_has_sent_itself_before_it_waits_is_not_seen(simulate: Simulate) -> None:
    simulation = simulate(function("a", Send((event("f"),)), Await("f", 1_000)))
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["await"] is None
    check(simulation)


def test_an_event_is_seen_if_it_comes_between_the_commit_of_the_wait_and_the_one_that_ends_it(
    simulate: Simulate,
) -> None:
    script = (Step("s"), Await("f", 1_000), Step("t"))
    quiet = simulate(function("a", *script))
    quiet.send()
    quiet.run()
    seen = []
    for commits in range(3, quiet.faults.commits + 1):
        simulation = simulate(function("a", *script))
        simulation.send()
        after_commits(simulation, commits)
        simulation.send(event("f"))
        simulation.run()
        seen.append(simulation.outputs(1)["await"] is not None)
        check(simulation)
    # After the commits of the run, of the step with the wait, of the wait's end, of the other step with the end.
    assert seen == [False, True, False, False]


def test_an_event_at_the_last_moment_counts_and_one_after_it_does_not(simulate: Simulate) -> None:
    for late, is_seen in ((0, True), (1, False), (90, False)):
        simulation = simulate(function("a", Await("f", 1_000)))
        simulation.send()
        until_waiting(simulation)
        simulation.run(for_ms=100)
        simulation.clock.now = simulation.entries(What.WAITS)[0].at + 1_000 + late
        simulation.send(event("f"))
        simulation.run()
        assert (simulation.outputs(1)["await"] is not None) is is_seen, late
        check(simulation)


@pytest.mark.parametrize(("after_ms", "is_seen"), [(500, True), (1_500, False)], ids=["in time", "late"])
def test_what_came_while_no_engine_ran_counts_if_it_was_in_time(
    simulate: Simulate, after_ms: int, is_seen: bool
) -> None:
    simulation = simulate(function("a", Await("f", 1_000)))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=200)
    simulation.pool.drop()
    simulation.clock.advance(after_ms - 200)
    simulation.send(event("f"))
    simulation.clock.advance(3_600_000)
    simulation.restart()
    simulation.run()
    assert (simulation.outputs(1)["await"] is not None) is is_seen
    check(simulation)


def test_a_wait_outlives_a_crash_and_still_sees_what_comes(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 60_000), Step("s")))
    simulation.send()
    until_waiting(simulation)
    simulation.restart()
    simulation.send(event("f"))
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "completed"}
    check(simulation)


@both_kinds
def test_an_event_counts_while_another_branch_is_busy(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function(
            "a",
            parallel((Await("f", 60_000), Step("then")), Step("busy", takes_ms=400), (Body(takes_ms=50), Step("c"))),
            is_async=is_async,
        )
    )
    simulation.send()
    until_waiting(simulation)
    simulation.run(for_ms=50)
    simulation.send(event("f"))
    at = simulation.clock() - BEGINNING
    simulation.run()
    assert simulation.begun("then") == [at]
    check(simulation)


@both_kinds
def test_a_run_whose_branches_sleep_wait_and_retry_comes_back_to_the_same_result(
    simulate: Simulate, park_ms: int, is_async: bool
) -> None:
    def branches() -> Function:
        return function(
            "a",
            Step("before"),
            parallel(
                (Sleep(20_000), Step("slept")),
                (Await("f", 60_000, match="data.user"), Step("heard")),
                (Step("retried", (FAIL, FAIL, OK)), Step("tried")),
                (Await("g", 30_000, name="in vain"), Send((event("h"),)), Sleep(5_000)),
            ),
            Step("after"),
            backoff=(6.0, 9.0),
            is_async=is_async,
        )

    simulation = simulate(branches(), function("h", Step("h"), on=["h"]))
    simulation.send(event(user=7))
    simulation.run(for_ms=25_000)
    simulation.send(event("f", user=8), event("f", user=7))
    simulation.run()
    assert simulation.outputs(1)["await"]["data"] == {"user": 7}
    assert simulation.outputs(1)["in vain"] is None
    assert len(simulation.begun("retried")) == 3
    assert [len(simulation.begun(step)) for step in ("before", "slept", "heard", "tried", "after", "h")] == [1] * 6
    # The other run's, and this one's: at first, and at most for each of the six times at which something comes.
    assert len(simulation.entries(What.START)) == {0: 8, DEFAULT_PARK_MS: 5, NEVER: 2}[park_ms]
    check(simulation)


def test_what_was_in_time_counts_however_many_events_are_before_it(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 1_000)))
    simulation.run()
    simulation.send()
    simulation.run(for_ms=200)
    simulation.pool.drop()
    simulation.send(*[event("other")] * EVENTS_A_TICK * 2, event("f"))
    simulation.clock.advance(3_600_000)
    simulation.restart()
    simulation.run()
    assert simulation.outputs(1)["await"] is not None
    check(simulation)


def test_an_event_without_a_nudge_is_in_time_too(simulate: Simulate) -> None:
    simulation = simulate(function("a", Await("f", 1_030)))
    simulation.send()
    until_waiting(simulation)
    due_at = simulation.entries(What.WAITS)[0].at + 1_030
    simulation.run(for_ms=due_at - 1 - simulation.clock())
    simulation.send(event("f"))
    simulation.bell.is_rung = False
    simulation.run()
    assert simulation.outputs(1)["await"] is not None
    check(simulation)
