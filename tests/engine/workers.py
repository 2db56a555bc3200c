"""Workers without processes, and the pool of them: they execute scripts, with the messages of real ones."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from enum import StrEnum
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, cast

from fanout import __version__
from fanout.engine.pool import Arrival, Lost
from fanout.protocol import (
    HEADER,
    Described,
    Evict,
    Load,
    LoadFailed,
    Recorded,
    RecordedStep,
    Resume,
    ShutDown,
    Start,
    StepChanged,
    ToEngine,
    ToWorker,
    frame,
    to_engine_decoder,
    to_worker_decoder,
)
from fanout.worker.execution import Desk, Execution
from fanout.worker.resting import rest_soon
from tests.engine.executions import Playing
from tests.engine.scripts import FOREVER, Clock, Entry, Faults, Function, What
from tests.engine.strands import Waiter

if TYPE_CHECKING:
    from fanout.worker.link import Link

LOAD_MS = 20


class _Link:
    """The worker's end of a socket that has always room."""

    def __init__(self, worker: SimWorker) -> None:
        self.put = self.post = worker.post

    def flush(self) -> None:
        pass


class SimWorker:
    """One simulated process: what worker/__main__.py does with messages."""

    def __init__(self, number: int, app: str, pool: SimPool) -> None:
        self.number = number
        self.app = app
        self.pool = pool
        self.code: Mapping[str, Function] = {}
        """As it was when it was loaded."""
        self.desk = Desk(cast("Link", _Link(self)))
        self.executions: dict[int, Playing] = {}
        self.results: dict[int, tuple[str, str, str]] = {}

    def post(self, message: ToEngine) -> None:
        self.pool.post(self.number, message)

    def note(self, what: What, playing: Playing, key: str = "") -> None:
        self.pool.note(
            Entry(what, self.pool.clock(), playing.start.run_id, key, worker=self.number, claim=playing.claim)
        )

    def call(self, number: int, playing: Playing, key: str, output: str, waiter: Waiter) -> None:
        self.desk.calls[number] = waiter
        self.results[number] = playing.start.run_id, key, output

    def check_slots(self) -> None:
        going = [each for each in self.executions.values() if each.real.executing]
        assert len(going) <= self.pool.slots, "more executions run steps than there are slots"

    def take(self, message: ToWorker) -> None:  # noqa: C901 - one case a message
        match message:
            case Start():
                self._start(message)
            case Recorded(calls):
                for number in calls:
                    self._wake(number)
            case StepChanged(claim, step):
                if claim in self.executions:
                    self._change(self.executions[claim].real, step)
            case Resume(claim):
                if claim in self.executions:
                    self._resume(self.executions[claim].real)
            case Evict(claim):
                if claim in self.executions:
                    self.executions[claim].real.evict()
            case Load() | ShutDown():
                raise AssertionError(message)
        self.pool.watch(self.pool)

    def _start(self, start: Start) -> None:
        companions = tuple(self.executions)
        self.pool.started(Entry(
            What.START, self.pool.clock(), start.run_id, "", start.attempt, "", self.number, start.claim, companions
        ))  # fmt: skip
        playing = Playing(start, self.code[start.function], self)
        self.desk.executions[start.claim] = playing.real
        self.executions[start.claim] = playing

    def _change(self, execution: Execution, step: RecordedStep) -> None:
        execution.changed(step)
        if execution.spec.is_async:
            rest_soon(execution)

    def _resume(self, execution: Execution) -> None:
        execution.resumed()
        if execution.spec.is_async:
            rest_soon(execution)
        else:
            execution.rest()

    def _wake(self, number: int) -> None:
        waiter = self.desk.calls.pop(number, None)
        if waiter is not None:
            run, key, output = self.results.pop(number)
            self.pool.note(Entry(What.ACKNOWLEDGED, self.pool.clock(), run, key, output=output))
            waiter.wake()


class Loading(StrEnum):
    """How the loading of a worker goes."""

    FINE = "fine"
    FAILS = "fails"
    DIES = "dies"
    NEVER_ENDS = "never ends"
    IS_OLD = "is old"
    IS_WRONG = "is wrong"


