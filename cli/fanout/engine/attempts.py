"""What becomes of a run when its worker says something about it, or says nothing any more. It only decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from fanout.core import retry
from fanout.core.blame import Blame, blame
from fanout.engine.pool import Lost
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.model import Failure, RunState
from fanout.protocol import (
    Evict,
    GiveUp,
    RunCompleted,
    RunEvicted,
    RunFailed,
    StepCompleted,
    StepFailed,
    StepRunning,
)

FromExecution = StepRunning | StepCompleted | StepFailed | RunCompleted | RunFailed | RunEvicted


class Attempts:
    """Decides on the executions of a roster. `retry_delay_ms` replaces every backoff, in development."""

    def __init__(
        self, roster: Roster, timers: Timers, *, retry_delay_ms: int | None, chance: Callable[[], float]
    ) -> None:
        self._roster = roster
        self._timers = timers
        self._retry_delay_ms = retry_delay_ms
        self._chance = chance

    def hear(self, tick: Tick, message: FromExecution, now: int) -> None:
        """A worker's message. Under a claim that is not held any more it is stale, and nothing happens."""
        active = self._roster.active.get(message.claim)
        if active is None:
            return
        if not active.is_cancelled:
            self._decide(tick, active, message, now)
        elif isinstance(message, StepFailed):
            # It waits for a verdict, and was told to leave before it did.
            tick.tell(active.worker, Evict(active.claim))
        if isinstance(message, RunCompleted | RunFailed | RunEvicted):
            self._roster.end(active)

    def _decide(self, tick: Tick, active: Active, message: FromExecution, now: int) -> None:
        match message:
            case StepCompleted():
                tick.step_completed(active, message)
            case RunCompleted():
                tick.end(active, RunState.COMPLETED, now, output=message.output)
            case StepFailed():
                self._fail_step(tick, active, message, now)
            case RunFailed():
                self._fail_run(tick, active, message, now)
            case RunEvicted():
                self._leave(tick, active)
            case StepRunning():
                tick.step_running(active, message)
            case _:
                assert_never(message)

    def _fail_step(self, tick: Tick, active: Active, failed: StepFailed, now: int) -> None:
        due_at = self._next_try(active, failed.attempts - 1, failed, now)
        tick.step_failed(active, failed, now, due_at=due_at)
        if due_at is None:
            tick.tell(active.worker, GiveUp(failed.call))
        else:
            # With several branches that wait, none is tried before its time.
            active.due_at = max(due_at, active.due_at or 0)
            tick.tell(active.worker, Evict(active.claim))

    def _fail_run(self, tick: Tick, active: Active, failed: RunFailed, now: int) -> None:
        run = active.run
        tick.failed(active, "", run.attempt, failed.failure, now)
        due_at = self._next_try(active, run.attempt, failed, now)
        if due_at is None:
            tick.end(active, RunState.FAILED, now)
        else:
            self._wait(tick, active, due_at, run.attempt + 1)

    def _leave(self, tick: Tick, active: Active) -> None:
        """It left without a result: for a step's next attempt, or because this engine stops."""
        if active.due_at is None:
            tick.requeue(active.run)
        else:
            self._wait(tick, active, active.due_at, active.run.attempt)

    def _wait(self, tick: Tick, active: Active, due_at: int, next_attempt: int) -> None:
        tick.wait(active, due_at, next_attempt)
        self._timers.add(due_at)

    def _next_try(self, active: Active, attempt: int, failed: StepFailed | RunFailed, now: int) -> int | None:
        return retry.next_try(
            attempt,
            active.spec.max_attempts,
            is_retriable=failed.is_retriable,
            retry_after_ms=failed.retry_after_ms,
            policy=active.spec.backoff,
            override_ms=self._retry_delay_ms,
            now=now,
            random=self._chance(),
        )

    def lose(self, tick: Tick, worker: int, lost: Lost, now: int) -> None:
        """A worker is gone: its runs go back to the queue, and the one that is to blame is charged."""
        there = self._roster.leave(worker)
        for active in there:
            if active.is_cancelled:
                continue
            if active.due_at is not None:
                # It was on its way out, to wait for a step's next attempt: that it still does.
                self._wait(tick, active, active.due_at, active.run.attempt)
            else:
                self._blame(tick, active, len(there), lost, now)

    def _blame(self, tick: Tick, active: Active, runs_in_worker: int, lost: Lost, now: int) -> None:
        run = active.run
        verdict = blame(runs_in_worker, run.crashes)
        if verdict is Blame.SUSPECT:
            tick.requeue(run._replace(is_suspect=True))
            return
        tick.failed(active, "", run.attempt, Failure("Crashed", lost.reason, "\n".join(lost.tail)), now)
        active.run = run._replace(crashes=run.crashes + 1, is_suspect=True)
        if verdict is Blame.CHARGED:
            tick.requeue(active.run)
        else:
            tick.end(active, RunState.FAILED, now, reason="crashed")

    def cancel(self, tick: Tick, active: Active, now: int) -> None:
        """The run ends now; its slot is free when the step in flight has ended."""
        active.is_cancelled = True
        tick.tell(active.worker, Evict(active.claim))
        tick.end(active, RunState.CANCELLED, now)
