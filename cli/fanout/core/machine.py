"""The states of a run: one table, total, as data. It knows no clock, no journal and no worker."""

from __future__ import annotations

from enum import StrEnum

from fanout.model import RunState


class RunInput(StrEnum):
    """What can happen to a run."""

    DUE = "due"  # the time it waited for has come
    NOTED = "noted"  # it has been executing long enough for people to be shown so
    RETRY = "retry"  # a step or the body failed and has attempts left
    LOST = "lost"  # its worker is gone, or left it unfinished
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


class IllegalTransitionError(Exception):
    """A run was given an input that its state does not allow: a bug of ours, never of the user's."""


# A queued run may end without ever having been seen running: starts are not written down (see engine/loop.py).
TRANSITIONS: dict[RunState, dict[RunInput, RunState]] = {
    RunState.QUEUED: {
        RunInput.NOTED: RunState.RUNNING,
        RunInput.RETRY: RunState.WAITING,
        RunInput.LOST: RunState.QUEUED,
        RunInput.COMPLETE: RunState.COMPLETED,
        RunInput.FAIL: RunState.FAILED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.RUNNING: {
        RunInput.RETRY: RunState.WAITING,
        RunInput.LOST: RunState.QUEUED,
        RunInput.COMPLETE: RunState.COMPLETED,
        RunInput.FAIL: RunState.FAILED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.WAITING: {
        RunInput.DUE: RunState.QUEUED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.COMPLETED: {},
    RunState.FAILED: {},
    RunState.CANCELLED: {},
    RunState.SKIPPED: {},
}


def next_state(state: RunState, happened: RunInput) -> RunState:
    """The state after `happened`.

    Raises:
        IllegalTransitionError: the table has no such move; nothing has changed.
    """
    try:
        return TRANSITIONS[state][happened]
    except KeyError:
        raise IllegalTransitionError(f"a {state} run cannot take {happened!r}") from None


def sources(happened: RunInput) -> tuple[RunState, ...]:
    """The states in which `happened` is legal: the guard of every write that it causes."""
    return tuple(state for state, moves in TRANSITIONS.items() if happened in moves)
