"""What the engine and the commands ask of a journal: operations of our domain, no SQL.

Only the engine that holds the journal's lock calls `commit`; any process may append events and requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import msgspec

from fanout.events import NewEvent
from fanout.model import RunState, StepKind, StepState
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

    def as_json(self) -> str:
        """What functions see of it, as one JSON object."""
        head = msgspec.json.encode({"id": self.id, "name": self.name, "ts": self.ts}).decode()
        tail = "" if self.user is None else f',"user":{self.user}'
        tail += "" if self.v is None else f',"v":{msgspec.json.encode(self.v).decode()}'
        return f'{head[:-1]},"data":{self.data}{tail}}}'

    def as_dict(self) -> dict[str, Any]:
        value: dict[str, Any] = msgspec.json.decode(self.as_json())
        return value


class QueuedRun(NamedTuple):
    """A run that is ready to start. `is_fresh`: the journal has no steps of it. `is_echo`: see the schema."""

    key: int
    id: str
    function: str
    partition: str
    event: int
    rank: int
    attempt: int
    crashes: int
    is_suspect: bool
    started_at: int | None = None
    parent: int | None = None
    parent_step: str | None = None
    item: int | None = None
    is_fresh: bool = False
    is_echo: bool = False


class LiveRun(NamedTuple):
    """A run that is not final. `due_at`: it waits for this time, whatever becomes of its steps."""

    run: QueuedRun
    state: RunState
    due_at: int | None


class DueStep(NamedTuple):
    """A step whose time has come."""

    run: int
    key: str
    kind: StepKind
    state: StepState


class MapRow(NamedTuple):
    """A map step that is not over."""

    run: int
    step: str
    function: str
    taken: int
    ended: int
    is_exhausted: bool
    max_in_flight: int
    is_collecting: bool


class WaitRow(NamedTuple):
    """What a step waits for, or what cancels a run (`step` is empty then). See the schema."""

    run: int
    step: str
    number: int
    event: str
    path: str
    value: str
    condition: str | None
    expires_at: int | None
    after: int | None = 0
    """Only events beyond this key count; None when it is written: those that are accepted later than that."""


class EventRow(NamedTuple):
    """An event that the engine writes. Without a key it gets the next one, and is routed like any other."""

    key: int | None
    id: str
    is_id_given: bool
    name: str
    ts: int
    data: str
    user: str | None
    v: str | None
    received_at: int
    origin: int | None


class Hold(NamedTuple):
    """A run that is held for more events: since when, the time of the event it would start with, how many it has."""

    run: int
    since: int
    ts: int
    size: int


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
    parent: int | None
    parent_step: str | None
    item: int | None
    item_key: str | None
    deadline_at: int | None
    is_echo: bool = False
    reason: str | None = None
    ended_at: int | None = None
    hold: str | None = None
    singleton: str | None = None


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


class ParkedRun(NamedTuple):
    """A run all of whose branches wait."""

    started_at: int
    deadline_at: int | None
    run: int
    attempt: int


class RetriedRun(NamedTuple):
    """A run that waits for `due_at` to begin its next attempt."""

    due_at: int
    next_attempt: int
    started_at: int
    deadline_at: int | None
    run: int
    attempt: int


class LostRun(NamedTuple):
    """A run whose worker is gone: back to the queue."""

    crashes: int
    is_suspect: bool
    started_at: int
    deadline_at: int | None
    run: int
    attempt: int


class NotedRun(NamedTuple):
    started_at: int
    deadline_at: int | None
    run: int
    attempt: int


class StepRow(NamedTuple):
    run: int
    key: str
    kind: str
    branch: str
    state: str
    position: int
    attempts: int
    output: str | None
    started_at: int
    ended_at: int | None
    due_at: int | None = None
    """When a retrying step is tried again, or a waiting one waits no longer."""


class ResolvedStep(NamedTuple):
    """What a waiting step waited for has come."""

    state: str
    output: str | None
    ended_at: int
    run: int
    key: str


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
        "abandoned",
        "batched",
        "cancelled",
        "carried",
        "due",
        "ended",
        "events",
        "failures",
        "functions",
        "gathered",
        "handled",
        "heard",
        "held",
        "limits",
        "lost",
        "maps",
        "noted",
        "parked",
        "paused",
        "resolved",
        "resumed",
        "retried",
        "routed_to",
        "running",
        "runs",
        "schedules",
        "steps",
        "ticks",
        "tried",
        "unmapped",
        "unpaused",
        "unreached",
        "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.routed_to: int | None = None
        self.events: list[EventRow] = []
        self.runs: list[NewRun] = []
        self.waits: list[WaitRow] = []
        self.carried: list[tuple[int, int]] = []
        """(new run, old run): completed steps of the old one become the new one's."""
        self.steps: list[StepRow] = []
        self.running: list[StepRow] = []
        """Steps worth showing; nothing depends on them, and one that has ended meanwhile stays as it is."""
        self.failures: list[FailureRow] = []
        self.maps: dict[tuple[int, str], MapRow] = {}
        self.unmapped: list[tuple[int, str]] = []
        """(run, step): what was a map has become another step, and its children go on by themselves."""
        self.resolved: list[ResolvedStep] = []
        self.gathered: list[tuple[int, int, str]] = []
        """(ended_at, run, step): a map is over, and its children's outputs become its own."""
        self.heard: list[tuple[int, str]] = []
        """(run, step): what was waited for has come, or need not come any more."""
        self.tried: list[tuple[int, str]] = []
        """(run, step): the time to try again has come."""
        self.unreached: list[tuple[int, str]] = []
        self.ended: list[EndedRun] = []
        self.parked: list[ParkedRun] = []
        self.resumed: list[tuple[int, int]] = []
        """(run, attempt)"""
        self.retried: list[RetriedRun] = []
        self.lost: list[LostRun] = []
        self.noted: list[NotedRun] = []
        self.due: list[tuple[int, str, int]] = []
        """(rank, partition, run): what it waited for has come."""
        self.batched: list[tuple[int, int, int]] = []
        """(run, position, event)"""
        self.held: list[tuple[int | None, int, int]] = []
        """(event, due_at, run): it is held for longer, and starts with this event if there is one."""
        self.limits: dict[tuple[str, str, str], int] = {}
        """(function, kind, key) -> value"""
        self.schedules: dict[tuple[str, str], int] = {}
        """(function, cron) -> through"""
        self.ticks: list[tuple[str, int, int]] = []
        """(function, scheduled_at, run)"""
        self.functions: list[tuple[str, str, int | None]] = []
        """(id, spec, loaded_at): all that the code has now; without a time, what it had when it last loaded."""
        self.paused: list[tuple[str, int]] = []
        self.unpaused: list[tuple[str]] = []
        self.cancelled: list[tuple[str, str | None, int, int]] = []
        """(state, reason, ended_at, run): ended while no worker had it."""
        self.abandoned: list[tuple[int, int]] = []
        """(ended_at, run): ended with steps that wait, or with events that would have cancelled it."""
        self.handled: list[tuple[int, int | None, int]] = []
        """(handled_at, the run that was made, request)"""

    def __bool__(self) -> bool:
        return self.routed_to is not None or any(_lists_of(self))


