"""Time limits: of the time in the queue, of a whole run, of one attempt of a step."""

from __future__ import annotations

import pytest

from fanout.engine.deadlines import LEAVING_GRACE_MS, TASK_GRACE_MS
from fanout.model import TimeLimits
from fanout.protocol import Start
from tests.engine.checker import check, check_fan_out, check_history, check_over, check_run
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    HANG,
    OK,
    Await,
    Body,
    Invoke,
    Map,
    Script,
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


def ends(simulation: Simulation) -> list[tuple[str, str | None, int]]:
    """(state, reason, when) of all runs."""
    found = simulation.rows("SELECT state, reason, ended_at FROM run ORDER BY key")
    return [(state, reason, ended_at - BEGINNING) for state, reason, ended_at in found]


# In the queue.


def test_a_run_that_is_not_started_in_time_fails(simulate: Simulate) -> None:
    simulation = simulate(
        function("busy", Step("s", takes_ms=10_000)),
        function("late", Step("t"), on=["f"], timeouts=TimeLimits(start_ms=3_000)),
        processes=1,
        slots=1,
    )
    simulation.run()
    simulation.send()
    simulation.run(for_ms=100)
    simulation.send(event("f"))
    simulation.run()
    sent_at = simulation.accepted[1]
    assert sent_at.name == "f"
    assert ends(simulation)[1] == ("failed", "timed out", 120 + 3_000)
    assert simulation.messages(2) == [("", "TimeoutError", "it was not started within 3 s")]
    assert simulation.begun("t") == []
    check_over(simulation)
    check_fan_out(simulation)


@both_kinds
@pytest.mark.parametrize(
    "script",
    [(Step("s", takes_ms=9_000),), (Sleep(9_000), Step("s")), (Step("s", (FAIL, OK)),), (Body((FAIL, OK)), Step("s"))],
    ids=["step", "sleep", "retry", "body"],
)
def test_the_limit_of_the_queue_means_nothing_once_a_run_has_started(
    simulate: Simulate, script: Script, is_async: bool
) -> None:
    simulation = simulate(
        function("a", *script, backoff=(9.0,), is_async=is_async, timeouts=TimeLimits(start_ms=3_000))
    )
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    check(simulation)


