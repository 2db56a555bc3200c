"""What one tick has decided: the writes of its transaction, and what is to be done once they are durable."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from fanout.core import flow
from fanout.engine.roster import Active
from fanout.journal.rows import (
    EndedRun,
    FailureRow,
    Hold,
    LostRun,
    NewRun,
    NotedRun,
    ParkedRun,
    QueuedRun,
    RetriedRun,
    StepRow,
    StoredEvent,
)
from fanout.journal.writes import Writes
from fanout.model import Failure, RunState, StepKind, StepState
from fanout.protocol import (
    EventWait,
    Invoke,
    Map,
    Recorded,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToWorker,
)

_KINDS = {Sleep: StepKind.SLEEP, EventWait: StepKind.WAIT, Invoke: StepKind.INVOKE, Map: StepKind.MAP}


class EndedChild(NamedTuple):
    """A run that another waits for has ended."""

    run: QueuedRun
    state: RunState
    output: str | None
    failure: Failure | None


class Tick:
    """Deciding only adds to it; the engine commits `writes`, then does the rest."""

    def __init__(self) -> None:
        self.writes = Writes()
        self.ready: list[QueuedRun] = []
        self.out: dict[int, list[ToWorker]] = {}
        self.born: dict[int, NewRun] = {}
        """Runs made here: the journal does not know them yet."""
        self.born_of: dict[int, list[int]] = {}
        """Of those, the ones that a run has asked for, by that."""
        self.items: set[tuple[int, str, str]] = set()
        """(run, step, key): items of maps, of those that have keys, that become runs here."""
        self.events: dict[int, StoredEvent] = {}
        """Events of the engine's own that are made here."""
        self.ended: set[int] = set()
        """Runs that end here: the journal does not know yet."""
        self.discarded: list[QueuedRun] = []
        """Those of them that no worker has."""
        self.woken: set[int] = set()
        """Runs of which it is decided here when they start again: what the journal says of them is no longer true."""
        self.parked: dict[int, QueuedRun] = {}
        """Runs that wait from now on."""
        self.resolved: set[tuple[int, str]] = set()
        """(run, step): no longer waiting."""
        self.awaited: set[str] = set()
        """Names of events that runs made here wait for: only what comes later counts for them."""
        self.replayed: set[int] = set()
        """Runs that replays are made of here."""
        self.replays_asked = 0
        """Runs for which it is decided here whether there is to be a replay."""
        self.children: list[EndedChild] = []
        """Children that have ended; their parents have still to hear of it."""
        self.changed: list[tuple[Active, str]] = []
        """Steps of which workers are to be told what the journal then has."""
        self.singletons: dict[tuple[str, str], list[int]] = {}
        """(function, key) -> runs that have this key from here on."""
        self.holds: dict[tuple[str, str], Hold] = {}
        """(function, name) -> a run that is held, as this tick leaves it."""
        self.let_go: set[tuple[str, str]] = set()
        """Holds that end here."""
        self.extended: set[int] = set()
        """Runs that wait for longer than the journal knows."""
        self.permits: list[Hashable] = []
        """Permits to start that were decided on here."""
        self.over: set[str] = set()
        """Functions of which a run ends here."""
        self.unpaused: list[str] = []
        """Functions whose runs may be started again."""
        self.condemned: list[tuple[int, str]] = []
        """(worker, why): to be killed."""
        self._recorded: list[tuple[Active, int]] = []

    def tell(self, worker: int, message: ToWorker) -> None:
        """Send the message once the writes are durable."""
        self.out.setdefault(worker, []).append(message)

    def tell_recorded(self) -> None:
        """Acknowledge the steps. An execution that is over waits for nothing: its last shared the commit of its end."""
        calls: dict[int, list[int]] = {}
        for active, call in self._recorded:
            if not active.is_over:
                calls.setdefault(active.worker, []).append(call)
        for worker, numbers in calls.items():
            self.tell(worker, Recorded(tuple(numbers)))

    # Steps.

    def step_completed(self, active: Active, step: StepCompleted) -> None:
        self.writes.steps.append(
            StepRow(
                active.run.key, step.key, step.kind, step.branch, StepState.COMPLETED, step.position, step.attempts,
                step.output, step.started_at, step.ended_at,
            )
        )  # fmt: skip
        self._recorded.append((active, step.call))

    def step_failed(self, active: Active, step: StepFailed, now: int, *, due_at: int | None) -> None:
        state = StepState.FAILED if due_at is None else StepState.RETRYING
        self.writes.steps.append(
            StepRow(
                active.run.key, step.key, step.kind, step.branch, state, step.position, step.attempts, None,
                step.started_at, step.ended_at, due_at,
            )
        )  # fmt: skip
        self.failed(active.run, step.key, step.attempts - 1, step.failure, now, step.started_at)

    def step_running(self, active: Active, step: StepRunning) -> None:
        self.writes.running.append(
            StepRow(
                active.run.key, step.key, StepKind.RUN, step.branch, StepState.RUNNING, step.position, 0, None,
                step.started_at, None,
            )
        )  # fmt: skip

    def step_waits(self, active: Active, step: StepWaits, due_at: int | None) -> None:
        self.writes.steps.append(
            StepRow(
                active.run.key, step.key, _KINDS[type(step.awaited)], step.branch, StepState.WAITING, step.position, 1,
                None, step.started_at, None, due_at,
            )
        )  # fmt: skip

    def step_refused(self, active: Active, step: StepWaits, failure: Failure, now: int) -> None:
        """It asks for what can't be: it has failed, and there is no other attempt."""
        self.writes.steps.append(
            StepRow(
                active.run.key, step.key, _KINDS[type(step.awaited)], step.branch, StepState.FAILED, step.position, 1,
                None, step.started_at, now,
            )
        )  # fmt: skip
        self.failed(active.run, step.key, 0, failure, now)
        active.over.add(step.key)
        self.changed.append((active, step.key))

    def failed(
        self, run: QueuedRun, step: str, attempt: int, failure: Failure, now: int, began_at: int | None = None
    ) -> None:
        self.writes.failures.append(
            FailureRow(run.key, step, attempt, failure.type, failure.message, failure.traceback, now, began_at)
        )

    # Runs.

    def end(
        self, active: Active, state: RunState, now: int, *, reason: str | None = None, output: str | None = None
    ) -> None:
        run = active.run
        self.writes.ended.append(
            EndedRun(state, reason, output, active.started_at, now, run.crashes, run.key, run.attempt)
        )

    def retry(self, active: Active, due_at: int) -> None:
        run = active.run
        self.woken.add(run.key)
        self.writes.retried.append(
            RetriedRun(due_at, run.attempt + 1, active.started_at, active.deadline_at, run.key, run.attempt)
        )

    def park(self, active: Active) -> None:
        run = active.run
        self.writes.parked.append(ParkedRun(active.started_at, active.deadline_at, run.key, run.attempt))
        self.parked[run.key] = run._replace(started_at=run.started_at or active.started_at)

    def requeue(self, active: Active) -> None:
        """Back to the queue, with the crashes and the suspicion that its run carries now."""
        run, partition = active.run, flow.begun(active.run.partition)
        self.woken.add(run.key)
        self.writes.lost.append(
            LostRun(run.crashes, run.is_suspect, active.started_at, active.deadline_at, run.key, run.attempt, partition)
        )
        started_at = run.started_at or active.started_at
        self.ready.append(run._replace(partition=partition, is_fresh=False, started_at=started_at))

    def note(self, active: Active) -> None:
        active.is_noted = True
        self.writes.noted.append(NotedRun(active.started_at, active.deadline_at, active.run.key, active.run.attempt))
