"""The whole engine in a simulation: its clock, its workers and its crashes belong to the test; its journal is real.

A function is a script: steps with an outcome for each attempt. Simulated workers execute scripts with the messages
that real ones send (worker/execution.py, worker/step.py), and write down what they do. Nothing here sleeps, and one
seed always makes one history.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from fanout.engine.loop import NOTE_AFTER_MS, Engine, Settings
from fanout.engine.pool import Arrival, Lost
from fanout.events import NewEvent
from fanout.journal import AcceptedEvent, Writes
from fanout.journal.sqlite import SqliteJournal
from fanout.model import Backoff, EventTrigger, Failure, FunctionSpec, StepState
from fanout.protocol import (
    HEADER,
    Described,
    Evict,
    GiveUp,
    Load,
    LoadFailed,
    Recorded,
    RunCompleted,
    RunEvicted,
    RunFailed,
    ShutDown,
    Start,
    StepCompleted,
    StepFailed,
    StepRunning,
    ToEngine,
    ToWorker,
    frame,
    to_engine_decoder,
    to_worker_decoder,
)

BEGINNING = 1_800_000_000_000
LOAD_MS = 20
FOREVER = 10**9
_PATIENCE_TICKS = 400
_SPINS = 20


class Crash(BaseException):
    """The engine dies. Nothing may catch it on its way out."""


class StuckError(AssertionError):
    """The engine spins, or waits for what can't come."""


# What functions do.


class Fail(NamedTuple):
    """The attempt raises."""

    is_retriable: bool = True
    retry_after_ms: int | None = None


OK = None
FAIL = Fail()
FATAL = Fail(is_retriable=False)
Outcome = Fail | None


class Step(NamedTuple):
    """A step. `outcomes` has one for each attempt, the last of them for all others.

    The worker dies in it the first `deaths` times. `is_caught`: the function goes on when it has failed.
    """

    name: str
    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 1
    deaths: int = 0
    is_caught: bool = False


class Body(NamedTuple):
    """Code between steps, with an outcome for each of the run's attempts."""

    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 0
    deaths: int = 0


class Silent(NamedTuple):
    """Says nothing by itself: the test speaks for it."""


Script = tuple[Step | Body | Silent, ...]


class Function(NamedTuple):
    spec: FunctionSpec
    script: Script


def function(
    id_: str,
    *script: Step | Body | Silent,
    on: Collection[str] = ("e",),
    retries: int = 4,
    backoff: Backoff | tuple[float, ...] | None = None,
    is_async: bool = False,
) -> Function:
    spec = FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=is_async,
        triggers=tuple(EventTrigger(name) for name in on), retries=retries, backoff=backoff,
    )  # fmt: skip
    return Function(spec, script)


def event(
    name: str = "e",
    *,
    id: str | None = None,
    ts: int | None = None,
) -> NewEvent:
    return NewEvent(name=name, data="{}", id=id, ts=ts)


def nth(outcomes: tuple[Outcome, ...], attempt: int) -> Outcome:
    return outcomes[min(attempt, len(outcomes) - 1)]


# What has happened.


class What(StrEnum):
    START = "start"  # a worker was given a run
    BEGIN = "begin"  # the code of a step began
    ACKNOWLEDGED = "acknowledged"  # a worker was told that a step is durable
    RECORDED = "recorded"  # the journal has a completed step
    DEATH = "death"  # a worker died of this run
    CRASH = "crash"  # the engine died


class Entry(NamedTuple):
    what: What
    at: int
    run: str = ""
    step: str = ""
    attempt: int = 0
    output: str = ""
    worker: int = 0
    claim: int = 0
    companions: tuple[int, ...] = ()
    """Claims that the worker was executing already."""