_lists_of = attrgetter(*(name for name in Writes.__slots__ if name != "routed_to"))


class Appender(Protocol):
    """What any process may do to a journal, while an engine runs or not."""

    def append_events(self, events: Sequence[NewEvent], now: int) -> list[AcceptedEvent]:
        """Store all of the events, or none. They are durable on return."""

    def append_request(self, kind: str, body: dict[str, Any], now: int) -> int: ...

    def close(self) -> None: ...


class Journal(Appender, Protocol):
    """What the engine asks. All reads are bounded."""

    def recover(self) -> None:
        """Put back into the queue what a dead engine left running."""

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

    def partitions(self, after: tuple[str, str] = ("", "")) -> Iterable[tuple[str, str]]:
        """(function, partition) of all queued runs beyond this one, each once, in order."""

    def queued(self, function: str, partition: str, after: tuple[int, int], limit: int) -> list[QueuedRun]:
        """Queued runs of a partition beyond (rank, key), in order."""

    def due(self, now: int, limit: int) -> list[QueuedRun]:
        """Runs that wait for a time of their own which has come, the earliest first."""

    def due_steps(self, now: int, limit: int) -> list[DueStep]:
        """Steps whose time has come, the earliest first."""

    def expired(self, now: int, limit: int) -> list[LiveRun]:
        """Runs whose deadline has passed."""

    def next_due(self) -> int | None:
        """The earliest time at which one of these three has something."""

    def steps(self, run: int) -> tuple[RecordedStep, ...]: ...

    def step(self, run: int, key: str) -> RecordedStep: ...

    def is_open(self, run: int, key: str) -> bool:
        """Whether this step waits, or is to be tried again."""

    def live(self, run: int) -> LiveRun | None:
        """The run, if it is not final."""

    def children(self, run: int, step: str | None = None) -> list[int]:
        """The live runs that a run's steps have invoked, or that one step of it has."""

    def map_row(self, run: int, step: str) -> MapRow | None: ...

    def has_item(self, run: int, step: str, item_key: str) -> bool: ...

    def awaited_events(self) -> Iterable[str]:
        """Names of events that steps wait for or that cancel runs."""

    def wait_paths(self, event: str) -> list[str]:
        """The paths by which waits for this event are told apart."""

    def waits(self, event: str, path: str, value: str) -> list[WaitRow]: ...

    def functions(self) -> list[str]:
        """The functions that the code last had, each as JSON text."""

    def has_functions(self, specs: Mapping[str, str]) -> bool:
        """Whether the code last had just these, by id, and all of it could be loaded."""

    def paused(self) -> list[str]:
        """Functions whose runs are not to be started."""

    def limit_value(self, function: str, kind: str, key: str) -> int | None: ...

    def hold(self, function: str, name: str) -> Hold | None: ...

    def singletons(self, function: str, key: str) -> list[int]:
        """Live runs of the function with this key."""

    def events_of(self, run: int) -> list[StoredEvent]:
        """The events of a run that has several."""

    def through(self, function: str, cron: str) -> int | None:
        """Up to when the ticks of this trigger have been dealt with."""

    def tick_run(self, function: str, scheduled_at: int) -> int | None: ...

    def first_event_key(self) -> int:
        """The smallest key of an event of the engine's own, or 0."""

    def open_requests(self, limit: int) -> list[OpenRequest]: ...

    def replayable(self, runs: Sequence[int], *, again: bool) -> list[tuple[int, str, int]]:
        """(run, function, event) of those whose run has ended and, unless `again`, was not replayed yet."""
