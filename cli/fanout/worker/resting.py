"""When all of an async function waits. It can't be asked what else its tasks wait for: they get time to say so."""

from __future__ import annotations

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
    if execution.stirs != stirs:
        stirs, turns = execution.stirs, QUIET_TURNS
    if turns and execution.may_rest() and execution.task is not None:
        execution.task.get_loop().call_soon(_look, execution, stirs, turns - 1)
        return
    # Whatever keeps it from resting now, looks again when it ends.
    execution.is_watched = False
    execution.rest()
    execution.desk.link.flush()