class Clock:
    """Milliseconds; it moves only when told."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms


class Faults:
    """Where the engine crashes: before or after its n-th commit, before its n-th sending, counted from 1."""

    def __init__(
        self, *, before: Iterable[int] = (), after: Iterable[int] = (), sending: Iterable[int] = (), linger: bool = True
    ) -> None:
        self.before = frozenset(before)
        self.after = frozenset(after)
        self.sending = frozenset(sending)
        self.linger = linger
        """Workers go on with what has reached them, until they see that the engine is gone."""
        self.commits = 0
        self.sends = 0

    def commit(self, do: Callable[[], None]) -> None:
        self.commits += 1
        number = self.commits
        if number in self.before:
            raise Crash
        do()
        if number in self.after:
            raise Crash

    def send(self) -> None:
        self.sends += 1
        if self.sends in self.sending:
            raise Crash


class CrashingJournal(SqliteJournal):
    """A real journal, whose commits may be the last thing that happens."""

    def __init__(self, path: Path, simulation: Simulation) -> None:
        super().__init__(path)
        self._execute("PRAGMA synchronous = off")  # No test here cuts the power.
        self._simulation = simulation

    def recover(self, now: int) -> None:
        def write() -> None:
            super(CrashingJournal, self).recover(now)

        self._simulation.faults.commit(write)

    def commit(self, writes: Writes) -> None:
        def write() -> None:
            super(CrashingJournal, self).commit(writes)
            self._simulation.committed(writes)

        self._simulation.faults.commit(write)


class SimBell:
    """Rung by the test."""

    def __init__(self) -> None:
        self.is_rung = False
        self.told = 0

    def answer(self) -> bool:
        was_rung, self.is_rung = self.is_rung, False
        return was_rung

    def tell_followers(self) -> None:
        self.told += 1


# Workers.


class _Verdict(StrEnum):
    RECORDED = "recorded"
    GIVE_UP = "give up"
    EVICT = "evict"


class _Call(NamedTuple):
    """Wait for what the engine says to this call."""

    number: int


class _EvictedError(Exception):
    pass


class _DiedError(Exception):
    pass


class _EndedError(Exception):
    """The function raised."""

    def __init__(self, message: str, fail: Fail) -> None:
        super().__init__(message)
        self.message = message
        self.fail = fail


_Play = Generator[int | _Call, _Verdict, None]


class _Execution:
    """A function being executed: it yields milliseconds to pass, or a call to wait for."""

    def __init__(self, start: Start, made: Function, worker: _SimWorker) -> None:
        self.start = start
        self.claim = start.claim
        self.function = made
        self.worker = worker
        self.recorded = {step.key: step for step in start.steps}
        self.is_evicting = False
        self.is_inside = False
        self.is_over = False
        self.unrecorded: list[int] = []
        self.failed: list[int] = []
        self.waits_for: int | None = None
        self.verdict = _Verdict.RECORDED
        self._occurrences: Counter[str] = Counter()
        self._positions = 0
        self.play = self._play()

    def _play(self) -> _Play:
        for part in self.function.script:
            match part:
                case Step():
                    yield from self._step(part)
                case Body():
                    yield part.takes_ms
                    self._die(part.deaths, "")
                    outcome = nth(part.outcomes, self.start.attempt)
                    if outcome is not None:
                        raise _EndedError("the body broke", outcome)
                case Silent():
                    yield FOREVER

    def _step(self, step: Step) -> _Play:
        self._occurrences[step.name] += 1
        self._positions += 1
        occurrence, position = self._occurrences[step.name], self._positions
        key = step.name if occurrence == 1 else f"{step.name}#{occurrence}"
        recorded = self.recorded.get(key)
        if recorded is not None and recorded.state is StepState.COMPLETED:
            return
        if recorded is not None and recorded.state is StepState.FAILED:
            assert recorded.failure is not None
            self._step_error(step, key)
            return
        yield from self._settle()
        attempts = 1 if recorded is None else recorded.attempts + 1
        yield from self._attempt(step, key, position, attempts)

    def _attempt(self, step: Step, key: str, position: int, attempts: int) -> _Play:
        pool = self.worker.pool
        started_at = pool.clock()
        output = json.dumps(f"{key} {next(pool.serials)}")
        pool.note(
            Entry(What.BEGIN, started_at, self.start.run_id, key, attempts, output, self.worker.number, self.claim)
        )
        self.is_inside = True
        if step.takes_ms >= NOTE_AFTER_MS:
            yield NOTE_AFTER_MS
            self.worker.post(StepRunning(self.claim, key, position, started_at))
            yield step.takes_ms - NOTE_AFTER_MS
        else:
            yield step.takes_ms
        self.is_inside = False
        self._die(step.deaths, key)
        number = next(pool.calls)
        self.worker.calls[number] = (self, key, output)
        outcome = nth(step.outcomes, attempts - 1)
        if outcome is None:
            self.unrecorded.append(number)
            self.worker.post(
                StepCompleted(self.claim, number, key, position, attempts, output, started_at, pool.clock())
            )
            if self.function.spec.is_async and self.is_evicting:
                raise _EvictedError
            return
        self.failed.append(number)
        self.worker.post(
            StepFailed(
                self.claim, number, key, position, attempts, Failure("Broken", f"attempt {attempts} of {key}"),
                started_at, pool.clock(), outcome.is_retriable, outcome.retry_after_ms,
            )
        )  # fmt: skip
        if self.is_evicting:
            raise _EvictedError
        if (yield _Call(number)) is not _Verdict.GIVE_UP:
            raise _EvictedError
        self._step_error(step, key)

    def _settle(self) -> _Play:
        while self.unrecorded and not self.is_evicting:
            if self.unrecorded[-1] in self.worker.calls:
                yield _Call(self.unrecorded[-1])
            self.unrecorded.pop()
        if self.is_evicting:
            raise _EvictedError

    def _step_error(self, step: Step, key: str) -> None:
        if not step.is_caught:
            raise _EndedError(f"step `{key}` failed", FATAL)

    def _die(self, deaths: int, key: str) -> None:
        pool = self.worker.pool
        if pool.deaths[self.start.run_id, key] < deaths:
            pool.deaths[self.start.run_id, key] += 1
            pool.note(Entry(What.DEATH, pool.clock(), self.start.run_id, key, worker=self.worker.number))
            raise _DiedError

    def resume(self) -> None:
        """Go on until it waits. What it says is posted, its end included."""
        is_waiting, self.waits_for = self.waits_for is not None, None
        try:
            wait = self.play.send(self.verdict) if is_waiting else next(self.play)
        except StopIteration:
            self._end(RunCompleted(self.claim, json.dumps(f"{self.start.function} is done")))
        except _EndedError as end:
            failure = Failure("Broken", end.message)
            self._end(RunFailed(self.claim, failure, end.fail.is_retriable, end.fail.retry_after_ms))
        except _EvictedError:
            self._end(RunEvicted(self.claim))
        except _DiedError:
            self.worker.pool.lose(self.worker.number)
        else:
            match wait:
                case _Call(number):
                    self.waits_for = number
                case ms:
                    self.worker.pool.wake(self, ms)

    def settle(self, verdict: _Verdict) -> None:
        self.verdict = verdict
        self.worker.pool.wake(self, 0)

    def evict(self) -> None:
        """As Execution.evict: whoever waits is told; a task is cancelled between steps, a thread leaves at the next."""
        self.is_evicting = True
        if not self.function.spec.is_async:
            waiting = [number for number in (*self.failed, *self.unrecorded) if self.worker.calls.pop(number, None)]
            if self.waits_for in waiting:
                self.settle(_Verdict.EVICT)
        elif not self.is_inside and self.waits_for is not None:
            self.worker.calls.pop(self.waits_for, None)
            self.settle(_Verdict.EVICT)

    def _end(self, message: ToEngine) -> None:
        self.is_over = True
        del self.worker.executions[self.claim]
        for number in (*self.unrecorded, *self.failed):
            self.worker.calls.pop(number, None)
        self.worker.post(message)


class _SimWorker:
    """One simulated process."""

    def __init__(self, number: int, pool: SimPool) -> None:
        self.number = number
        self.pool = pool
        self.executions: dict[int, _Execution] = {}
        self.calls: dict[int, tuple[_Execution, str, str]] = {}

    def post(self, message: ToEngine) -> None:
        self.pool.post(self.number, message)

    def take(self, message: ToWorker) -> None:
        match message:
            case Start():
                self._start(message)
            case Recorded(calls):
                for number in calls:
                    self._settle(number, _Verdict.RECORDED)
            case GiveUp(number):
                self._settle(number, _Verdict.GIVE_UP)
            case Evict(claim):
                if claim in self.executions:
                    self.executions[claim].evict()
            case Load() | ShutDown():
                raise AssertionError(message)

    def _start(self, start: Start) -> None:
        execution = _Execution(start, self.pool.functions[start.function], self)
        companions = tuple(self.executions)
        self.pool.started(Entry(
            What.START, self.pool.clock(), start.run_id, "", start.attempt, "", self.number, start.claim, companions
        ))  # fmt: skip
        self.executions[start.claim] = execution
        self.pool.wake(execution, 0)

    def _settle(self, number: int, verdict: _Verdict) -> None:
        execution, key, output = self.calls.pop(number, (None, "", ""))
        if execution is None:
            return
        if verdict is _Verdict.RECORDED:
            self.pool.note(Entry(What.ACKNOWLEDGED, self.pool.clock(), execution.start.run_id, key, output=output))
        if execution.waits_for == number:
            execution.settle(verdict)


class Loading(StrEnum):
    """How the loading of a worker goes."""

    FINE = "fine"
    FAILS = "fails"
    DIES = "dies"
    NEVER_ENDS = "never ends"


class SimPool:
    """The Pool protocol without processes. `loading` is how it goes for each worker started; the rest is fine."""

    def __init__(
        self,
        clock: Clock,
        functions: dict[str, Function],
        log: list[Entry],
        faults: Faults,
        *,
        loading: Sequence[Loading] = (),
        deaths: Counter[tuple[str, str]],
        serials: count[int],
    ) -> None:
        self.clock = clock
        self.functions = functions
        self.faults = faults
        self.deaths = deaths
        self.serials = serials
        self.calls = count(1)
        self.workers: dict[int, _SimWorker] = {}
        self.spawned = 0
        self.arrived = 0
        self.timeout_ms = 0
        self.sent: list[tuple[int, ToWorker]] = []
        self._log = log
        self._loading = loading
        self._outbox: list[Arrival] = []
        self._agenda: list[tuple[int, int, _Execution | _SimWorker]] = []
        self._order = count()

    # What the engine asks.

    def size(self) -> int:
        return len(self.workers)

    def grow(self, size: int) -> None:
        while len(self.workers) < size:
            self.spawned += 1
            worker = self.workers[self.spawned] = _SimWorker(self.spawned, self)
            heapq.heappush(self._agenda, (self.clock() + LOAD_MS, next(self._order), worker))

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        assert messages
        self.faults.send()
        there = self.workers.get(worker)
        if there is not None:
            for message in to_worker_decoder.decode(frame(messages)[HEADER:]):
                self.sent.append((worker, message))
                there.take(message)

    def wait(self, timeout_s: float) -> list[Arrival]:
        self.timeout_ms = round(timeout_s * 1000)
        self._go_on()
        arrivals, self._outbox = self._outbox, []
        self.arrived += len(arrivals)
        return arrivals

    def shut_down(self) -> None:
        self.workers.clear()

    # The simulation's side.

    def next_at(self) -> int | None:
        """When something happens in a worker."""
        while self._agenda and self._is_gone(self._agenda[0][2]):
            heapq.heappop(self._agenda)
        if self._outbox:
            return self.clock()
        return self._agenda[0][0] if self._agenda and self._agenda[0][0] < self.clock() + FOREVER // 2 else None

    def drop(self) -> None:
        """The engine is gone: each worker ends as soon as it sees that."""
        if self.faults.linger:
            self._go_on()
        self.workers.clear()

    def lose(self, worker: int, reason: str = "was killed by SIGSEGV") -> None:
        """This worker dies. What it has said before still arrives."""
        for execution in self.workers.pop(worker).executions.values():
            execution.is_over = True
        self._outbox.append((worker, Lost(reason, ("last", "words"))))

    def post(self, worker: int, message: ToEngine) -> None:
        self._outbox += [(worker, each) for each in to_engine_decoder.decode(frame([message])[HEADER:])]

    def wake(self, execution: _Execution, ms: int) -> None:
        heapq.heappush(self._agenda, (self.clock() + ms, next(self._order), execution))

    def note(self, entry: Entry) -> None:
        self._log.append(entry)

    def started(self, entry: Entry) -> None:
        elsewhere = [each for worker in self.workers.values() for each in worker.executions.values()]
        assert entry.run not in {each.start.run_id for each in elsewhere}, f"{entry.run} is executed twice at once"
        self.note(entry)

    def executing(self) -> list[_Execution]:
        return [each for worker in self.workers.values() for each in worker.executions.values()]

    def _is_gone(self, who: _Execution | _SimWorker) -> bool:
        worker = who if isinstance(who, _SimWorker) else who.worker
        return worker.number not in self.workers or (isinstance(who, _Execution) and who.is_over)

    def _go_on(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.clock():
            _, _, who = heapq.heappop(self._agenda)
            if not self._is_gone(who):
                if isinstance(who, _Execution):
                    who.resume()
                else:
                    self._load(who)

    def _load(self, worker: _SimWorker) -> None:
        number = worker.number
        match self._loading[number - 1] if number <= len(self._loading) else Loading.FINE:
            case Loading.FINE:
                self.post(number, Described(tuple(each.spec for each in self.functions.values())))
            case Loading.FAILS:
                self.post(number, LoadFailed("`m.py` line 1: it is broken", "mend it"))
                self.lose(number, "exited with code 0")
            case Loading.DIES:
                self.lose(number)
            case Loading.NEVER_ENDS:
                pass


# All of it.


class Simulation:
    """A journal, engines that follow one another on it, their workers, and one clock for all."""

    def __init__(
        self,
        folder: Path,
        *functions: Function,
        processes: int = 2,
        slots: int = 2,
        seed: int = 0,
        faults: Faults | None = None,
        loading: Sequence[Loading] = (),
        retry_delay_ms: int | None = None,
    ) -> None:
        self.path = folder / "journal.db"
        self.clock = Clock()
        self.chance = random.Random(seed)
        self.log: list[Entry] = []
        self.faults = faults or Faults()
        self.functions = {each.spec.id: each for each in functions}
        self.accepted: list[AcceptedEvent] = []
        self.engines = 0
        self._settings = Settings(processes=processes, slots=slots, retry_delay_ms=retry_delay_ms)
        self._loading = loading
        self._ids: dict[int, str] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._serials = count(1)
        # Another process: an engine sees its own writes without looking.
        self._sender = SqliteJournal(self.path)
        self._sender._execute("PRAGMA synchronous = off")
        self._journal: CrashingJournal | None = None
        self._idle = 0
        self._spins = 0
        self.open()

    def open(self) -> None:
        """Start an engine; if it crashes at that, another."""
        while True:
            if self._journal is not None:
                self._journal.close()
            self.engines += 1
            self.bell = SimBell()
            self.pool = SimPool(
                self.clock, self.functions, self.log, self.faults,
                loading=self._loading, deaths=self._deaths, serials=self._serials,
            )  # fmt: skip
            self._journal = CrashingJournal(self.path, self)
            try:
                self.engine = Engine(
                    self._journal, self.pool, self.bell, self._settings, clock=self.clock, chance=self.chance.random
                )
            except Crash:
                self.log.append(Entry(What.CRASH, self.clock()))
            else:
                return

    def close(self) -> None:
        assert self._journal is not None
        self._journal.close()
        self._sender.close()

    def restart(self, *functions: Function) -> None:
        """Crash now, and go on, with other code if it is given."""
        self.log.append(Entry(What.CRASH, self.clock()))
        self.pool.drop()
        if functions:
            self.functions = {each.spec.id: each for each in functions}
        self.open()

    def committed(self, writes: Writes) -> None:
        self.log += [
            Entry(What.RECORDED, self.clock(), self.run_id(step.run), step.key, step.attempts, step.output or "")
            for step in writes.steps
            if step.state == StepState.COMPLETED
        ]

    def run_id(self, run: int) -> str:
        if run not in self._ids:
            ((self._ids[run],),) = self.rows("SELECT id FROM run WHERE key = ?", run)
        return self._ids[run]

    # What other processes do.

    def send(self, *events: NewEvent) -> list[AcceptedEvent]:
        accepted = self._sender.append_events(events or [event()], self.clock())
        self.accepted += accepted
        self.bell.is_rung = True
        return accepted

    def request(self, kind: str, *runs: int, **more: Any) -> None:
        self._sender.append_request(kind, {"runs": list(runs), **more}, self.clock())
        self.bell.is_rung = True

    def cancel(self, *runs: int) -> None:
        self.request("cancel", *runs)

    def replay(self, *runs: int, again: bool = False) -> None:
        self.request("replay", *runs, again=again)

    # Time.

    def tick(self) -> bool:
        """One tick of the engine, or its end and a new one. Whether anything has happened."""
        before = (self.pool.arrived, self.faults.commits, self.faults.sends, self.pool.spawned)
        try:
            self.engine.tick()
        except Crash:
            self.restart()
            return True
        return before != (self.pool.arrived, self.faults.commits, self.faults.sends, self.pool.spawned)

    def run(self, until: Callable[[], bool] | None = None, *, for_ms: int | None = None) -> None:
        """Tick, and let time pass when nothing else happens: until so, or so long, or nothing is left to happen."""
        end = None if for_ms is None else self.clock() + for_ms
        self._idle = self._spins = 0
        while until is None or not until():
            if self.tick():
                self._idle = self._spins = 0
                continue
            ahead = self._next_time(looks=end is not None)
            if ahead is None and until is None and end is None:
                return
            if end is not None and (ahead is None or ahead >= end):
                self.clock.now = end
                self.tick()
                return
            if ahead is None:
                raise StuckError("nothing is left that could happen")
            self._fence(ahead)
            self.clock.now = max(self.clock(), ahead)

    def _is_at_rest(self) -> bool:
        return self.engine.is_idle() and not self.pool.executing()

    def _next_time(self, *, looks: bool) -> int | None:
        """When the next thing happens: in a worker, to a run that waits, or because the engine wants to look."""
        at = self.pool.next_at()
        times = [] if at is None else [at]
        if looks or not self._is_at_rest():
            times.append(self.clock() + self.pool.timeout_ms)
        elif self.engine.next_due is not None and not self.engine.is_stopping:
            times.append(self.engine.next_due)
        return min(times, default=None)

    def _fence(self, ahead: int) -> None:
        self._spins = self._spins + 1 if ahead <= self.clock() else 0
        self._idle = self._idle + 1 if self.pool.next_at() is None and not self._is_at_rest() else 0
        if self._spins > _SPINS:
            raise StuckError("the engine spins")
        if self._idle > _PATIENCE_TICKS:
            raise StuckError("the engine waits for what can't come")

    # What can be seen.

    def rows(self, sql: str, *bindings: object) -> list[tuple[Any, ...]]:
        return list(self._sender._connection.execute(sql, bindings))

    def states(self) -> dict[int, str]:
        return dict(self.rows("SELECT key, state FROM run ORDER BY key"))

    def state(self, run: int) -> str:
        return self.states()[run]

    def steps(self, run: int) -> dict[str, tuple[str, int]]:
        """key -> (state, attempts)"""
        found = self.rows("SELECT key, state, attempts FROM step WHERE run = ? ORDER BY position", run)
        return {key: (state, attempts) for key, state, attempts in found}

    def failures(self, run: int) -> list[tuple[str, int, str]]:
        """(step, attempt, type), in order."""
        return [*self.rows("SELECT step, attempt, type FROM failure WHERE run = ? ORDER BY rowid", run)]

    def begun(self, step: str | None = None) -> list[int]:
        """When executions of this step began, in milliseconds since the beginning."""
        return [each.at - BEGINNING for each in self.entries(What.BEGIN) if step in (None, each.step)]

    def order(self) -> list[tuple[str, str]]:
        """(function, step) in the order in which their code began."""
        functions = dict(self.rows("SELECT id, function FROM run"))
        return [(functions[each.run], each.step) for each in self.entries(What.BEGIN)]

    def entries(self, what: What) -> list[Entry]:
        return [each for each in self.log if each.what is what]
