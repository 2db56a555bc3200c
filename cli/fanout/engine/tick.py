"""What one tick has decided: the writes of its transaction, and what is to be done once they are durable."""

from __future__ import annotations

from fanout.engine.roster import Active
from fanout.journal import EndedRun, FailureRow, LostRun, NotedRun, QueuedRun, RetriedRun, StepRow, Writes
from fanout.model import Failure, RunState, StepState
from fanout.protocol import Recorded, StepCompleted, StepFailed, StepRunning, ToWorker


class Tick:
    """Deciding only adds to it; the engine commits `writes`, then does the rest."""

    def __init__(self) -> None:
        self.writes = Writes()
        self.ready: list[QueuedRun] = []
        self.out: dict[int, list[ToWorker]] = {}
        self.cancelled: set[int] = set()
        """Runs, queued or waiting, that end here: the journal does not know yet."""
        self.replayed: set[int] = set()
        """Runs that replays are made of here."""
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
                active.run.key, step.key, StepState.COMPLETED, step.position, step.attempts,
                step.output, step.started_at, step.ended_at,
            )
        )  # fmt: skip
        self._recorded.append((active, step.call))

    def step_failed(self, active: Active, step: StepFailed, now: int, *, due_at: int | None) -> None:
        state = StepState.FAILED if due_at is None else StepState.RETRYING
        self.writes.steps.append(
            StepRow(
                active.run.key,
                step.key,
                state,
                step.position,
                step.attempts,
                None,
                step.started_at,
                step.ended_at,
                due_at,
            )
        )
        self.failed(active, step.key, step.attempts - 1, step.failure, now)

    def step_running(self, active: Active, step: StepRunning) -> None:
        self.writes.running.append(
            StepRow(active.run.key, step.key, StepState.RUNNING, step.position, 0, None, step.started_at, None)
        )

    def failed(self, active: Active, step: str, attempt: int, failure: Failure, now: int) -> None:
        self.writes.failures.append(
            FailureRow(active.run.key, step, attempt, failure.type, failure.message, failure.traceback, now)
        )

    # Runs.

    def end(
        self, active: Active, state: RunState, now: int, *, reason: str | None = None, output: str | None = None
    ) -> None:
        run = active.run
        self.writes.ended.append(
            EndedRun(state, reason, output, active.started_at, now, run.crashes, run.key, run.attempt)
        )

    def wait(self, active: Active, due_at: int, next_attempt: int) -> None:
        run = active.run
        self.writes.retried.append(RetriedRun(due_at, next_attempt, active.started_at, run.key, run.attempt))

    def requeue(self, run: QueuedRun) -> None:
        """Back to the queue, with the crashes and the suspicion that `run` carries now."""
        self.writes.lost.append(LostRun(run.crashes, run.is_suspect, run.key, run.attempt))
        self.ready.append(run._replace(is_fresh=False))

    def note(self, active: Active) -> None:
        self.writes.noted.append(NotedRun(active.started_at, active.run.key, active.run.attempt))
