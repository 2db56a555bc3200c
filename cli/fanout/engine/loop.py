"""The engine: one thread, one loop. Gather what waits, decide, commit once, and only then act.

Nothing leaves the engine before the commit that records it. What it holds in memory is a cache of the journal:
if it dies anywhere, another reads the journal and goes on; there is no other way to recover.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from fanout.core.routing import Routes
from fanout.engine.attempts import Attempts
from fanout.engine.pool import Lost, Pool
from fanout.engine.queue import ReadyQueue
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.errors import LoadError
from fanout.ids import UlidFactory
from fanout.journal import DUPLICATE_WINDOW_MS, Journal, NewRun, OpenRequest, QueuedRun, StoredEvent, Writes
from fanout.model import FunctionSpec, RunState
from fanout.protocol import Described, Evict, LoadFailed, Start, ToEngine

NOTE_AFTER_MS = 250
LOOK_EVERY_MS = 100
EVENTS_A_TICK = 250
DUE_A_TICK = 500
REQUESTS_A_TICK = 20
MAX_LOAD_DEATHS = 2
LOAD_AGAIN_MS = 1_000
"""After a worker that could not load the code: others may still work, and the code may be mended meanwhile."""
_CACHED_EVENTS = 2_048
_CACHED_EVENT_CHARS = 8 * 1024


class Bell(Protocol):
    """How other processes are heard and told."""

    def answer(self) -> bool: ...

    def tell_followers(self) -> None: ...


class Settings:
    """What an engine may be told. `retry_delay_ms` replaces every backoff, in development."""

    def __init__(self, *, processes: int, slots: int, retry_delay_ms: int | None = None) -> None:
        self.processes = processes
        self.slots = slots
        self.retry_delay_ms = retry_delay_ms


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
        self._new_id = UlidFactory()

        journal.recover(clock())
        self.functions: dict[str, FunctionSpec] = {}
        self._routes = Routes(())
        self._roster = Roster(settings.slots)
        self._timers = Timers(journal)
        self._attempts = Attempts(self._roster, self._timers, retry_delay_ms=settings.retry_delay_ms, chance=chance)
        self._queue = ReadyQueue(journal.queued)
        self._suspects: deque[QueuedRun] = deque()
        self._events: dict[int, StoredEvent] = {}
        self._started: deque[Active] = deque()
        self._last_run_key = journal.last_run_key()
        self._last_rank = journal.last_rank()
        self._routed_to = journal.routed_to()
        self._next_look = 0
        self._has_news = True
        self._has_woken = False
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
        if self._tick.writes:
            self._commit(self._tick.writes)
        if self._has_woken:
            # After the commit, which changes who waits; also if all that were due have been cancelled.
            self._has_woken = False
            self._timers.look()
        self._act(now)

    def stop(self) -> None:
        """Start nothing more, and let executions leave at their next step's edge."""
        self.is_stopping = True
        for active in self._roster.active.values():
            self._pool.send(active.worker, [Evict(active.claim)])

    def is_idle(self) -> bool:
        """Nothing executes and nothing can be started now; what is left waits for a time or for code."""
        return not (
            self._roster.active
            or self._suspects
            or self._queue.has_ready()
            or self._has_news
            or self._timers.are_due(self._clock())
        )

    @property
    def executing(self) -> int:
        """How many runs workers are at."""
        return len(self._roster.active)

    @property
    def next_due(self) -> int | None:
        """When the next waiting run is due."""
        return self._timers.earliest

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
        if self._started:
            times.append(self._started[0].started_at + NOTE_AFTER_MS)
        return max(0, min(times) - now)

    # Gather and decide.

    def _look(self, now: int) -> None:
        """What the journal has for us: events, requests, runs that are due."""
        if not self.functions or self.is_stopping:
            return
        if now >= self._next_look or self._next_look > now + LOOK_EVERY_MS:
            self._next_look = now + LOOK_EVERY_MS
            self._has_news = self._journal.has_news() or self._has_news
        if self._has_news:
            requests = self._journal.open_requests(REQUESTS_A_TICK)
            for request in requests:
                self._answer(request, now)
            events = self._journal.unrouted(self._routed_to, EVENTS_A_TICK)
            if events:
                self._route(events, now)
            self._has_news = len(events) == EVENTS_A_TICK or len(requests) == REQUESTS_A_TICK
        if self._timers.are_due(now):
            self._has_woken = True
            for run in self._journal.due(now, DUE_A_TICK):
                if run.key not in self._tick.cancelled:
                    rank = self._rank(now)
                    self._tick.writes.due.append((rank, run.key))
                    self._tick.ready.append(run._replace(rank=rank))

    def _route(self, events: list[StoredEvent], now: int) -> None:
        """All runs of an event in one transaction, with the mark that says that it is routed."""
        started: dict[tuple[str, str], int] = {}
        for event in events:
            since = event.received_at - DUPLICATE_WINDOW_MS
            known = self._journal.functions_with_id(event.id, since) if event.is_id_given else ()
            for spec in self._routes.match(event.name):
                if spec.id not in known and started.get((event.id, spec.id), since) <= since:
                    self._new_run(spec, event, now)
                    if event.is_id_given:
                        started[event.id, spec.id] = event.received_at
            self._keep(event)
        self._routed_to = self._tick.writes.routed_to = events[-1].key

    def _new_run(self, spec: FunctionSpec, event: StoredEvent, now: int, replay_of: int | None = None) -> None:
        """A run of this function for this event: ready now, or when the event's own time has come."""
        tick = self._tick
        self._last_run_key += 1
        key, run_id, rank = self._last_run_key, self._new_id(now), self._rank(now)
        due_at = event.ts if event.ts > now and replay_of is None else None
        state = RunState.QUEUED if due_at is None else RunState.WAITING
        tick.writes.runs.append(
            NewRun(key, run_id, spec.id, event.key, "", rank, state, spec.max_attempts, now, due_at, replay_of)
        )
        if replay_of is not None:
            tick.writes.carried.append((key, replay_of))
        if due_at is None:
            is_fresh = replay_of is None
            tick.ready.append(QueuedRun(key, run_id, spec.id, "", event.key, rank, 0, 0, False, is_fresh))
        else:
            self._timers.add(due_at)

    def _rank(self, now: int) -> int:
        """The place in the queue of what is ready now: after all before it, also when the clock has stepped back."""
        self._last_rank = max(now, self._last_rank)
        return self._last_rank

    def _answer(self, request: OpenRequest, now: int) -> None:
        """What another process asked for: `runs` to be replayed or cancelled, by key."""
        runs = request.body["runs"]
        match request.kind:
            case "replay":
                for run, function, event in self._journal.replayable(runs, again=request.body["again"]):
                    spec = self.functions.get(function)
                    is_doubled = run in self._tick.replayed and not request.body["again"]
                    if spec is not None and not is_doubled:
                        self._tick.replayed.add(run)
                        self._new_run(spec, self._journal.event(event), now, replay_of=run)
            case "cancel":
                for run in runs:
                    self._cancel(run, now)
        self._tick.writes.handled.append((now, request.key))

    def _cancel(self, run: int, now: int) -> None:
        """End a live run as cancelled. A step in flight ends, and its result is dropped."""
        active = next((each for each in self._roster.active.values() if each.run.key == run), None)
        if active is not None and not active.is_cancelled:
            self._attempts.cancel(self._tick, active, now)
        elif active is None and run not in self._tick.cancelled and self._journal.live(run) is not None:
            self._tick.cancelled.add(run)
            self._tick.writes.cancelled.append((now, run))
            self._suspects = deque(each for each in self._suspects if each.key != run)
            self._queue.discard(run)

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
        self.functions = {spec.id: spec for spec in functions}
        self._routes = Routes(functions)
        self._queue.load(self._journal.partitions(), self.functions)

    def _note_long_ones(self, now: int) -> None:
        """A start is not worth a write, but people want to see what has been executing for a while."""
        started = self._started
        while started and (started[0].is_over or started[0].started_at + NOTE_AFTER_MS <= now):
            active = started.popleft()
            if not active.is_over and not active.is_cancelled:
                self._tick.note(active)

    # Commit and act.

    def _commit(self, writes: Writes) -> None:
        self._journal.commit(writes)
        if writes.ended or writes.retried or writes.cancelled or writes.handled or writes.noted:
            self._bell.tell_followers()

    def _act(self, now: int) -> None:
        tick, self._tick = self._tick, Tick()
        tick.tell_recorded()
        for run in tick.ready:
            # Suspects as well: only the queue knows which runs it will read from the journal by itself.
            self._queue.append(run)
        if not self.is_stopping:
            if now >= self._grow_after:
                self._pool.grow(self._demand())
            self._start_ready(tick, now)
        for worker, messages in tick.out.items():
            self._pool.send(worker, messages)

    def _demand(self) -> int:
        """Workers that there is work for; at least one, which tells us what functions there are."""
        processes = self._settings.processes
        wanted = len(self._roster.active) + len(self._suspects) + self._queue.at_least(processes)
        return min(max(1, self._pool.size(), wanted), processes)

    def _start_ready(self, tick: Tick, now: int) -> None:
        while (worker := self._roster.freest()) is not None and (run := self._queue.take()) is not None:
            if run.is_suspect:
                self._suspects.append(run)
            else:
                self._start(tick, run, worker, now)
        while self._suspects and (worker := self._roster.reserve()) is not None:
            self._start(tick, self._suspects.popleft(), worker, now)
        if not self._suspects:
            self._roster.release()

    def _start(self, tick: Tick, run: QueuedRun, worker: int, now: int) -> None:
        self._last_claim += 1
        active = Active(self._last_claim, run, self.functions[run.function], worker, now)
        self._roster.start(active)
        self._started.append(active)
        event = self._events.get(run.event) or self._keep(self._journal.event(run.event))
        steps = () if run.is_fresh else self._journal.steps(run.key)
        tick.tell(worker, Start(active.claim, run.id, run.function, run.attempt, event.envelope(), steps))

    def _keep(self, event: StoredEvent) -> StoredEvent:
        """The runs of an event start at about the same time: the next one finds it here."""
        if len(event.data) <= _CACHED_EVENT_CHARS:
            if len(self._events) >= _CACHED_EVENTS:
                del self._events[next(iter(self._events))]
            self._events[event.key] = event
        return event