class SimPool:
    """The Pool protocol without processes. `code` has the functions of each app, by their id in it.

    `watch` is called whenever a worker has been told something. `loading` is how it goes for each worker started; the rest is fine, but of the
    `broken` apps, which can't be loaded, and of the `deadly`, which kill their workers.
        `lag` says how many milliseconds a message is on its way; those of one worker stay in order. Or a thread's turn.
    """

    def __init__(
        self,
        clock: Clock,
        code: Mapping[str, Mapping[str, Function]],
        log: list[Entry],
        faults: Faults,
        *,
        slots: int,
        loading: Sequence[Loading] = (),
        broken: Container[str] = (),
        deadly: Container[str] = (),
        watch: Callable[[SimPool], None] = lambda _pool: None,
        lag: Callable[[], int] = lambda: 0,
        deaths: Counter[tuple[str, str]],
        serials: count[int],
    ) -> None:
        self.clock = clock
        self.code = code
        self.watch = watch
        self.faults = faults
        self.slots = slots
        self.deaths = deaths
        self.serials = serials
        self.calls = count(1)
        self.workers: dict[int, SimWorker] = {}
        self.spawned = 0
        self.arrived = 0
        self.timeout_ms = 0
        self.set_by = 0
        self.sent: list[tuple[int, ToWorker]] = []
        self.said: list[tuple[int, ToEngine]] = []
        self._log = log
        self._loading = loading
        self._broken = broken
        self._deadly = deadly
        self._app_of: dict[int, str] = {}
        self.lag = lag
        self._outbox: list[tuple[int, int, Arrival]] = []
        self._agenda: list[tuple[int, int, int, Callable[[], None]]] = []
        self._last: dict[tuple[int, str], int] = {}
        self._order = count()

    # What the engine asks.

    @property
    def apps(self) -> Collection[str]:
        return self.code.keys()

    def app_of(self, worker: int) -> str:
        return self._app_of[worker]

    def size(self, app: str) -> int:
        return sum(worker.app == app for worker in self.workers.values())

    def start(self, app: str) -> int:
        self.spawned += 1
        worker = self.workers[self.spawned] = SimWorker(self.spawned, app, self)
        self._app_of[worker.number] = app
        self.later(LOAD_MS, worker.number, partial(self._load, worker))
        return worker.number

    def workers_of(self, app: str) -> list[int]:
        return [worker.number for worker in self.workers.values() if worker.app == app]

    def have(self, code: Mapping[str, Mapping[str, Function]]) -> None:
        """From now on workers load this."""
        self.code = code

    def stop(self, worker: int) -> None:
        if worker in self.workers:
            self.sent.append((worker, ShutDown()))
            self.later(self._arrives_at(worker, "in") - self.clock(), worker, partial(self._exit, worker))

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        assert messages
        self.faults.send()
        there = self.workers.get(worker)
        if there is not None:
            decoded = to_worker_decoder.decode(frame(messages)[HEADER:])
            self.sent += [(worker, message) for message in decoded]
            delay = self._arrives_at(worker, "in") - self.clock()
            if delay:
                self.later(delay, worker, partial(self._deliver, there, decoded))
            else:
                self._deliver(there, decoded)

    def wait(self, timeout_s: float) -> list[Arrival]:
        self.timeout_ms = round(timeout_s * 1000)
        self._go_on()
        arrivals = []
        while self._outbox and self._outbox[0][0] <= self.clock():
            arrivals.append(heapq.heappop(self._outbox)[2])
        self.arrived += len(arrivals)
        return arrivals

    def kill(self, worker: int) -> None:
        if worker in self.workers:
            self.note(Entry(What.KILLED, self.clock(), worker=worker))
            self.lose(worker, "was killed by SIGKILL")

    def shut_down(self) -> None:
        self.workers.clear()

    # The simulation's side.

    def clock_was_set(self, ms: int) -> None:
        """By so much. What goes on in workers, and on the way, takes as long as before."""
        self.set_by += ms
        self._agenda = [(at + ms, order, worker, do) for at, order, worker, do in self._agenda]
        self._outbox = [(at + ms, order, arrival) for at, order, arrival in self._outbox]
        self._last = {which: at + ms for which, at in self._last.items()}

    def elapsed(self) -> int:
        """A clock that nobody sets."""
        return self.clock() - self.set_by

    def next_at(self) -> int | None:
        """When something happens in a worker, or arrives from one."""
        while self._agenda and self._agenda[0][2] not in self.workers:
            heapq.heappop(self._agenda)
        times = [self._outbox[0][0]] if self._outbox else []
        if self._agenda and self._agenda[0][0] < self.clock() + FOREVER // 2:
            times.append(self._agenda[0][0])
        return max(min(times), self.clock()) if times else None

    def drop(self) -> None:
        """The engine is gone: each worker ends as soon as it sees that."""
        if self.faults.linger:
            self._go_on()
        self.workers.clear()

    def lose(self, worker: int, reason: str = "was killed by SIGSEGV") -> None:
        """This worker dies. What it has said before still arrives."""
        for playing in self.workers.pop(worker).executions.values():
            playing.is_over = True
        self._arrive(worker, Lost(reason, ("last", "words"), self._app_of[worker]))

    def _exit(self, worker: int) -> None:
        assert not self.workers[worker].executions, "a worker that has something to do is stopped"
        self.lose(worker, "exited with code 0")

    def post(self, worker: int, message: ToEngine) -> None:
        self.said.append((worker, message))
        for each in to_engine_decoder.decode(frame([message])[HEADER:]):
            self._arrive(worker, each)

    def later(self, ms: int, worker: int, do: Callable[[], None]) -> None:
        """Do it after so long, if the worker is still there."""
        heapq.heappush(self._agenda, (self.clock() + ms, next(self._order), worker, do))

    def note(self, entry: Entry) -> None:
        self._log.append(entry)

    def started(self, entry: Entry) -> None:
        assert entry.run not in {each.start.run_id for each in self.executing()}, f"{entry.run} is executed twice"
        self.note(entry)

    def executing(self) -> list[Playing]:
        """Executions, parked ones as well."""
        return [each for worker in self.workers.values() for each in worker.executions.values()]

    def parked(self) -> list[Playing]:
        return [each for each in self.executing() if each.real.is_parked]

    def _arrives_at(self, worker: int, direction: str) -> int:
        at = max(self.clock() + self.lag(), self._last.get((worker, direction), 0))
        self._last[worker, direction] = at
        return at

    def _arrive(self, worker: int, message: ToEngine | Lost) -> None:
        heapq.heappush(self._outbox, (self._arrives_at(worker, "out"), next(self._order), (worker, message)))

    def _deliver(self, worker: SimWorker, messages: list[ToWorker]) -> None:
        for message in messages:
            worker.take(message)

    def _go_on(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.clock():
            _, _, worker, do = heapq.heappop(self._agenda)
            if worker in self.workers:
                do()

    def _load(self, worker: SimWorker) -> None:
        number = worker.number
        loading = self._loading[number - 1] if number <= len(self._loading) else Loading.FINE
        if worker.app in self._broken:
            loading = Loading.FAILS
        if worker.app in self._deadly:
            loading = Loading.DIES
        match loading:
            case Loading.FINE:
                worker.code = self.code[worker.app]
                specs = tuple(each.spec for each in worker.code.values())
                self.post(number, Described(specs, __version__))
            case Loading.IS_OLD:
                self.post(number, Described((), "0"))
            case Loading.IS_WRONG:
                spec = next(iter(self.code[worker.app].values())).spec
                self.post(number, Described((spec, spec), __version__))
            case Loading.FAILS:
                self.post(number, LoadFailed("`m.py` line 1: it is broken", "mend it"))
                self.lose(number, "exited with code 0")
            case Loading.DIES:
                self.lose(number)
            case Loading.NEVER_ENDS:
                pass
