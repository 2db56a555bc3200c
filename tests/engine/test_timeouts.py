"""Time limits of runs: of the time in the queue, and of the whole."""

from __future__ import annotations

import pytest

from fanout.engine.deadlines import LEAVING_GRACE_MS
from fanout.model import TimeLimits
from tests.engine.checker import check, check_fan_out, check_history, check_over
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


@both_kinds
def test_the_limit_counts_from_the_first_start_when_a_worker_dies_under_a_run(
    simulate: Simulate, is_async: bool
) -> None:
    simulation = simulate(
        function("a", *[Step("s", takes_ms=3_000)] * 20, is_async=is_async, timeouts=TimeLimits(finish_ms=20_000)),
        processes=1,
    )
    simulation.run()
    simulation.send()
    simulation.run(for_ms=5_000)
    simulation.pool.lose(1)
    simulation.run(for_ms=5_000)
    simulation.pool.lose(2)
    simulation.run()
    assert ends(simulation) == [("failed", "timed out", 20 + 20_000)]
    check_over(simulation)
