"""What steps wait for, and what happens when it comes: a time, or an event. It only decides."""

from __future__ import annotations

from typing import Any

from fanout.core.paths import value_at
from fanout.engine.admission import Admission
from fanout.engine.roster import Active, Roster
from fanout.engine.runs import Runs
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal
from fanout.journal.rows import (
    DueStep,
    FailureRow,
    ResolvedStep,
    StoredEvent,
    WaitRow,
)
from fanout.model import Failure, RunState, StepKind, StepState
from fanout.protocol import EventWait, Sleep, StepWaits

DUE_A_TICK = 500


class Waits:
    """A run that waits and has no worker is ready as soon as one of its steps has what it waits for."""

    def __init__(self, journal: Journal, roster: Roster, timers: Timers, runs: Runs, admission: Admission) -> None:
        self._journal = journal
        self._roster = roster
        self._timers = timers
        self._runs = runs
        self._admission = admission

    # Beginning.

    def begin(self, tick: Tick, active: Active, step: StepWaits, awaited: Sleep | EventWait) -> None:
        tick.step_waits(active, step, awaited.due_at)
        self._timers.add(awaited.due_at)
        if isinstance(awaited, Sleep):
            active.waits[step.key] = awaited.due_at
            return
        active.waits[step.key] = 0
        path, value = awaited.match or ("", "")
        row = WaitRow(active.run.key, step.key, 0, awaited.event, path, value, awaited.if_, None, after=None)
        tick.writes.waits.append(row)
        self._runs.awaited.add(awaited.event)

    # What comes.

    def fire(self, tick: Tick, now: int, *, has_heard_all: bool) -> None:
        """Everything whose time has come; nothing is given up as long as there are events that may be in time."""
        self._timers.fire()
        for run in self._journal.due(now, DUE_A_TICK):
            if run.key not in tick.ended and run.key not in tick.extended:
                self._ready(tick, run.key, now)
        for step in self._journal.due_steps(now, DUE_A_TICK):
            if has_heard_all or step.kind is not StepKind.WAIT:
                self._fire_step(tick, step, now)

    def _fire_step(self, tick: Tick, due: DueStep, now: int) -> None:
        if due.run in tick.ended:
            return
        if due.state is StepState.RETRYING:
            tick.writes.tried.append((due.run, due.key))
            self.wake(tick, due.run, due.key, now)
        elif due.kind is StepKind.INVOKE:
            late = Failure("TimeoutError", "the function did not end in time")
            self.resolve(tick, due.run, due.key, StepState.FAILED, now, failure=late)
        else:
            # The end of a sleep, or None instead of an event.
            self.resolve(tick, due.run, due.key, StepState.COMPLETED, now, output="null")

    def hear(self, tick: Tick, event: StoredEvent, now: int) -> None:
        """An event has come: for the steps that wait for it, and for runs that it cancels."""
        said = event.as_dict()
        for path in self._journal.wait_paths(event.name):
            value = "" if not path else value_at(said, path)
            if value is None:
                continue
            for wait in self._journal.waits(event.name, path, value):
                if wait.run in tick.ended or (wait.run, wait.step) in tick.resolved:
                    continue  # By an event before this one, of which the journal does not know yet.
                if not self._is_in_time(wait, event):
                    continue
                if wait.condition is not None and not self._holds(wait, said):
                    continue
                if wait.step:
                    self.resolve(tick, wait.run, wait.step, StepState.COMPLETED, now, output=event.as_json())
                else:
                    self._runs.cancel(tick, wait.run, now)

    def _is_in_time(self, wait: WaitRow, event: StoredEvent) -> bool:
        """Whether it was accepted while this was waited for, however late it is routed."""
        if wait.after is not None and event.key <= wait.after:
            return False
        until = self._journal.step(wait.run, wait.step).due_at if wait.step else wait.expires_at
        return until is None or event.received_at <= until

    def _holds(self, wait: WaitRow, said: dict[str, Any]) -> bool:
        from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

        live = self._journal.live(wait.run)
        if live is None or wait.condition is None:
            return False
        started_by = self._journal.event(live.run.event).as_dict()
        expression = expressions.parse(wait.condition, variables=expressions.IN_WAITS)
        return expression.is_true(**{"event": started_by, "async": said})

    # What becomes of a step that waited.

    def resolve(
        self,
        tick: Tick,
        run: int,
        key: str,
        state: StepState,
        now: int,
        *,
        output: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        """The step has what it waited for: `output`, or a failure. Only the first counts."""
        if run in tick.ended or (run, key) in tick.resolved:
            return
        tick.resolved.add((run, key))
        tick.writes.resolved.append(ResolvedStep(state, output, now, run, key))
        tick.writes.heard.append((run, key))
        if failure is not None:
            tick.writes.failures.append(FailureRow(run, key, 0, failure.type, failure.message, failure.traceback, now))
        self.wake(tick, run, key, now, is_over=True)

    def wake(self, tick: Tick, run: int, key: str, now: int, *, is_over: bool = False) -> None:
        """The journal is about to have something new on this step, and its run may go on."""
        active = self._roster.by_run.get(run)
        if active is None:
            self._ready(tick, run, now, because_of_step=True)
        elif not active.is_final:
            active.waits.pop(key, None)
            if is_over:
                active.over.add(key)
            tick.changed.append((active, key))
            self.resume(tick, active)

    def resume(self, tick: Tick, active: Active) -> None:
        """A parked execution goes on when its worker has a slot; one that is leaving comes back from the queue."""
        if not active.is_parked:
            return
        active.is_parked = False
        active.is_noted = True
        tick.writes.resumed.append((active.run.key, active.run.attempt))
        if active.is_leaving:
            self._roster.start_again_later(active)
        else:
            self._roster.resume_later(active)

    def _ready(self, tick: Tick, run: int, now: int, *, because_of_step: bool = False) -> None:
        if run in tick.woken or run in tick.ended:
            return
        queued = tick.parked.get(run)
        if queued is None:
            live = self._journal.live(run)
            # One that waits for a time of its own, to try again, is not woken by its steps.
            if live is None or live.state is not RunState.WAITING or (because_of_step and live.due_at is not None):
                return
            if live.hold is not None:
                self._admission.is_due(tick, live.run, live.hold, now)
                return
            queued = live.run
        self._runs.make_ready(tick, queued, now)
