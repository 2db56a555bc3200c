"""How an execution waits, is parked, goes on, and leaves: what it tells the engine, and whom it wakes."""

from __future__ import annotations

import asyncio
from contextvars import Context

import pytest

from fanout.model import StepState
from fanout.protocol import Parked, RecordedStep, RunEvicted, Sleep, StepWaits, Unpark
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Desk, Execution
from tests.unit.executions import CLAIM, Engine, Woken, executed, recorded

NAP = StepWaits(CLAIM, "nap", "", 1, 5, Sleep(9))
DONE = recorded("nap")
OPEN = recorded("nap", StepState.WAITING)


def open_step(key: str) -> RecordedStep:
    return recorded(key, StepState.WAITING)


def test_a_step_that_waits_is_told_and_then_the_whole_execution_rests(
    execution: Execution, desk: Desk, engine: Engine
) -> None:
    waiter = Woken()
    assert execution.begin_wait("nap", waiter, NAP)
    execution.rest()
    assert engine.heard(desk) == [NAP, Parked(CLAIM, ("nap",))]
    execution.changed(DONE)
    assert (waiter.times, execution.recorded["nap"], execution.waiting, execution.is_parked) == (1, DONE, {}, False)


def test_it_says_only_once_that_all_of_it_waits(execution: Execution, desk: Desk, engine: Engine) -> None:
    execution.begin_wait("nap", Woken(), NAP)
    for _ in range(3):
        execution.rest()
    assert engine.heard(desk) == [NAP, Parked(CLAIM, ("nap",))]


def test_a_step_that_is_known_to_wait_is_waited_for_without_a_word(
    execution: Execution, desk: Desk, engine: Engine
) -> None:
    execution.recorded["nap"] = OPEN
    assert execution.begin_wait("nap", Woken())
    assert engine.heard(desk) == []


def test_what_has_come_meanwhile_is_not_waited_for(execution: Execution) -> None:
    """The engine's word and the thread's look at the record cross: the record is looked at again, under the lock."""
    execution.changed(DONE)
    assert not execution.begin_wait("nap", Woken())
    assert execution.waiting == {}


def test_news_of_a_step_that_nobody_waits_for_are_kept(execution: Execution, desk: Desk, engine: Engine) -> None:
    execution.changed(recorded("other", StepState.FAILED))
    execution.rest()
    assert execution.recorded == {"other": recorded("other", StepState.FAILED)}
    assert engine.heard(desk) == []


def test_it_does_not_rest_while_a_steps_own_code_runs(execution: Execution, desk: Desk, engine: Engine) -> None:
    attempt = Attempt(execution, execution.reach("charge"))
    Context().run(execution.begin_wait, "nap", Woken(), NAP)  # a thread of the user's
    execution.busy = 0
    execution.rest()
    assert (engine.heard(desk), execution.executing) == ([NAP], 1)
    attempt.leave()
    execution.rest()
    assert engine.heard(desk) == [Parked(CLAIM, ("nap",))]


def test_it_does_not_rest_while_its_own_thread_does_something(execution: Execution, desk: Desk, engine: Engine) -> None:
    """A thread that the user has started waits; the function's own goes on."""
    Context().run(execution.begin_wait, "nap", Woken(), NAP)
    execution.rest()
    assert (engine.heard(desk), execution.busy) == ([NAP], 1)
    execution.changed(DONE)
    assert execution.busy == 1


def test_it_rests_when_the_last_of_its_branches_waits(execution: Execution, desk: Desk, engine: Engine) -> None:
    execution.busy = 2
    execution.recorded |= {"a": open_step("a"), "b": open_step("b")}
    execution.begin_wait("a", Woken())
    execution.rest()
    assert engine.heard(desk) == []
    execution.begin_wait("b", Woken())
    execution.rest()
    assert engine.heard(desk) == [Parked(CLAIM, ("a", "b"))]


def test_one_branch_that_goes_on_does_not_wake_the_others(execution: Execution, desk: Desk, engine: Engine) -> None:
    execution.busy = 2
    execution.recorded |= {"a": open_step("a"), "b": open_step("b")}
    one, other = Woken(), Woken()
    execution.begin_wait("a", one)
    execution.begin_wait("b", other)
    execution.rest()
    execution.changed(recorded("b"))
    assert (one.times, other.times, list(execution.waiting), execution.is_parked) == (0, 1, ["a"], False)
    execution.rest()
    assert engine.heard(desk) == [Parked(CLAIM, ("a", "b"))]


def test_a_waiter_that_was_cancelled_is_not_woken(execution: Execution) -> None:
    waiter = Woken()
    execution.begin_wait("nap", waiter, NAP)
    execution.end_wait("nap")
    execution.end_wait("nap")
    execution.changed(DONE)
    assert (waiter.times, execution.waiting) == (0, {})


# A parked execution has no slot.


