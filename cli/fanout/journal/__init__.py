"""What the engine and the commands ask of a journal: operations of our domain, no SQL.

Only the engine that holds the journal's lock calls `commit`; any process may append events and requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fanout.journal.appender import Appender

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fanout.core.retention import Cutoffs
    from fanout.journal.pruning import Place, Pruned, Removing, Slice
    from fanout.journal.rows import (
        DueStep,
        Hold,
        LiveRun,
        MapRow,
        OpenRequest,
        QueuedRun,
        StoredEvent,
        WaitRow,
    )
    from fanout.journal.writes import Writes
    from fanout.protocol import RecordedStep

DUPLICATE_WINDOW_MS = 24 * 3600 * 1000


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
        """The rank, without a priority, that the newest runs have got, as far as is known."""

    def routed_to(self) -> int: ...

    def unrouted(self, after: int, limit: int) -> list[StoredEvent]: ...

    def functions_with_id(self, event_id: str, since: int) -> set[str]:
        """The functions that an event of this given id has started since then, or is collected for."""

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

    def has_begun(self, function: str, singleton: str) -> bool:
        """Whether one of those is known to have begun."""

    def events_of(self, run: int) -> list[StoredEvent]:
        """The events of a run that has several; those that were replaced are none of them."""

    def latest_ts(self, run: int) -> int:
        """The newest `ts` among those, or 0."""

    def through(self, function: str, cron: str) -> int | None:
        """Up to when the ticks of this trigger have been dealt with."""

    def tick_run(self, function: str, scheduled_at: int) -> int | None: ...

    def first_event_key(self) -> int:
        """The smallest key of an event of the engine's own, or 0."""

    def open_requests(self, limit: int) -> list[OpenRequest]: ...

    def prune_request(self) -> OpenRequest | None:
        """The first open request to remove what is old; `open_requests` has none of those."""

    def prune(self, place: Place, cutoffs: Cutoffs, most: int, removing: Removing) -> Slice:
        """One slice of a pass, as one transaction: it looks at so many rows, and removes what nothing needs."""

    def prune_done(self, request: int, pruned: Pruned, now: int) -> None:
        """The request has been handled, with this outcome."""

    def replayable(self, runs: Sequence[int], *, again: bool) -> list[tuple[int, str, int]]:
        """(run, function, event) of those whose run has ended and, unless `again`, was not replayed yet."""
