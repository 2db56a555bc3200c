"""What a live log tells of: frozen data, one fact a change that people care for. Times are milliseconds UTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fanout.journal import redacted
from fanout.model import Failure, RunState, StepKind, StepState


class Whose(NamedTuple):
    """The run that a fact is about. Keys are the journal's; `invoked_by` and `replay_of` are shown with its end."""

    key: int
    id: str
    function: str
    event: int
    max_attempts: int | None = None
    event_id: str = ""
    invoked_by: str | None = None
    """The function whose step has invoked it."""
    replay_of: str | None = None
    """The id of the run that it replays."""


class EventSeen(NamedTuple):
    """An event has been routed. `runs`: so many it has started; `sender`: the function that has sent it, if one has."""

    at: int
    key: int
    id: str
    name: str
    runs: int
    sender: str | None = None
    sender_id: str | None = None
    is_taken_up: bool = False
    """Whether somebody had a use for it, if it has started nothing."""


class StepSeen(NamedTuple):
    """A step has come so far. `attempts` have been made; `awaited` is what it waits for besides a time."""

    at: int
    run: Whose
    name: str
    kind: StepKind
    state: StepState
    attempts: int = 1
    took_ms: int | None = None
    due_at: int | None = None
    awaited: str | None = None
    failure: Failure | None = None


class RunSeen(NamedTuple):
    """A run has come so far. One that waits with a failure is tried again at `due_at`; one that is queued with one
    begins again, and without one it is new.
    """

    at: int
    run: Whose
    state: RunState
    took_ms: int | None = None
    attempts: int = 1
    reason: str | None = None
    due_at: int | None = None
    failure: Failure | None = None


class Printed(NamedTuple):
    """A line that a function has printed or logged; without a run, what was printed outside of functions."""

    at: int
    run: Whose | None
    step: str | None
    attempt: int
    source: str
    logger: str | None
    text: str
    times: int = 1
    """So often in a row; only what is printed outside of functions is counted."""


class LeftOut(NamedTuple):
    """So much has happened at once that it is only counted. `runs` are those that have ended, by state."""

    at: int
    events: int
    began: int
    runs: Mapping[RunState, int]
    failures: int
    lines: int


Fact = EventSeen | StepSeen | RunSeen | Printed | LeftOut


def tells_of_failure(fact: Fact) -> bool:
    match fact:
        case StepSeen():
            return fact.state in (StepState.RETRYING, StepState.FAILED)
        case RunSeen():
            return fact.state is RunState.FAILED or fact.failure is not None
        case LeftOut():
            return bool(fact.failures or fact.runs.get(RunState.FAILED))
        case _:
            return False


def without_secrets(keys: tuple[str, ...], fact: Fact) -> Fact:
    """The fact without what stands under these keys; what functions print has been rid of that before."""
    if not isinstance(fact, StepSeen | RunSeen) or fact.failure is None:
        return fact
    return fact._replace(failure=redacted.shown(keys, fact.failure))
