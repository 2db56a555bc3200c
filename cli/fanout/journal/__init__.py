"""What the engine and the commands ask of a journal: operations of our domain, no SQL.

Only the engine that holds the journal's lock calls `commit`; any process may append events and requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from fanout.events import NewEvent
from fanout.protocol import RecordedStep

DUPLICATE_WINDOW_MS = 24 * 3600 * 1000


class AcceptedEvent(NamedTuple):
    """An event that is durable. `is_duplicate`: its id was given before, within 24 hours."""

    key: int
    id: str
    name: str
    is_duplicate: bool


class StoredEvent(NamedTuple):
    """An event as the engine routes it and as workers get it; data and user are JSON text."""

    key: int
    id: str
    is_id_given: bool
    name: str
    ts: int
    data: str
    user: str | None
    v: str | None
    received_at: int

    def envelope(self) -> tuple[str, str, int, str, str | None, str | None]:
        return self.id, self.name, self.ts, self.data, self.user, self.v


class QueuedRun(NamedTuple):
    """A run that is ready to start. `is_fresh`: the journal has no steps of it."""

    key: int
    id: str
    function: str
    partition: str
    event: int
    rank: int
    attempt: int
    crashes: int
    is_suspect: bool
    is_fresh: bool = False


class OpenRequest(NamedTuple):
    key: int
    kind: str
    body: dict[str, Any]


class NewRun(NamedTuple):
    key: int
    id: str
    function: str
    event: int
    partition: str
    rank: int
    state: str
    max_attempts: int
    queued_at: int
    due_at: int | None
    replay_of: int | None


class EndedRun(NamedTuple):
    """A run's final state, guarded by the attempt it was in."""

    state: str
    reason: str | None
    output: str | None
    started_at: int | None
    ended_at: int
    crashes: int
    run: int
    attempt: int


class RetriedRun(NamedTuple):
    """A run that waits for `due_at`; its attempt becomes `next_attempt` (the same, if only a step failed)."""

    due_at: int
    next_attempt: int
    started_at: int
    run: int
    attempt: int


class LostRun(NamedTuple):
    """A run whose worker is gone: back to the queue."""

    crashes: int
    is_suspect: bool
    run: int
    attempt: int


class NotedRun(NamedTuple):
    started_at: int
    run: int
    attempt: int


class StepRow(NamedTuple):
    run: int
    key: str
    state: str
    position: int
    attempts: int
    output: str | None
    started_at: int
    ended_at: int | None
    due_at: int | None = None
    """When a retrying step is tried again."""


class FailureRow(NamedTuple):
    run: int
    step: str
    attempt: int
    type: str
    message: str
    traceback: str
    at: int


class Writes:
    """All that one tick changes, committed as one transaction."""

    __slots__ = (
        "cancelled", "carried", "due", "ended", "failures", "handled",
        "lost", "noted", "retried", "routed_to", "running", "runs", "steps",
    )  # fmt: skip

    def __init__(self) -> None:
        self.routed_to: int | None = None
        self.runs: list[NewRun] = []
        self.carried: list[tuple[int, int]] = []
        """(new run, old run): completed steps of the old one become the new one's."""
        self.steps: list[StepRow] = []
        self.running: list[StepRow] = []
        """Steps worth showing; nothing depends on them, and one that has ended meanwhile stays as it is."""
        self.failures: list[FailureRow] = []
        self.ended: list[EndedRun] = []
        self.retried: list[RetriedRun] = []
        self.lost: list[LostRun] = []
        self.noted: list[NotedRun] = []
        self.due: list[tuple[int, int]] = []
        """(rank, run): waited for their time, which has come."""
        self.cancelled: list[tuple[int, int]] = []
        """(ended_at, run): cancelled while queued or waiting."""
        self.handled: list[tuple[int, int]] = []
        """(handled_at, request)"""

    def __bool__(self) -> bool:
        return self.routed_to is not None or any(
            (self.steps, self.ended, self.running, self.runs, self.retried, self.lost, self.noted, self.due,
             self.cancelled, self.handled, self.failures, self.carried)
        )  # fmt: skip


class Appender(Protocol):
    """What any process may do to a journal, while an engine runs or not."""

    def append_events(self, events: Sequence[NewEvent], now: int) -> list[AcceptedEvent]:
        """Store all of the events, or none. They are durable on return."""

    def append_request(self, kind: str, body: dict[str, Any], now: int) -> int: ...

    def close(self) -> None: ...


class Journal(Appender, Protocol):
    """What the engine asks. All reads are bounded."""

    def recover(self, now: int) -> None:
        """Put back into the queue what a dead engine left running; what has a step to retry waits for its time."""

    def commit(self, writes: Writes) -> None:
        """Make all of it durable in one transaction, or raise JournalError and change nothing."""

    def has_news(self) -> bool:
        """Whether another process has written since the last call."""

    def last_run_key(self) -> int: ...

    def last_rank(self) -> int:
        """The rank of the newest run."""

    def routed_to(self) -> int: ...

    def unrouted(self, after: int, limit: int) -> list[StoredEvent]: ...

    def functions_with_id(self, event_id: str, since: int) -> set[str]:
        """The functions that an event of this given id has started since then."""

    def event(self, key: int) -> StoredEvent: ...

    def partitions(self) -> Iterable[tuple[str, str]]:
        """(function, partition) of all queued runs, each once."""

    def queued(self, function: str, partition: str, after: tuple[int, int], limit: int) -> list[QueuedRun]:
        """Queued runs of a partition beyond (rank, key), in order."""

    def due(self, now: int, limit: int) -> list[QueuedRun]:
        """Waiting runs whose time has come, the earliest first."""

    def next_due(self) -> int | None: ...

    def steps(self, run: int) -> tuple[RecordedStep, ...]: ...

    def open_requests(self, limit: int) -> list[OpenRequest]: ...

    def replayable(self, runs: Sequence[int], *, again: bool) -> list[tuple[int, str, int]]:
        """(run, function, event) of those whose run has ended and, unless `again`, was not replayed yet."""

    def live(self, run: int) -> tuple[str, int] | None:
        """(state, attempt) of a run that is not final."""
