"""The states of a run: one table, total, as data. It knows no clock, no journal and no worker."""

from __future__ import annotations

from enum import StrEnum

from fanout.model import RunState


class RunInput(StrEnum):
    """What can happen to a run."""

    DUE = "due"  # what it waited for has come, and it is to be started
    RESUME = "resume"  # what it waited for has come, and a worker still has it
    NOTED = "noted"  # it has been executing long enough for people to be shown so
    PARK = "park"  # all of its branches wait
    RETRY = "retry"  # the body failed and has attempts left
    LOST = "lost"  # its worker is gone, or left it unfinished
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    SKIP = "skip"  # it was held for more events, and then there was to be no run


class IllegalTransitionError(Exception):
    """A run was given an input that its state does not allow: a bug of ours, never of the user's."""


# A queued run may end without ever having been seen running: starts are not written down (see engine/loop.py).
# A waiting one may end too: code between the steps of a task goes on while they wait, and time limits end it.
_ENDS = {
    RunInput.COMPLETE: RunState.COMPLETED,
    RunInput.FAIL: RunState.FAILED,
    RunInput.CANCEL: RunState.CANCELLED,
}
TRANSITIONS: dict[RunState, dict[RunInput, RunState]] = {
    RunState.QUEUED: {
        RunInput.NOTED: RunState.RUNNING,
        RunInput.PARK: RunState.WAITING,
        RunInput.RETRY: RunState.WAITING,
        RunInput.LOST: RunState.QUEUED,
        **_ENDS,
    },
    RunState.RUNNING: {
        RunInput.PARK: RunState.WAITING,
        RunInput.RETRY: RunState.WAITING,
        RunInput.LOST: RunState.QUEUED,
        **_ENDS,
    },
    RunState.WAITING: {
        RunInput.DUE: RunState.QUEUED,
        RunInput.RESUME: RunState.RUNNING,
        RunInput.RETRY: RunState.WAITING,
        RunInput.SKIP: RunState.SKIPPED,
        **_ENDS,
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
