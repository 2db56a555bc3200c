"""Time limits: of the time in the queue, of a whole run, of one attempt of a step. What ignores them is killed."""

from __future__ import annotations

import heapq

from fanout.engine.roster import Active, Roster
from fanout.engine.runs import Runs
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal
from fanout.model import NO_LIMITS, Failure, RunState
from fanout.protocol import StepCompleted, StepFailed, StepRunning

EXPIRED_A_TICK = 500
TASK_GRACE_MS = 1_000
"""A task is cancelled by its own worker at the limit; only one that does not let itself be is killed, so much later."""
LEAVING_GRACE_MS = 5_000
"""How long the step in flight of a run that is over its time may go on."""


class Killed:
    """A worker that was killed for one step: only that is charged."""

    def __init__(self, active: Active, key: str, failure: Failure) -> None:
        self.active = active
        self.key = key
        self.failure = failure


class Deadlines:
    """Of executions it keeps the times itself; those of runs that no worker has are in the journal."""

    def __init__(self, journal: Journal, roster: Roster, timers: Timers, runs: Runs) -> None:
        self._journal = journal
        self._roster = roster
        self._timers = timers
        self._runs = runs
        self._times: list[tuple[int, int, str, int]] = []
        """(time, claim, step or empty, when that began)"""
        self._kills: list[tuple[int, int]] = []
        self.killed: dict[int, Killed | None] = {}
        """By worker: why it was killed; nothing if no step of a live run was the reason."""

    @property
    def next_at(self) -> int | None:
        return min((times[0][0] for times in (self._times, self._kills) if times), default=None)

    def started(self, active: Active) -> None:
        if active.deadline_at is not None:
            heapq.heappush(self._times, (active.deadline_at, active.claim, "", 0))

    def hear(self, active: Active, message: StepRunning | StepCompleted | StepFailed) -> None:
        """A step has begun, or its attempt has ended. It holds a slot also when its run has ended before."""
        key, at = message.key, message.started_at
        if not isinstance(message, StepRunning):
            active.running.pop(key, None)
            return
        active.running[key] = at
        limit_ms = active.spec.timeouts.step_ms
        if limit_ms is not None:
            grace_ms = TASK_GRACE_MS if active.spec.is_async else 0
            heapq.heappush(self._times, (at + limit_ms + grace_ms, active.claim, key, at))

    def look(self, tick: Tick, now: int) -> None:
        """What is over its time: executions first, then what the journal has."""
        while self._times and self._times[0][0] <= now:
            _, claim, key, at = heapq.heappop(self._times)
            active = self._roster.active.get(claim)
            if active is None:
                continue
            if not key:
                if not active.is_final:
                    self._finish(tick, active, now)
            elif active.running.get(key) == at:
                self._kill_for_step(tick, active, key)
        while self._kills and self._kills[0][0] <= now:
            _, claim = heapq.heappop(self._kills)
            active = self._roster.active.get(claim)
            if active is not None and active.worker not in self.killed:
                self.killed[active.worker] = None
                tick.condemned.append((active.worker, f"a step of `{active.spec.id}` went on after its run had ended"))

    def fire(self, tick: Tick, now: int) -> None:
        """Runs that were not started in time, or whose time is over while they wait."""
        for live in self._journal.expired(now, EXPIRED_A_TICK):
            key = live.run.key
            active = self._roster.by_run.get(key)
            if active is not None:
                if not active.is_noted and not active.is_parked and not active.is_final:
                    tick.note(active)  # It was started: the limit of its time in the queue counts no more.
                continue
            if key in tick.woken:
                continue
            spec = self._runs.functions.get(live.run.function)
            limits = NO_LIMITS if spec is None else spec.timeouts
            if live.run.started_at is None:
                failure = _late("it was not started within", limits.start_ms)
            else:
                failure = _late("it did not end within", limits.finish_ms)
            self._runs.end_unstarted(tick, key, RunState.FAILED, now, reason="timed out", failure=failure)
            self._runs.cancel_children(tick, key, None, now)

    def _finish(self, tick: Tick, active: Active, now: int) -> None:
        failure = _late("it did not end within", active.spec.timeouts.finish_ms)
        tick.failed(active.run, "", active.run.attempt, failure, now)
        self._runs.cut_short(tick, active, RunState.FAILED, now, reason="timed out", failure=failure)
        self._runs.cancel_children(tick, active.run.key, None, now)
        heapq.heappush(self._kills, (now + LEAVING_GRACE_MS, active.claim))

    def _kill_for_step(self, tick: Tick, active: Active, key: str) -> None:
        if active.worker in self.killed:
            return
        failure = _late(f"step `{key}` did not end within", active.spec.timeouts.step_ms)
        self.killed[active.worker] = Killed(active, key, failure)
        tick.condemned.append((active.worker, failure.message))


def _late(what: str, limit_ms: int | None) -> Failure:
    return Failure("TimeoutError", f"{what} {'its time' if limit_ms is None else f'{limit_ms / 1000:g} s'}")
