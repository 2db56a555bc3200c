"""The time limit of one attempt of a step: what does not end is ended."""

from __future__ import annotations

import pytest

from fanout.engine.deadlines import TASK_GRACE_MS
from fanout.model import TimeLimits
from fanout.protocol import Start
from tests.engine.checker import check, check_over
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    HANG,
    OK,
    Sleep,
    Step,
    What,
    function,
    parallel,
)

pytestmark = every_parking


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
    assert simulation.failures(1) == []
    check(simulation)


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
