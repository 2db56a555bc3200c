"""The engine: one thread, one loop. Gather what waits, decide, commit once, and only then act.

Nothing leaves the engine before the commit that records it. What it holds in memory is a cache of the journal:
if it dies anywhere, another reads the journal and goes on; there is no other way to recover.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from fanout.engine.admission import Admission
from fanout.engine.apps import Apps
from fanout.engine.attempts import Attempts
from fanout.engine.children import Children
from fanout.engine.deadlines import Deadlines
from fanout.engine.dispatch import Dispatch
from fanout.engine.limits import FreeSlot, Limits
from fanout.engine.parking import Parking
from fanout.engine.pool import Lost, Pool
from fanout.engine.pruning import Pruning
from fanout.engine.queue import ReadyQueue
from fanout.engine.reloads import Reloaded
from fanout.engine.requests import Requests
from fanout.engine.roster import Roster
from fanout.engine.runs import Runs
from fanout.engine.schedules import Schedules
from fanout.engine.settings import Settings
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.engine.waits import Waits
from fanout.errors import LoadError
from fanout.journal import DUPLICATE_WINDOW_MS, Journal
from fanout.journal.pruning import Removing
from fanout.journal.rows import StoredEvent
from fanout.journal.writes import Writes
from fanout.model import FunctionSpec
from fanout.protocol import Described, Evict, LoadFailed, RunCompleted, StepCompleted, ToEngine

NOTE_AFTER_MS = 250
LOOK_EVERY_MS = 100
EVENTS_A_TICK = 250
RUNS_A_TICK = 1_000
"""Of events; the last of those may make more."""
REQUESTS_A_TICK = 20
_CACHED_EVENTS = 2_048
_CACHED_EVENT_CHARS = 8 * 1024


class Bell(Protocol):
    """How other processes are heard and told."""

    def answer(self) -> bool: ...

    def tell_followers(self) -> None: ...


class Engine:
    """Runs a journal with a pool. Time, ids and chance come from outside, so a test can own them."""

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        bell: Bell,
        settings: Settings,
        *,
        clock: Callable[[], int],
        chance: Callable[[], float],
        forget: Removing = lambda _runs: None,
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._bell = bell
        self._settings = settings
        self._clock = clock

        journal.recover()
        self._timers = Timers(journal)
        self._roster = Roster(settings.slots, on_freed=lambda active: self._dispatch.freed(active))  # noqa: PLW0108 - it is made later
        self._limits = Limits(journal, has_slot=self._roster.has_slot)
        self._queue = ReadyQueue(
            journal.queued,
            journal.partitions,
            lambda run: self._dispatch.is_taken(run),  # noqa: PLW0108 - as above
            journal.last_rank(),
        )
        self._runs = Runs(
            journal,
            self._roster,
            self._queue,
            self._timers,
            event=self._event,
            admit=lambda *event, is_echo: self._admission.admit(*event, is_echo=is_echo),
            sampling=settings.sampling,
        )
        self._admission: Admission = Admission(journal, self._timers, self._runs)
        self._waits = Waits(journal, self._roster, self._timers, self._runs, self._admission)
        self._schedules = Schedules(journal, self._runs, self._admission)
        self._requests = Requests(journal, self._runs, self._limits, self._schedules)
        self._children = Children(journal, self._timers, self._runs, self._waits)
        self._parking = Parking(self._roster, self._timers, park_ms=settings.park_ms, slots=settings.slots)
        self._deadlines = Deadlines(journal, self._roster, self._timers, self._runs)
        self._dispatch = Dispatch(
            journal, self._roster, self._queue, self._limits, self._children, self._parking, self._deadlines,
            event=self._event,
        )  # fmt: skip
        self._pruning = Pruning(journal, settings.keep, clock=clock, forget=forget)
        self._apps = Apps(
            journal,
            pool,
            self._roster,
            self._dispatch,
            processes=settings.processes,
            has_prefixes=settings.has_prefixes,
            has_reloads=settings.has_reloads,
        )
        self._attempts = Attempts(
            journal, self._roster, self._timers, self._runs, self._waits, self._children, self._parking,
            self._deadlines, retry_delay_ms=settings.retry_delay_ms, chance=chance,
        )  # fmt: skip
        self._events: dict[int, StoredEvent] = {}
        self._routed_to = journal.routed_to()
        self._next_look = 0
        self._has_news = True
        self.on_commit: Callable[[Writes], None] | None = None
        """Called with what has just become durable."""
        self.on_ended: Callable[[Writes], None] | None = None
        """Called with writes by which runs have ended, once those are durable."""
        self.on_reloaded: Callable[[Reloaded], None] = lambda _reloaded: None
        """Called with what has come of a reload, also of the first start if the code can't be loaded."""
        self.is_stopping = False
        self._tick = Tick()

    # The life of an engine.

    def tick(self, longest_ms: int = LOOK_EVERY_MS) -> None:
        """One round. It waits for something to do, but no longer than `longest_ms`.

        Raises:
            LoadError: the user's modules can't be loaded.
            JournalError: the journal can't be used; what was not committed has not happened.
        """
        arrivals = self._pool.wait(self.patience_ms(longest_ms) / 1000)
        now = self._clock()
        if self._bell.answer():
            self._has_news = True
        # Requests before messages: a run that is cancelled here can't end in the same tick.
        self._look(now)
        for worker, message in arrivals:
            self._receive(worker, message, now)
        if arrivals:
            # A run's last words are often a moment behind its last step: one commit is cheaper than two.
            for worker, message in self._pool.wait(0):
                self._receive(worker, message, now)
        self._note_long_ones(now)
        self._parking.look(self._tick, now)
        self._deadlines.look(self._tick, now)
        self._children.settle(self._tick, now)
        self._limits.decide(self._tick, now)
        if self._tick.writes:
            self._commit(self._tick.writes)
        # After the commit, which changes who waits; also if all that were due have been cancelled.
        self._timers.look()
        is_busy = bool(arrivals or self._tick.writes or self._has_news)
        self._act(now)
        if self.functions and not self.is_stopping and self._pruning.work(now, is_idle=not is_busy):
            self._bell.tell_followers()

    def reload(self, settings: Settings, apps: Collection[str], concerned: Collection[str]) -> None:
        """From now on these are the settings and the apps; the code of those concerned is loaded anew.

        What comes of it is told by `on_reloaded`. Until then, and if it can't be loaded, what is there goes on.
        """
        now = self._clock()
        self._settings = settings
        self._roster.have(slots=settings.slots)
        self._parking.have(park_ms=settings.park_ms, slots=settings.slots)
        self._attempts.have(retry_delay_ms=settings.retry_delay_ms)
        self._pruning.have(settings.keep)
        if self._apps.have(self._tick, apps, processes=settings.processes, has_prefixes=settings.has_prefixes):
            self._learn(now)
        self._apps.reload(concerned, now)
        for app in apps:
            self._queue.wake_all(FreeSlot(app))  # There may be more slots now.
        self._has_news = True

    def stop(self) -> None:
        """Start nothing more, and let executions leave at their next step's edge."""
        self.is_stopping = True
        for active in self._roster.active.values():
            active.is_leaving = True
            self._pool.send(active.worker, [Evict(active.claim)])

    def is_idle(self) -> bool:
        """Nothing executes and nothing can be started now; what is left waits for a time, an event or code."""
        return not (
            self._roster.executing
            or self._dispatch.has_ready(self._apps.loadable())
            or self._limits.has_questions
            or self._has_news
            or self._timers.are_due(self._clock())
        )

    @property
    def load_errors(self) -> list[LoadError]:
        """Why code can't be loaded, while other workers go on."""
        return self._apps.errors

    @property
    def functions(self) -> dict[str, FunctionSpec]:
        """What the code has, by id; empty until a worker has loaded it."""
        return self._runs.functions

    @property
    def routed_to(self) -> int:
        """The key of the last event that has been routed."""
        return self._routed_to

    @property
    def executing(self) -> int:
        """How many runs workers are at."""
        return self._roster.executing

    @property
    def next_due(self) -> int | None:
        """When the next run, step or tick is due, or a throttle lets one through. Not within a tick."""
        times = (self._timers.ask(), self._queue.next_at, self._schedules.next_at)
        return min((at for at in times if at is not None), default=None)

    def unloaded(self) -> set[str]:
        """Functions whose code can't be loaded, while that of others can."""
        return self._apps.unloaded()

    def stranded(self) -> set[str]:
        """Functions that have queued runs but are not in the code."""
        return self._queue.stranded()

    def patience_ms(self, longest_ms: int) -> int:
        """How long the next tick waits for something to do. Not within a tick."""
        if (self._has_news or self._queue.has_ready()) and self.functions and not self.is_stopping:
            return 0
        if self._limits.has_questions:
            return 0
        now = self._clock()
        times = [now + longest_ms]
        if self.functions and not self.is_stopping:
            times.append(self._next_look)
            if self._timers.earliest is not None:
                times.append(self._timers.earliest)
            own = (self._queue.next_at, self._schedules.next_at, self._pruning.next_at)
            times += [at for at in own if at is not None]
        times += [at for at in (self._parking.next_at, self._deadlines.next_at) if at is not None]
        if self._dispatch.started:
            times.append(self._dispatch.started[0].started_at + NOTE_AFTER_MS)
        return max(0, min(times) - now)

    # Gather and decide.

    def _look(self, now: int) -> None:
        """What the journal has for us: events, requests, runs that are due."""
        if not self.functions or self.is_stopping:
            return
        if now >= self._next_look or self._next_look > now + LOOK_EVERY_MS or self._timers.are_due(now):
            self._next_look = now + LOOK_EVERY_MS
            self._has_news = self._journal.has_news() or self._has_news
        if self._has_news:
            self._pruning.ask()
            requests = self._journal.open_requests(REQUESTS_A_TICK)
            # All of them, also when the first is not over yet.
            are_over = [self._requests.answer(self._tick, request, now) for request in requests]
            events = self._journal.unrouted(self._routed_to, EVENTS_A_TICK)
            routed = self._route(events, now)
            has_more = len(events) == EVENTS_A_TICK or len(requests) == REQUESTS_A_TICK or not all(are_over)
            self._has_news = routed < len(events) or has_more
        if self._timers.are_due(now):
            # First what is too late, whatever else has come since.
            self._deadlines.fire(self._tick, now)
            self._waits.fire(self._tick, now, has_heard_all=not self._has_news)
        if self._settings.has_schedules:
            self._schedules.fire(self._tick, now)
        self._queue.fire(now)

    def _route(self, events: list[StoredEvent], now: int) -> int:
        """All runs of an event in one transaction, with the mark that says that it is routed. How many were."""
        started: dict[tuple[str, str], int] = {}
        most = len(self._tick.writes.runs) + RUNS_A_TICK
        for number, event in enumerate(events):
            if event.name in self._tick.awaited:
                return number  # For runs made in this tick it is news: the journal has to know first that they wait.
            if len(self._tick.writes.runs) >= most:
                return number
            if event.name in self._runs.awaited:
                self._waits.hear(self._tick, event, now)
            since = event.received_at - DUPLICATE_WINDOW_MS
            known = self._journal.functions_with_id(event.id, since) if event.is_id_given else ()
            for spec in self._runs.routes.match(event.name):
                if not event.is_id_given:
                    self._admission.admit(self._tick, spec, event, now)
                elif spec.id not in known and started.get((event.id, spec.id), since) <= since:
                    self._admission.admit(self._tick, spec, event, now)
                    started[event.id, spec.id] = event.received_at
            self._keep(event)
            self._routed_to = self._tick.writes.routed_to = event.key
        return len(events)

    def _receive(self, worker: int, message: ToEngine | Lost, now: int) -> None:
        match message:
            case StepCompleted() | RunCompleted():  # As below, but these are most.
                self._attempts.hear(self._tick, worker, message, now)
            case Described():
                if self._apps.described(self._tick, worker, message, now):
                    self._learn(now)
                self._queue.wake_all(FreeSlot(self._pool.app_of(worker)))
            case LoadFailed(text, hint, is_passing):
                if self._apps.failed(worker, LoadError(text, hint=hint), now, is_passing=is_passing):
                    self._learn(now)
            case Lost():
                if worker in self._roster:
                    self._attempts.lose(self._tick, worker, message, now)
                    self._apps.lost_last(message.app, now)
                elif self._apps.lost_while_loading(worker, message, now):
                    self._learn(now)
            case _:
                self._attempts.hear(self._tick, worker, message, now)

    def _learn(self, now: int) -> None:
        """What functions there are has become known, of all apps: only then can events be routed.

        Once they are, an app that is new holds nobody up.
        """
        if self._apps.are_known or self.functions:
            self._runs.learn(self._apps.functions())
            self._dispatch.learn(self.functions)
            if self._settings.has_schedules:
                self._schedules.learn(self._tick, now)
            self._tick.writes.functions = self._apps.rows(now)

    def _note_long_ones(self, now: int) -> None:
        """A start is not worth a write, but people want to see what has been executing for a while."""
        started = self._dispatch.started
        while started and (started[0].is_over or started[0].started_at + NOTE_AFTER_MS <= now):
            active = started.popleft()
            if not (active.is_over or active.is_final or active.is_parked or active.is_noted):
                self._tick.note(active)

    # Commit and act.

    def _commit(self, writes: Writes) -> None:
        self._journal.commit(writes)
        if self.on_commit is not None:
            self.on_commit(writes)
        if any(event.key is None for event in writes.events):
            self._has_news = True  # Steps have sent them, and they are to be routed.
        ended = writes.ended or writes.cancelled or writes.skipped
        if self.on_ended is not None and (ended or writes.runs):
            self.on_ended(writes)
        if ended or writes.parked or writes.handled or writes.noted or writes.retried:
            self._bell.tell_followers()

    def _act(self, now: int) -> None:
        tick, self._tick = self._tick, Tick()
        for event in tick.events.values():
            self._keep(event)
        tick.tell_recorded()
        self._dispatch.tell_changed(tick)
        self._dispatch.take_in(tick)
        for worker, _ in tick.condemned:
            self._roster.close(worker)
        if not self.is_stopping:
            self._apps.grow(now)
            self._dispatch.start_ready(tick, now)
        for worker, messages in tick.out.items():
            self._pool.send(worker, messages)
        for worker, _ in tick.condemned:
            self._pool.kill(worker)
        reloaded, self._apps.reloaded = self._apps.reloaded, []
        for each in reloaded:
            self.on_reloaded(each)

    def _event(self, key: int) -> StoredEvent:
        return self._events.get(key) or self._keep(self._journal.event(key))

    def _keep(self, event: StoredEvent) -> StoredEvent:
        """The runs of an event start at about the same time: the next one finds it here."""
        if len(event.data) <= _CACHED_EVENT_CHARS:
            if len(self._events) >= _CACHED_EVENTS:
                del self._events[next(iter(self._events))]
            self._events[event.key] = event
        return event
