"""Workers without processes: they execute scripts, with the messages of real ones (worker/execution.py, step.py)."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Generator, Sequence
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from fanout.engine.loop import NOTE_AFTER_MS
from fanout.engine.pool import Arrival, Lost
from fanout.model import Failure, StepState
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
from tests.engine.scripts import (
    FATAL,
    FOREVER,
    Body,
    Clock,
    Entry,
    Fail,
    Faults,
    Function,
    Silent,
    Step,
    What,
    nth,
)

LOAD_MS = 20


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