def test_the_time_in_the_queue_of_a_delayed_run_begins_when_it_is_due(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s"), timeouts=TimeLimits(start_ms=3_000)))
    simulation.send(event(ts=BEGINNING + 60_000))
    simulation.run()
    assert simulation.states() == {1: "completed"}


def test_a_run_whose_code_is_gone_is_not_started_in_time(simulate: Simulate) -> None:
    a, b = function("a", Step("s"), timeouts=TimeLimits(start_ms=3_000)), function("b", Step("t", takes_ms=50))
    simulation = simulate(b, a, processes=1, slots=1)
    simulation.send()
    simulation.run(lambda: simulation.begun("t") != [])
    simulation.restart(b)
    simulation.run()
    assert ends(simulation)[1][:2] == ("failed", "timed out")
    check_over(simulation)


# Of a whole run.


@both_kinds
@pytest.mark.parametrize(
    "script",
    [
        (Sleep(60_000),),
        (Await("f", 60_000),),
        (Step("s", (FAIL, OK)),),
        (Body((FAIL, OK)),),
        (parallel(Sleep(60_000), (Step("s", (FAIL, OK)), Sleep(1))),),
    ],
    ids=["sleep", "wait", "retry", "body", "parallel"],
)
def test_a_run_that_waits_when_its_time_is_over_fails_on_time(
    simulate: Simulate, script: Script, is_async: bool
) -> None:
    simulation = simulate(
        function("a", *script, Step("never"), backoff=(60.0,), is_async=is_async, timeouts=TimeLimits(finish_ms=20_000))
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert ends(simulation) == [("failed", "timed out", 20 + 20_000)]
    assert simulation.messages(1)[-1] == ("", "TimeoutError", "it did not end within 20 s")
    assert simulation.begun("never") == []
    assert simulation.pool.executing() == []
    check_over(simulation)
    check_history(simulation)


@both_kinds
def test_the_step_in_flight_of_a_run_whose_time_is_over_ends_and_is_dropped(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Step("one", takes_ms=800), Step("two", takes_ms=800), Step("three"), is_async=is_async,
                 timeouts=TimeLimits(finish_ms=1_000)),
        function("b", Step("s", takes_ms=5_000)),
        processes=1,
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run()
    assert ends(simulation)[0] == ("failed", "timed out", 20 + 1_000)
    assert simulation.steps(1)["one"] == ("completed", 1)
    assert simulation.steps(1).get("two") is None
    assert simulation.begun("three") == []
    assert simulation.entries(What.KILLED) == []
    assert simulation.state(2) == "completed"
    check_over(simulation)


@both_kinds
def test_a_worker_with_a_step_that_goes_on_long_after_its_run_had_ended_is_killed(
    simulate: Simulate, is_async: bool
) -> None:
    simulation = simulate(
        function("a", Step("hangs", (HANG,)), is_async=is_async, timeouts=TimeLimits(finish_ms=1_000)),
        function("b", Step("before"), Step("s", takes_ms=30_000)),
        processes=1,
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert ends(simulation)[0] == ("failed", "timed out", 20 + 1_000)
    assert [each.at - BEGINNING for each in simulation.entries(What.KILLED)] == [20 + 1_000 + LEAVING_GRACE_MS]
    # The neighbour does its step once more, uncharged and unsuspected.
    assert [len(simulation.begun(step)) for step in ("before", "s")] == [1, 2]
    assert simulation.rows("SELECT state, crashes, is_suspect FROM run WHERE key = 2") == [("completed", 0, 0)]
    assert simulation.failures(2) == []
    check_over(simulation)


@both_kinds
def test_the_limit_counts_from_the_first_start_over_evictions_retries_and_crashes(
    simulate: Simulate, is_async: bool
) -> None:
    simulation = simulate(
        function(
            "a", Step("s", takes_ms=3_000), Sleep(8_000), Body((FAIL, OK)), Step("t", (FAIL, OK)), Sleep(60_000),
            backoff=(2.0,), is_async=is_async, timeouts=TimeLimits(finish_ms=20_000),
        )
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run(for_ms=5_000)
    simulation.restart()
    simulation.run(for_ms=7_000)
    simulation.pool.lose(next(iter(simulation.pool.workers)))
    simulation.run()
    assert ends(simulation) == [("failed", "timed out", 20 + 20_000)]
    check_over(simulation)


def test_a_deadline_that_passed_while_no_engine_ran(simulate: Simulate) -> None:
    simulation = simulate(function("a", Sleep(60_000), Step("s"), timeouts=TimeLimits(finish_ms=20_000)))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.clock.advance(100_000)
    simulation.restart()
    simulation.run()
    assert ends(simulation)[0][:2] == ("failed", "timed out")
    assert simulation.begun("s") == []
    check_over(simulation)


@both_kinds
def test_children_of_a_run_whose_time_is_over_are_cancelled(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function(
            "a",
            parallel(Invoke("b"), Map("c", items(of=4), 2)),
            is_async=is_async,
            timeouts=TimeLimits(finish_ms=2_000),
        ),
        function("b", Invoke("c"), on=[]),
        function("c", Sleep(60_000), Step("never"), on=[]),
    )
    simulation.send()
    simulation.run()
    assert [state for state, _, _ in ends(simulation)] == ["failed", *["cancelled"] * 4]
    assert simulation.begun("never") == []
    check_over(simulation)
    check_fan_out(simulation)


@pytest.mark.parametrize("linger", [True, False])
def test_a_run_that_is_in_time_is_left_alone(simulate: Simulate, linger: bool) -> None:
    simulation = simulate(
        function("a", Step("s", takes_ms=300), Sleep(1_000), Step("t"), timeouts=TimeLimits(100, 5_000, 400))
    )
    simulation.run()
    simulation.faults.linger = linger
    simulation.send(*[event()] * 4)
    simulation.run(for_ms=600)
    simulation.restart()
    simulation.run()
    assert {*simulation.states().values()} == {"completed"}
    check(simulation)


# Of one attempt of a step.


@both_kinds
@pytest.mark.parametrize("is_stubborn", [False, True], ids=["cancellable", "stubborn"])
def test_an_attempt_that_takes_too_long_has_failed_and_is_made_again(
    simulate: Simulate, is_stubborn: bool, is_async: bool
) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("s", (HANG, FAIL, HANG, OK), is_stubborn=is_stubborn), Step("after"),
                 backoff=(7.0,), is_async=is_async, timeouts=TimeLimits(step_ms=2_000)),
        processes=1,
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run()
    assert simulation.messages(1) == [
        ("s", "TimeoutError", "step `s` did not end within 2 s"),
        ("s", "Broken", "attempt 2 of s"),
        ("s", "TimeoutError", "step `s` did not end within 2 s"),
    ]
    takes_ms = 2_000 + (TASK_GRACE_MS if is_async and is_stubborn else 0)
    first, second, third, fourth = simulation.begun("s")
    assert (second - first, fourth - third) == (takes_ms + 7_000, takes_ms + 7_000)
    killed = 0 if is_async and not is_stubborn else 2
    assert len(simulation.entries(What.KILLED)) == killed
    assert simulation.rows("SELECT crashes, is_suspect FROM run") == [(0, 0)]
    assert len(simulation.begun("one")) == 1
    check(simulation)


def test_a_step_that_always_takes_too_long_fails_at_last(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", (HANG,), is_caught=True), Step("t"), retries=2, backoff=(1.0,),
                 timeouts=TimeLimits(step_ms=500))
    )  # fmt: skip
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert simulation.steps(1)["s"] == ("failed", 3)
    check(simulation)


def test_neighbours_of_a_killed_step_lose_their_step_in_flight_and_nothing_else(simulate: Simulate) -> None:
    """They are neither charged nor suspected, and what was parked there doesn't notice."""
    simulation = simulate(
        function("hangs", Step("s", (HANG, OK)), backoff=(1.0,), timeouts=TimeLimits(step_ms=1_000)),
        function("working", Step("done"), Step("flying", takes_ms=3_000), Step("after")),
        function("parked", Sleep(4_000), Step("slept")),
        function("branches", parallel(Step("quick"), Step("long", takes_ms=3_000), (Sleep(100), Step("woken")))),
        processes=1,
        slots=8,
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert {*simulation.rows("SELECT state, crashes, is_suspect FROM run")} == {("completed", 0, 0)}
    begun = {step: len(simulation.begun(step)) for step in ("s", "done", "flying", "after", "slept", "long", "quick")}
    assert begun == {"s": 2, "done": 1, "flying": 2, "after": 1, "slept": 1, "long": 2, "quick": 1}
    assert simulation.begun("slept") == [20 + 4_000]
    assert simulation.failures(1) == [("s", 0, "TimeoutError")]
    for run in (2, 3, 4):
        assert simulation.failures(run) == []
    check(simulation)


def test_two_that_hang_in_one_worker_are_each_charged_in_the_end(simulate: Simulate) -> None:
    simulation = simulate(
        *[
            function(name, Step("s", (HANG, OK), takes_ms=5), backoff=(1.0,), timeouts=TimeLimits(step_ms=1_000))
            for name in "ab"
        ],
        processes=1,
        slots=4,
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert [simulation.failures(run) for run in (1, 2)] == [[("s", 0, "TimeoutError")]] * 2
    check(simulation)


def test_branches_that_hang_are_each_charged_in_the_end(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", parallel(Step("s", (HANG, OK)), Step("t", (HANG, OK)), Step("u", takes_ms=10)), backoff=(1.0,),
                 timeouts=TimeLimits(step_ms=1_000)),
        processes=1,
    )  # fmt: skip
    simulation.send()
    simulation.run()
    assert simulation.steps(1) == {"s": ("completed", 2), "t": ("completed", 2), "u": ("completed", 1)}
    check(simulation)


def test_a_suspect_that_hangs_is_charged_with_its_step_alone(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=1)),
        function("hangs", Step("s", (HANG, OK)), backoff=(1.0,), timeouts=TimeLimits(step_ms=1_000)),
        processes=1,
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT state, crashes FROM run") == [("completed", 0), ("completed", 0)]
    check(simulation)


def test_a_step_that_ends_just_in_time_counts(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=1_000), Step("t"), timeouts=TimeLimits(step_ms=1_000)))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    check_run(simulation, 1, simulation.functions["a"])


