"""What a trace tells of runs that have ended, as data. No SQL."""

from __future__ import annotations

from typing import NamedTuple

from fanout.model import FailedAttempt, RunState, StepKind, StepState


class TracedEvent(NamedTuple):
    key: int
    id: str
    name: str
    ts: int
    user: str | None
    received_at: int

    @property
    def is_own(self) -> bool:
        """It is one of the engine's own."""
        return self.key < 0


class TracedStep(NamedTuple):
    key: str
    kind: StepKind
    state: StepState
    attempts: int
    began_at: int
    """When its last attempt did."""
    first_began_at: int
    ended_at: int | None


class TracedRun(NamedTuple):
    id: str
    function: str
    state: RunState
    reason: str | None
    attempt: int
    """The number of its last one."""
    queued_at: int
    started_at: int | None
    ended_at: int
    replay_of: str | None
    event: TracedEvent
    is_first: bool
    """The first that its event has started."""
    others: tuple[TracedEvent, ...]
    """The rest of its batch."""
    steps: tuple[TracedStep, ...]
    failures: tuple[FailedAttempt, ...]