def parked(execution: Execution, desk: Desk, engine: Engine) -> Woken:
    waiter = Woken()
    execution.begin_wait("nap", waiter, NAP)
    execution.rest()
    assert engine.heard(desk) == [NAP, Parked(CLAIM, ("nap",))]
    return waiter


def test_one_that_is_not_parked_needs_no_slot(execution: Execution, desk: Desk, engine: Engine) -> None:
    assert not execution.wants_slot(Woken())
    assert engine.heard(desk) == []


def test_code_that_comes_to_a_step_while_it_is_parked_asks_once_for_a_slot_and_waits(
    execution: Execution, desk: Desk, engine: Engine
) -> None:
    waiting = parked(execution, desk, engine)
    granted = [Woken(), Woken()]
    assert [execution.wants_slot(each) for each in granted] == [True, True]
    assert engine.heard(desk) == [Unpark(CLAIM)]
    execution.resumed()
    assert ([each.times for each in granted], waiting.times, execution.is_parked) == ([1, 1], 0, False)
    execution.resumed()
    assert [each.times for each in granted] == [1, 1]


def test_one_that_goes_on_for_nothing_that_it_waits_for_rests_again(
    execution: Execution, desk: Desk, engine: Engine
) -> None:
    parked(execution, desk, engine)
    execution.resumed()
    execution.rest()
    assert engine.heard(desk) == [Parked(CLAIM, ("nap",))]


def test_it_asks_for_a_slot_again_when_it_was_parked_again(execution: Execution, desk: Desk, engine: Engine) -> None:
    parked(execution, desk, engine)
    execution.wants_slot(Woken())
    execution.resumed()
    execution.rest()
    execution.wants_slot(Woken())
    assert engine.heard(desk) == [Unpark(CLAIM), Parked(CLAIM, ("nap",)), Unpark(CLAIM)]


# Leaving.


def test_one_that_has_to_leave_wakes_all_that_wait_for_whatever_they_wait(
    execution: Execution, desk: Desk, engine: Engine
) -> None:
    waiting = parked(execution, desk, engine)
    granted, call = Woken(), Woken()
    execution.wants_slot(granted)
    desk.calls[77] = call
    execution.unrecorded.append(77)
    execution.evict()
    assert (waiting.times, granted.times, call.times) == (1, 1, 1)
    assert (execution.waiting, execution.grants, desk.calls, execution.is_evicting) == ({}, [], {}, True)


def test_one_that_has_to_leave_waits_for_nothing_more(execution: Execution, desk: Desk, engine: Engine) -> None:
    execution.evict()
    assert not execution.begin_wait("nap", Woken(), NAP)
    assert not execution.wants_slot(Woken())
    execution.rest()
    # The engine has the step all the same: it waits in the journal.
    assert (engine.heard(desk), execution.waiting) == ([NAP], {})


def test_to_be_told_twice_to_leave_changes_nothing(execution: Execution) -> None:
    waiter = Woken()
    execution.begin_wait("nap", waiter, NAP)
    execution.evict()
    execution.evict()
    execution.changed(DONE)
    assert waiter.times == 1


def test_what_is_over_is_forgotten(execution: Execution, desk: Desk) -> None:
    desk.calls |= {1: Woken(), 2: Woken()}
    execution.unrecorded.append(1)
    execution.close()
    assert (desk.executions, list(desk.calls)) == ({}, [2])


# A task is left by being cancelled, in its loop's thread.


@pytest.mark.parametrize("is_inside_a_step", [False, True])
def test_a_task_that_has_to_leave_is_cancelled_but_never_inside_of_a_step(desk: Desk, is_inside_a_step: bool) -> None:
    execution = executed(desk, is_async=True)
    seen: list[bool] = []

    async def function() -> None:
        execution.task = asyncio.current_task()
        attempt = Attempt(execution, execution.reach("charge")) if is_inside_a_step else None
        execution.evict()
        seen.append(execution.has_left)
        if attempt is not None:
            await asyncio.sleep(0)  # the step's own code goes on
            attempt.leave()
            execution.cancel_if_idle()
        seen.append(execution.has_left)
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(function())
    assert seen == [not is_inside_a_step, True]
    assert execution.completed("anything") == RunEvicted(CLAIM)


def test_a_task_is_cancelled_once_and_may_then_end_in_its_own_way(desk: Desk) -> None:
    execution = executed(desk, is_async=True)

    async def function() -> str:
        execution.task = asyncio.current_task()
        execution.evict()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            execution.cancel_if_idle()
        return "cleaned up"

    assert asyncio.run(function()) == "cleaned up"
    assert execution.has_left


def test_tasks_that_a_function_has_started_end_with_it(desk: Desk) -> None:
    execution = executed(desk, is_async=True)

    async def function() -> bool:
        left = asyncio.get_running_loop().create_task(asyncio.sleep(60))
        execution.tasks.add(left)
        execution.close()
        await asyncio.wait([left])
        return left.cancelled()

    assert asyncio.run(function())