def test_the_time_of_a_step_begins_anew_with_each_engine(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=1_500), timeouts=TimeLimits(step_ms=2_000)))
    simulation.send()
    for _ in range(3):
        simulation.run(for_ms=1_000)
        simulation.restart()
    simulation.run()
    assert simulation.failures(1) == []
    check(simulation)


def test_a_killed_workers_runs_are_started_again_with_what_they_had(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("s", (HANG, OK)), retries=1, backoff=(0.0,), timeouts=TimeLimits(step_ms=1_000))
    )
    simulation.send()
    simulation.run()
    first, second = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    assert first.steps == ()
    assert [(each.key, each.attempts) for each in second.steps] == [("one", 1), ("s", 1)]
    assert second.attempt == 0


@both_kinds
@pytest.mark.parametrize("at_ms", [0, 500], ids=["as it begins", "later"])
def test_the_limit_of_a_step_holds_when_its_run_has_been_cancelled(
    simulate: Simulate, at_ms: int, is_async: bool
) -> None:
    """The run is over, but its slot is not free before the step has ended."""
    simulation = simulate(
        function("a", parallel(Step("quick"), Step("hangs", (HANG,), is_stubborn=True)), is_async=is_async,
                 timeouts=TimeLimits(step_ms=2_000)),
        function("b", Step("s", takes_ms=10_000)),
        processes=1,
    )  # fmt: skip
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun("hangs") != [])
    simulation.clock.advance(at_ms)
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled", 2: "completed"}
    limit_ms = 2_000 + (TASK_GRACE_MS if is_async else 0)
    assert [each.at - BEGINNING for each in simulation.entries(What.KILLED)] == [20 + limit_ms]
    assert simulation.pool.executing() == []
    assert simulation.rows("SELECT crashes, is_suspect FROM run") == [(0, 0), (0, 0)]
    check_over(simulation)
