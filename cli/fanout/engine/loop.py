"""The engine: one thread, one loop. Gather what waits, decide, commit once, and only then act.

Nothing leaves the engine before the commit that records it. What it holds in memory is a cache of the journal:
if it dies anywhere, another reads the journal and goes on; there is no other way to recover.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from fanout.engine.attempts import Attempts
from fanout.engine.children import Children
from fanout.engine.deadlines import Deadlines
from fanout.engine.parking import Parking
from fanout.engine.pool import Lost, Pool
from fanout.engine.queue import ReadyQueue
from fanout.engine.roster import Active, Roster
from fanout.engine.runs import Runs
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.engine.waits import Waits
from fanout.errors import LoadError
from fanout.journal import DUPLICATE_WINDOW_MS, Journal, OpenRequest, QueuedRun, StoredEvent, Writes
from fanout.model import FunctionSpec, StepKind, StepState
from fanout.protocol import Described, Evict, LoadFailed, Resume, Start, StepChanged, ToEngine

NOTE_AFTER_MS = 250
LOOK_EVERY_MS = 100
EVENTS_A_TICK = 250
DEFAULT_PARK_MS = 5_000
REQUESTS_A_TICK = 20
MAX_LOAD_DEATHS = 2
LOAD_AGAIN_MS = 1_000
"""After a worker that could not load the code: others may still work, and the code may be mended meanwhile."""
_TIMED = (StepKind.RUN, StepKind.SLEEP)
_CACHED_EVENTS = 2_048
_CACHED_EVENT_CHARS = 8 * 1024


class Bell(Protocol):
    """How other processes are heard and told."""

    def answer(self) -> bool: ...

    def tell_followers(self) -> None: ...


class Settings:
    """What an engine may be told.

    `retry_delay_ms` replaces every backoff, in development. `park_ms`: how long executions whose branches all wait
    are kept in their worker.
    """

    def __init__(
        self, *, processes: int, slots: int, retry_delay_ms: int | None = None, park_ms: int = DEFAULT_PARK_MS
    ) -> None:
        self.processes = processes
        self.slots = slots
        self.retry_delay_ms = retry_delay_ms
        self.park_ms = park_ms


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
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._bell = bell
        self._settings = settings
        self._clock = clock

        journal.recover()
        self._roster = Roster(settings.slots)
        self._timers = Timers(journal)
        self._queue = ReadyQueue(journal.queued, journal.last_rank())
        self._runs = Runs(journal, self._roster, self._queue, self._timers, event=self._event)
        self._waits = Waits(journal, self._roster, self._queue, self._timers, self._runs)
        self._children = Children(journal, self._timers, self._runs, self._waits)
        self._parking = Parking(self._roster, self._timers, park_ms=settings.park_ms, slots=settings.slots)
        self._deadlines = Deadlines(journal, self._roster, self._timers, self._runs)
        self._attempts = Attempts(
            journal, self._roster, self._timers, self._runs, self._waits, self._children, self._parking,
            self._deadlines, retry_delay_ms=settings.retry_delay_ms, chance=chance,
        )  # fmt: skip
        self._suspects: deque[QueuedRun] = deque()
        self._events: dict[int, StoredEvent] = {}
        self._started: deque[Active] = deque()
        self._routed_to = journal.routed_to()
        self._next_look = 0
        self._has_news = True
        self._last_claim = 0
        self._load_deaths = 0
        self._grow_after = 0
        self.load_error: LoadError | None = None
        """Why the newest worker could not load the code, while others still work with what they have."""
        self.is_stopping = False
        self._tick = Tick()

    # The life of an engine.

    def tick(self, longest_ms: int = LOOK_EVERY_MS) -> None:
        """One round. It waits for something to do, but no longer than `longest_ms`.

        Raises:
            LoadError: the user's modules can't be loaded.
            JournalError: the journal can't be used; what was not committed has not happened.
        """
        arrivals = self._pool.wait(self._patience_ms(longest_ms) / 1000)
        now = self._clock()
        if self._bell.answer():
            self._has_news = True
        # Requests before messages: a run that is cancelled here can't end in the same tick.
        self._look(now)
        for worker, message in arrivals:
            self._receive(worker, message, now)
        self._note_long_ones(now)
        self._parking.look(self._tick, now)
        self._deadlines.look(self._tick, now)
        self._children.settle(self._tick, now)
        if self._tick.writes:
            self._commit(self._tick.writes)
        # After the commit, which changes who waits; also if all that were due have been cancelled.
        self._timers.look()
        self._act(now)

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
            or self._suspects
            or self._queue.has_ready()
            or self._has_news
            or self._timers.are_due(self._clock())
        )

    @property
    def functions(self) -> dict[str, FunctionSpec]:
        """What the code has, by id; empty until a worker has loaded it."""
        return self._runs.functions

    @property
    def executing(self) -> int:
        """How many runs workers are at."""
        return self._roster.executing

    @property
    def next_due(self) -> int | None:
        """When the next waiting run is due. Not within a tick."""
        return self._timers.ask()

    def stranded(self) -> set[str]:
        """Functions that have queued runs but are not in the code."""
        return self._queue.stranded()

    def _patience_ms(self, longest_ms: int) -> int:
        if self._has_news and self.functions and not self.is_stopping:
            return 0
        now = self._clock()
        times = [now + longest_ms]
        if self.functions and not self.is_stopping:
            times.append(self._next_look)
            if self._timers.earliest is not None:
                times.append(self._timers.earliest)
        times += [at for at in (self._parking.next_at, self._deadlines.next_at) if at is not None]
        if self._started:
            times.append(self._started[0].started_at + NOTE_AFTER_MS)
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
            requests = self._journal.open_requests(REQUESTS_A_TICK)
            for request in requests:
                self._answer(request, now)
            events = self._journal.unrouted(self._routed_to, EVENTS_A_TICK)
            routed = self._route(events, now)
            self._has_news = routed < len(events) or len(events) == EVENTS_A_TICK or len(requests) == REQUESTS_A_TICK
        if self._timers.are_due(now):
            # First what is too late, whatever else has come since.
            self._deadlines.fire(self._tick, now)
            self._waits.fire(self._tick, now, has_heard_all=not self._has_news)

    def _route(self, events: list[StoredEvent], now: int) -> int:
        """All runs of an event in one transaction, with the mark that says that it is routed. How many were."""
        started: dict[tuple[str, str], int] = {}
        for number, event in enumerate(events):
            if event.name in self._tick.awaited:
                return number  # For runs made in this tick it is news: the journal has to know first that they wait.
            if event.name in self._runs.awaited:
                self._waits.hear(self._tick, event, now)
            since = event.received_at - DUPLICATE_WINDOW_MS
            known = self._journal.functions_with_id(event.id, since) if event.is_id_given else ()
            for spec in self._runs.routes.match(event.name):
                if spec.id not in known and started.get((event.id, spec.id), since) <= since:
                    self._runs.new(self._tick, spec, event, now)
                    if event.is_id_given:
                        started[event.id, spec.id] = event.received_at
            self._keep(event)
            self._routed_to = self._tick.writes.routed_to = event.key
        return len(events)

    def _answer(self, request: OpenRequest, now: int) -> None:
        """What another process asked for: `runs` to be replayed or cancelled, by key; a function to be invoked."""
        body, made = request.body, None
        match request.kind:
            case "replay":
                self._replay(body["runs"], now, again=body["again"])
            case "cancel":
                for run in body["runs"]:
                    self._runs.cancel(self._tick, run, now)
            case "invoke":
                spec = self.functions.get(body["function"])
                if spec is not None:
                    made = self._runs.invoke(self._tick, spec, msgspec.json.encode(body["data"]).decode(), None, now)
        self._tick.writes.handled.append((now, made, request.key))

    def _replay(self, runs: list[int], now: int, *, again: bool) -> None:
        for run, function, event in self._journal.replayable(runs, again=again):
            spec = self.functions.get(function)
            is_doubled = run in self._tick.replayed and not again
            if spec is not None and not is_doubled:
                self._tick.replayed.add(run)
                self._runs.new(self._tick, spec, self._journal.event(event), now, replay_of=run)

    def _receive(self, worker: int, message: ToEngine | Lost, now: int) -> None:
        match message:
            case Described(functions):
                self._load_deaths = 0
                self.load_error = None
                self._roster.join(worker)
                if not self.functions:
                    self._learn(functions)
            case LoadFailed(text, hint):
                self.load_error = LoadError(text, hint=hint)
                self._load_again(now)
                if not self._roster:
                    raise self.load_error
            case Lost():
                if worker in self._roster:
                    self._attempts.lose(self._tick, worker, message, now)
                    if not self._roster:
                        self._grow_after = now  # What others could not load may be mended; if not, nobody is left.
                else:
                    self._lost_while_loading(message, now)
            case _:
                self._attempts.hear(self._tick, message, now)

    def _load_again(self, now: int) -> None:
        """Others still work: a while later the code may be mended. Without any, the next one tries at once."""
        if self._roster:
            self._grow_after = now + LOAD_AGAIN_MS

    def _lost_while_loading(self, lost: Lost, now: int) -> None:
        self._load_deaths += 1
        self._load_again(now)
        if self._load_deaths >= MAX_LOAD_DEATHS and not self._roster:
            tail = "\n".join(lost.tail)
            raise LoadError(f"{lost.reason} while it loaded the modules\n{tail}".rstrip())

    def _learn(self, functions: tuple[FunctionSpec, ...]) -> None:
        self._runs.learn(functions)
        self._queue.load(self._journal.partitions(), self.functions)

    def _note_long_ones(self, now: int) -> None:
        """A start is not worth a write, but people want to see what has been executing for a while."""
        started = self._started
        while started and (started[0].is_over or started[0].started_at + NOTE_AFTER_MS <= now):
            active = started.popleft()
            if not (active.is_over or active.is_final or active.is_parked or active.is_noted):
                self._tick.note(active)

    # Commit and act.

    def _commit(self, writes: Writes) -> None:
        self._journal.commit(writes)
        if any(event.key is None for event in writes.events):
            self._has_news = True  # Steps have sent them, and they are to be routed.
        if writes.ended or writes.parked or writes.cancelled or writes.handled or writes.noted or writes.retried:
            self._bell.tell_followers()

    def _act(self, now: int) -> None:
        tick, self._tick = self._tick, Tick()
        for event in tick.events.values():
            self._keep(event)
        tick.tell_recorded()
        self._tell_changed(tick)
        if tick.discarded:
            self._queue.discard(tick.discarded)
            self._suspects = deque(each for each in self._suspects if each.key not in tick.discarded)
        for run in tick.ready:
            # Suspects as well: only the queue knows which runs it will read from the journal by itself.
            if run.key not in tick.ended:
                self._queue.append(run)
        if not self.is_stopping:
            if now >= self._grow_after:
                self._pool.grow(self._demand())
            self._start_ready(tick, now)
        for worker, messages in tick.out.items():
            self._pool.send(worker, messages)
        for worker, _ in tick.condemned:
            self._pool.kill(worker)

    def _tell_changed(self, tick: Tick) -> None:
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

    def _demand(self) -> int:
        """Workers that there is work for; at least one, which tells us what functions there are."""
        processes = self._settings.processes
        wanted = self._roster.executing + len(self._suspects) + self._queue.at_least(processes)
        return min(max(1, self._pool.size(), wanted), processes)

    def _start_ready(self, tick: Tick, now: int) -> None:
        while (active := self._roster.resume()) is not None:
            self._tell_steps(tick, active)
            tick.tell(active.worker, Resume(active.claim))
        while (worker := self._roster.freest()) is not None and (run := self._queue.take()) is not None:
            if run.is_suspect:
                self._suspects.append(run)
            else:
                self._start(tick, run, worker, now)
        while self._suspects and (worker := self._roster.reserve()) is not None:
            for parked in self._roster.parked(worker).values():
                if not parked.is_leaving:
                    self._parking.evict(tick, parked)
            if not self._roster.is_empty(worker):
                break
            self._start(tick, self._suspects.popleft(), worker, now)
        if not self._suspects:
            self._roster.release()

    def _start(self, tick: Tick, run: QueuedRun, worker: int, now: int) -> None:
        self._last_claim += 1
        active = Active(self._last_claim, run, self.functions[run.function], worker, now)
        self._roster.start(active)
        self._started.append(active)
        self._deadlines.started(active)
        steps = () if run.is_fresh else self._journal.steps(run.key)
        if steps:
            # Whether such a step may end at any time, or not before its own, is known for retries and sleeps only.
            active.waits = {
                step.key: step.due_at if step.due_at is not None and step.kind in _TIMED else 0
                for step in steps
                if step.is_open
            }
            active.has_retries = any(step.state is StepState.RETRYING for step in steps)
            self._children.started(active, steps)
        event = self._event(run.event)
        tick.tell(worker, Start(active.claim, run.id, run.function, run.attempt, event.envelope(), steps))

    def _event(self, key: int) -> StoredEvent:
        return self._events.get(key) or self._keep(self._journal.event(key))

    def _keep(self, event: StoredEvent) -> StoredEvent:
        """The runs of an event start at about the same time: the next one finds it here."""
        if len(event.data) <= _CACHED_EVENT_CHARS:
            if len(self._events) >= _CACHED_EVENTS:
                del self._events[next(iter(self._events))]
            self._events[event.key] = event
        return event
