"""What becomes of a run when its worker says something about it, or says nothing any more. It only decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from fanout.core import retry
from fanout.core.blame import Blame, blame
from fanout.engine import trust
from fanout.engine.children import Children
from fanout.engine.deadlines import Deadlines, Killed
from fanout.engine.parking import Parking
from fanout.engine.pool import Lost
from fanout.engine.roster import Active, Roster
from fanout.engine.runs import Runs
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.engine.waits import Waits
from fanout.journal import Journal
from fanout.journal.rows import EventRow
from fanout.model import Failure, FunctionSpec, RunState
from fanout.protocol import (
    EventWait,
    FromExecution,
    Invoke,
    Map,
    MapItems,
    Parked,
    Resume,
    RunCompleted,
    RunEvicted,
    RunFailed,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    Unpark,
)

# A union of classes would be made anew for each message.
_OF_STEPS = (StepRunning, StepCompleted, StepFailed)
_WORDS_ON_STEPS = (*_OF_STEPS, StepWaits)
_LAST_WORDS = (RunCompleted, RunFailed, RunEvicted)


class Attempts:
    """Decides on the executions of a roster. `retry_delay_ms` replaces every backoff, in development."""

    def __init__(
        self,
        journal: Journal,
        roster: Roster,
        timers: Timers,
        runs: Runs,
        waits: Waits,
        children: Children,
        parking: Parking,
        deadlines: Deadlines,
        *,
        retry_delay_ms: int | None,
        chance: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._roster = roster
        self._timers = timers
        self._runs = runs
        self._waits = waits
        self._children = children
        self._parking = parking
        self._deadlines = deadlines
        self._retry_delay_ms = retry_delay_ms
        self._chance = chance
        self._distrusted: dict[int, str] = {}
        """Workers that are being killed for what they have said."""

    def have(self, *, retry_delay_ms: int | None) -> None:
        """From now on this replaces every backoff."""
        self._retry_delay_ms = retry_delay_ms

    def hear(self, tick: Tick, worker: int, message: FromExecution, now: int) -> None:
        """A worker's message. Under a claim that it does not hold any more it is stale, and nothing happens."""
        active = self._roster.active.get(message.claim)
        if active is None or active.worker != worker or worker in self._distrusted:
            return
        if (wrong := trust.complaint(active, message)) is not None:
            self._distrusted[worker] = wrong
            tick.condemned.append((worker, wrong))
            return
        if isinstance(message, _OF_STEPS):
            self._deadlines.hear(active, message)
        if not active.is_final:
            if (active.waits or tick.writes.tried) and isinstance(message, _WORDS_ON_STEPS):
                _replace(tick, active, message)
            self._decide(tick, active, message, now)
        if isinstance(message, _LAST_WORDS):
            self._roster.end(active)
            self._timers.add(active.deadline_at)  # From here on only the journal knows it.

    def _decide(self, tick: Tick, active: Active, message: FromExecution, now: int) -> None:  # noqa: C901, PLR0912 - one case a message
        match message:
            case StepCompleted():
                self._complete_step(tick, active, message, now)
            case RunCompleted():
                tick.writes.unreached += [(active.run.key, key) for key in message.unreached]
                self._runs.end(tick, active, RunState.COMPLETED, now, output=message.output)
            case StepFailed():
                self._fail_step(tick, active, message, now)
            case StepWaits():
                self._begin_wait(tick, active, message, now)
            case MapItems():
                self._children.take(tick, active, message, now)
            case Parked():
                self._parking.park(tick, active, message, now)
            case Unpark():
                self._unpark(tick, active)
            case RunFailed():
                self._fail_run(tick, active, message, now)
            case RunEvicted():
                if not active.is_parked:
                    tick.requeue(active)
            case StepRunning():
                if message.key not in active.waits:  # Else it has failed meanwhile, and is to be tried again.
                    tick.step_running(active, message)
            case _:
                assert_never(message)

    def _complete_step(self, tick: Tick, active: Active, step: StepCompleted, now: int) -> None:
        if active.has_maps:
            self._children.replaced(tick, active, step.key)
        tick.step_completed(active, step)
        active.over.add(step.key)
        origin = active.run.key
        for sent in step.events:
            ts = now if sent.ts is None else sent.ts
            tick.writes.events.append(
                EventRow(None, sent.id, sent.is_id_given, sent.name, ts, sent.data, sent.user, sent.v, now, origin)
            )

    def _begin_wait(self, tick: Tick, active: Active, step: StepWaits, now: int) -> None:
        active.known.add(step.key)
        if active.has_maps:
            self._children.replaced(tick, active, step.key)
        match step.awaited:
            case Sleep() | EventWait():
                self._waits.begin(tick, active, step, step.awaited)
            case Invoke():
                self._children.invoke(tick, active, step, step.awaited, now)
            case Map():
                self._children.map(tick, active, step, step.awaited, now)
            case _:
                assert_never(step.awaited)

    def _unpark(self, tick: Tick, active: Active) -> None:
        if active.is_parked:
            self._waits.resume(tick, active)
        elif not active.is_leaving and not self._roster.is_resuming(active):
            # Something had come for it before it was parked: it never lost its slot.
            tick.tell(active.worker, Resume(active.claim))

    def _fail_step(self, tick: Tick, active: Active, failed: StepFailed, now: int) -> None:
        if active.has_maps:
            self._children.replaced(tick, active, failed.key)
        due_at = self._next_try(active.spec, failed.attempts - 1, failed, now)
        tick.step_failed(active, failed, now, due_at=due_at)
        if due_at is None:
            active.over.add(failed.key)
            tick.changed.append((active, failed.key))
        else:
            active.waits[failed.key] = due_at
            active.has_retries = True
            self._timers.add(due_at)

    def _fail_run(self, tick: Tick, active: Active, failed: RunFailed, now: int) -> None:
        run = active.run
        tick.failed(run, "", run.attempt, failed.failure, now)
        due_at = self._next_try(active.spec, run.attempt, failed, now)
        if due_at is None:
            self._runs.end(tick, active, RunState.FAILED, now, failure=failed.failure)
        else:
            tick.retry(active, due_at)
            self._timers.add(due_at)

    def _next_try(
        self, spec: FunctionSpec, attempt: int, failed: StepFailed | RunFailed | None, now: int
    ) -> int | None:
        return retry.next_try(
            attempt,
            spec.max_attempts,
            is_retriable=failed is None or failed.is_retriable,
            retry_after_ms=None if failed is None else failed.retry_after_ms,
            policy=spec.backoff,
            override_ms=self._retry_delay_ms,
            now=now,
            random=self._chance(),
        )

    # Death.

    def lose(self, tick: Tick, worker: int, lost: Lost, now: int) -> None:
        """A worker is gone: its runs go back to the queue, and the one that is to blame is charged.

        What was parked there waits in the journal as before.
        """
        wrong = self._distrusted.pop(worker, None)
        if wrong is not None:
            lost = lost._replace(reason=f"worker {worker} was ended because it {wrong}")
        was_killed = worker in self._deadlines.killed
        killed = self._deadlines.killed.pop(worker, None)
        executing, parked = self._roster.leave(worker)
        for active in (*executing, *parked):
            self._timers.add(active.deadline_at)
        for active in parked:
            if not active.is_parked and not active.is_final:
                tick.requeue(active)  # It was about to go on.
        for active in executing:
            if active.is_final:
                continue
            if not was_killed:
                self._blame(tick, active, len(executing), lost, now)
                continue
            if killed is not None and killed.active is active and killed.key in active.running:
                self._fail_killed(tick, killed, now)
            tick.requeue(active)

    def _fail_killed(self, tick: Tick, killed: Killed, now: int) -> None:
        """A step that ignored its time limit has failed, like one that raised."""
        active, recorded = killed.active, self._journal.step(killed.active.run.key, killed.key)
        attempts = recorded.attempts + 1
        failed = StepFailed(
            active.claim, recorded.key, recorded.branch, 0, attempts, killed.failure,
            active.running[killed.key], now, True, None,
        )  # fmt: skip
        due_at = self._next_try(active.spec, attempts - 1, None, now)
        tick.step_failed(active, failed, now, due_at=due_at)
        self._timers.add(due_at)

    def _blame(self, tick: Tick, active: Active, runs_in_worker: int, lost: Lost, now: int) -> None:
        run = active.run
        verdict = blame(runs_in_worker, run.crashes)
        if verdict is Blame.SUSPECT:
            active.run = run._replace(is_suspect=True)
            tick.requeue(active)
            return
        failure = Failure("Crashed", lost.reason, "\n".join(lost.tail))
        tick.failed(run, "", run.attempt, failure, now)
        active.run = run._replace(crashes=run.crashes + 1, is_suspect=True)
        if verdict is Blame.CHARGED:
            tick.requeue(active)
        else:
            self._runs.end(tick, active, RunState.FAILED, now, reason="crashed", failure=failure)


def _replace(tick: Tick, active: Active, step: StepRunning | StepCompleted | StepFailed | StepWaits) -> None:
    """If this step waited for something, the code has been edited, and it is another one now: that is over."""
    where = active.run.key, step.key
    if tick.writes.tried and where in tick.writes.tried:
        tick.writes.tried.remove(where)
    if step.key in active.waits and not isinstance(step, StepRunning):
        del active.waits[step.key]
        tick.resolved.add(where)
        if not (isinstance(step, StepWaits) and isinstance(step.awaited, EventWait)):
            tick.writes.heard.append(where)
