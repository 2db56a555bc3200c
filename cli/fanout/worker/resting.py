"""When all of an async function waits. What its tasks wait for besides steps is known for timers and threads only; they
get time to come to a step.
"""

from __future__ import annotations

from contextvars import Context

from fanout.worker.execution import Execution

QUIET_TURNS = 8
"""Turns of the loop in which none of its tasks begins, ends or comes to a step. One that is woken by another needs two
or three, and so does one that a `gather` wakes."""


def rest_soon(execution: Execution) -> None:
    """Tell the engine that all of it waits, if that is still so when its tasks have had their turns."""
    if execution.waiting and not execution.is_watched and execution.task is not None:
        execution.is_watched = True
        execution.task.get_loop().call_soon(_look, execution, execution.stirs, QUIET_TURNS)


def _look(execution: Execution, stirs: int, turns: int) -> None:
    task = execution.task
    if task is None:
        return
    if execution.stirs != stirs:
        stirs, turns = execution.stirs, QUIET_TURNS
    if turns and execution.may_rest():
        task.get_loop().call_soon(_look, execution, stirs, turns - 1)
        return
    # Whatever keeps it from resting now, looks again when it ends.
    execution.is_watched = False
    if execution.threads:
        return
    goes_on_at = execution.next_timer()
    if goes_on_at is None:
        execution.rest()
        execution.desk.link.flush()
    else:
        if execution.alarm is not None:
            execution.alarm.cancel()
        # Not in the context of the function's code: this is no timer of its.
        execution.alarm = Context().run(task.get_loop().call_at, goes_on_at, rest_soon, execution)
