"""What a journal holds, row by row: as the engine reads it, and as it writes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fanout.model import RunState, StepKind, StepState


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
    """A run that is ready to start. `is_fresh`: no steps, and no events but its own. `is_echo`: see the schema."""

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
    """A run that is not final. `due_at`: it waits for this, whatever becomes of its steps. `hold`: see the schema."""

    run: QueuedRun
    state: RunState
    due_at: int | None
    hold: str | None = None


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
    """A run that is held for more events: since when, the event that it would start with, how many others it has met.

    `size` is the last position of those in `run_event`.
    """

    run: int
    since: int
    event: int
    ts: int
    size: int
    due_at: int
    is_echo: bool


class OpenRequest(NamedTuple):
    """Of the runs that it lists, `done` have been dealt with; with a rate, the next one starts at `next_at`."""

    key: int
    kind: str
    body: dict[str, Any]
    done: int = 0
    next_at: int | None = None


class Carried(NamedTuple):
    """What a replay takes over from the `old` run: its events, and its completed steps.

    `from_step`: only steps before this one, if the old run has it. `is_from_start`: none of them.
    """

    run: int
    old: int
    from_step: str | None = None
    is_from_start: bool = False


class GivenStep(NamedTuple):
    """A step of a replay whose result somebody has given by hand."""

    run: int
    old: int
    key: str
    output: str
    at: int


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


class LetGo(NamedTuple):
    """A run that is held no longer; it may start at `due_at`, and it has to until `deadline_at`."""

    partition: str
    singleton: str | None
    due_at: int
    deadline_at: int | None
    run: int


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
    """A run whose worker is gone: back to the queue, to this partition if it is not that it was in."""

    crashes: int
    is_suspect: bool
    started_at: int
    deadline_at: int | None
    run: int
    attempt: int
    partition: str | None = None


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
    began_at: int | None = None
