"""Who gets a slot next: executions that go on, then the runs of the queue, then suspects, each alone in a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from fanout.engine.children import Children
from fanout.engine.deadlines import Deadlines
from fanout.engine.limits import FreeSlot, Limits, Paused, TickBefore
from fanout.engine.parking import Parking
from fanout.engine.queue import ReadyQueue
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun, StoredEvent
from fanout.model import FunctionSpec, StepKind, StepState
from fanout.protocol import Resume, Start, StepChanged

_TIMED = (StepKind.RUN, StepKind.SLEEP)
_OVER = (StepState.COMPLETED, StepState.FAILED, StepState.CANCELLED)


class Dispatch:
    """Acts only after a commit: what it starts and tells is what the journal has."""

    def __init__(
        self,
        journal: Journal,
        roster: Roster,
        queue: ReadyQueue,
        limits: Limits,
        children: Children,
        parking: Parking,
        deadlines: Deadlines,
        *,
        event: Callable[[int], StoredEvent],
    ) -> None:
        self._journal = journal
        self._roster = roster
        self._queue = queue
        self._limits = limits
        self._children = children
        self._parking = parking
        self._deadlines = deadlines
        self._event = event
        self._functions: dict[str, FunctionSpec] = {}
        self._suspects: deque[QueuedRun] = deque()
        self._last_claim = 0
        self.started: deque[Active] = deque()
        """Executions that may still have to be noted as running, the oldest first."""

    def learn(self, functions: dict[str, FunctionSpec]) -> None:
        self._functions = functions
        self._limits.learn(functions, [active.run for active in self._roster.holding()])
        self._suspects.clear()  # The queue finds them again in the journal, if their functions are still there.
        self._queue.load(functions)

    def is_taken(self, run: int) -> bool:
        """Whether the queue has given it out already."""
        return run in self._roster.by_run or any(each.key == run for each in self._suspects)

    def has_ready(self, apps: Iterable[str]) -> bool:
        """Whether a run of these apps may start, at once or when a worker of its app is free, or has loaded."""
        return self._queue.has_ready() or any(
            self._queue.is_awaited(FreeSlot(app)) or any(self._app_of(run) == app for run in self._suspects)
            for app in apps
        )

    def demand(self, app: str, most: int) -> int:
        """Workers that there is work for, counted no further than `most`."""
        found = self._roster.executing_of(app) + sum(self._app_of(run) == app for run in self._suspects)
        if found < most:
            found += self._queue.at_least(most - found, app, self._app_of_function, FreeSlot(app))
        return found

    def _app_of(self, run: QueuedRun) -> str:
        return self._app_of_function(run.function)

    def _app_of_function(self, function: str) -> str:
        spec = self._functions.get(function)
        return "" if spec is None else spec.app

    def freed(self, active: Active) -> None:
        """An execution has its slot, and its limits' places, no longer: others may have them."""
        self._pass_on(active.run, active.spec.app)

    def _pass_on(self, run: QueuedRun, app: str) -> None:
        # Who waits for a slot comes before the next of the same key, which would have the slot every time.
        self._queue.wake(FreeSlot(app))
        for place in self._limits.release(run):
            self._queue.wake(place)

    # After a commit.

    def take_in(self, tick: Tick) -> None:
        """What the tick has made ready, stopped, or allowed."""
        if tick.discarded:
            self._discard(tick.discarded)
        for permit in tick.permits:
            self._queue.wake(permit)
        for function in sorted(tick.over):
            self._queue.wake_all(TickBefore(function))
        for function in tick.unpaused:
            self._limits.unpause(function)
            self._queue.wake_all(Paused(function))
        for run in tick.ready:
            # Suspects as well: only the queue knows which runs it will read from the journal by itself.
            if run.key not in tick.ended:
                self._queue.append(run)

    def _discard(self, runs: Collection[QueuedRun]) -> None:
        self._queue.discard(runs)
        if self._suspects:
            keys = {each.key for each in runs}
            self._suspects = deque(each for each in self._suspects if each.key not in keys)

    def tell_changed(self, tick: Tick) -> None:
        """What the journal now has on steps goes to the executions that wait for them; without a slot, later."""
        for active, key in tick.changed:
            if active.is_over or active.is_leaving:
                continue
            active.changes.append(key)
            if not self._roster.is_resuming(active):
                self._tell_steps(tick, active)

    def _tell_steps(self, tick: Tick, active: Active) -> None:
        for key in active.changes:
            tick.tell(active.worker, StepChanged(active.claim, self._journal.step(active.run.key, key)))
        active.changes.clear()

    def start_ready(self, tick: Tick, now: int) -> None:
        self._limits.look(now)
        while (active := self._roster.resume(self._may_go_on)) is not None:
            self._limits.hold(active.run)
            self._tell_steps(tick, active)
            tick.tell(active.worker, Resume(active.claim))
        self._start_queued(tick, now)
        self._start_suspects(tick, now)
        while self._roster.opened:
            app = min(self._roster.opened)
            self._roster.opened.discard(app)
            self._queue.wake_all(FreeSlot(app))
            self._start_queued(tick, now)
            self._start_suspects(tick, now)

    def _start_queued(self, tick: Tick, now: int) -> None:
        while (run := self._queue.take(self._limits)) is not None:
            worker = self._roster.freest(self._app_of(run))
            if run.is_suspect or worker is None:
                self._suspects.append(run)
                self._pass_on(run, self._app_of(run))  # It was woken for a place, and waits for a worker first.
            else:
                self._start(tick, run, worker, now)

    def _may_go_on(self, active: Active) -> bool:
        return self._limits.full_place(active.run) is None

    def _may_be_alone(self, suspect: QueuedRun) -> bool:
        return self._roster.can_reserve(self._app_of(suspect)) and self._limits.full_place(suspect) is None

    def _start_suspects(self, tick: Tick, now: int) -> None:
        while self._suspects:
            suspect = next((each for each in self._suspects if self._may_be_alone(each)), None)
            worker = None if suspect is None else self._roster.reserve(self._app_of(suspect))
            if suspect is None or worker is None:
                break
            for parked in self._roster.parked(worker).values():
                if not parked.is_leaving:
                    self._parking.evict(tick, parked)
            if not self._roster.is_empty(worker):
                return  # It gets nothing new until then.
            self._suspects.remove(suspect)
            self._start(tick, suspect, worker, now)
        self._roster.release()

    def _start(self, tick: Tick, run: QueuedRun, worker: int, now: int) -> None:
        self._last_claim += 1
        spec = self._functions[run.function]
        active = Active(self._last_claim, run, spec, worker, now)
        self._roster.start(active)
        self._limits.hold(run)
        spent = self._limits.spend(run)
        if spent is not None:
            self._queue.wake(spent)  # The next that waits for such a permit has to ask for its own.
        self.started.append(active)
        self._deadlines.started(active)
        steps = () if run.is_fresh else self._journal.steps(run.key)
        batch = () if run.is_fresh else self._journal.events_of(run.key)
        if steps:
            active.known = {step.key for step in steps if step.progress is not None}
            active.over = {step.key for step in steps if step.state in _OVER}
            # Whether such a step may end at any time, or not before its own, is known for retries and sleeps only.
            active.waits = {
                step.key: step.due_at if step.due_at is not None and step.kind in _TIMED else 0
                for step in steps
                if step.is_open
            }
            active.has_retries = any(step.state is StepState.RETRYING for step in steps)
            self._children.started(active, steps)
        envelope = self._event(run.event).envelope()
        batched = tuple(event.envelope() for event in batch)
        tick.tell(worker, Start(active.claim, run.id, spec.local_id, run.attempt, envelope, steps, batched))
