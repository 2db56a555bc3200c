"""What a run of two steps costs, counted: calls of functions, SQLite's steps, transactions, messages.

They are the same on every machine, however busy it is, so what makes runs dearer is seen here first. Processor time is
compared by `python -m benchmarks.guard`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.project import fan_out_async
from fanout import __version__
from fanout.engine.loop import Engine
from fanout.engine.pool import Arrival
from fanout.engine.settings import Settings
from fanout.events import NewEvent
from fanout.journal.sqlite import SqliteJournal
from fanout.model import FunctionSpec
from fanout.protocol import (
    Described,
    Recorded,
    RunCompleted,
    Start,
    StepCompleted,
    ToEngine,
    ToWorker,
    frame,
    to_engine_decoder,
)
from fanout.worker.execution import Desk, Execution
from fanout.worker.loop_slots import call, new_loop
from fanout.worker.registry import Registered, collect

RUNS = 600
NOW = 1_700_000_000_000
OUTPUT = '"x"'

ENGINE_CALLS, ENGINE_SQL_STEPS = 178, 520
WORKER_CALLS = 166
"""Recorded, for each run."""
TOLERANCE = 1.1


def registered() -> dict[str, Registered]:
    found: dict[str, Registered] = {}
    root = Path(fan_out_async.__file__).parent
    collect(found, root, (fan_out_async.first, fan_out_async.second, fan_out_async.third))
    return found


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    @contextmanager
    def here(self) -> Iterator[None]:
        def count(_frame: FrameType, event: str, _argument: object) -> None:
            self.calls += event in {"call", "c_call"}

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            yield
        finally:
            sys.setprofile(before)


class Ringing:
    """It rings when it is told to, and nobody listens."""

    has_rung = False

    def answer(self) -> bool:
        has_rung, self.has_rung = self.has_rung, False
        return has_rung

    def tell_followers(self) -> None:
        pass


class Answering:
    """Workers that have done a step as soon as they are told to."""

    def __init__(self, specs: Iterable[FunctionSpec]) -> None:
        self.apps = ("",)
        self.messages = 0
        self._specs = tuple(specs)
        self._said: dict[int, list[ToEngine]] = {}
        self._first_steps: dict[int, int] = {}
        self._calls = 0

    def app_of(self, _worker: int) -> str:
        return ""

    def workers_of(self, _app: str) -> list[int]:
        return list(self._said)

    def start(self, _app: str) -> int:
        worker = len(self._said) + 1
        self._said[worker] = [Described(self._specs, __version__)]
        return worker

    def stop(self, worker: int) -> None:
        raise AssertionError(f"worker {worker} is to go")

    kill = stop

    def shut_down(self) -> None:
        pass

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        self.messages += len(messages)
        said = self._said[worker]
        for message in messages:
            if isinstance(message, Start):
                said.append(self._step(message.claim, "one", 1))
                self._first_steps[self._calls] = message.claim
            elif isinstance(message, Recorded):
                for number in message.calls:
                    claim = self._first_steps.pop(number, None)
                    if claim is not None:
                        said += [self._step(claim, "two", 2), RunCompleted(claim, "null")]

    def _step(self, claim: int, key: str, position: int) -> StepCompleted:
        self._calls += 1
        return StepCompleted(claim, self._calls, key, "", position, 1, OUTPUT, NOW, NOW)

    def wait(self, _timeout_s: float) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for worker, said in self._said.items():
            if said:
                arrivals += [(worker, message) for message in to_engine_decoder.decode(bytes(frame(said)[4:]))]
                self.messages += len(said)
                said.clear()
        return arrivals


def worked_off(engine: Engine, bell: Ringing) -> None:
    bell.has_rung = True
    engine.tick(0)
    while not engine.is_idle():
        engine.tick(0)


@contextmanager
def steps_of(journal: SqliteJournal) -> Iterator[list[int]]:
    """How many steps SQLite's virtual machine takes for this journal's statements."""
    steps = [0]

    def step() -> bool:
        steps[0] += 1
        return False

    journal._connection.set_progress_handler(step, 1)
    yield steps
    journal._connection.set_progress_handler(None)


def test_what_a_run_costs_the_engine(tmp_path: Path) -> None:
    journal, sender = (SqliteJournal(tmp_path / "journal.db") for _ in range(2))
    bell, pool = Ringing(), Answering(each.spec for each in registered().values())
    settings = Settings(processes=2, slots=16)
    engine = Engine(journal, pool, bell, settings, clock=lambda: NOW, chance=lambda: 0.5)
    transactions: list[object] = []
    engine.on_commit = transactions.append
    counted = Counted()
    worked_off(engine, bell)  # Now it knows the functions.
    sender.append_events([NewEvent("bench/event", "{}") for _ in range(RUNS // 3)], NOW)
    pool.messages = 0
    transactions.clear()
    with steps_of(journal) as sql_steps:
        worked_off(engine, bell)
    turns = RUNS / 32
    # Each run is started, and says three things; what is told of several shares a message, and a transaction.
    assert pool.messages <= 4 * RUNS + 2 * (turns + 2)
    assert len(transactions) <= 2 * turns + 3
    sender.append_events([NewEvent("bench/event", "{}") for _ in range(RUNS // 3)], NOW)
    with counted.here():
        worked_off(engine, bell)
    assert journal._scalar("SELECT count(*) FROM run WHERE state = 'completed'") == 2 * RUNS
    assert sql_steps[0] <= ENGINE_SQL_STEPS * RUNS * TOLERANCE
    assert counted.calls <= ENGINE_CALLS * RUNS * TOLERANCE
    sender.close()
    journal.close()


class OneByOne(Answering):
    """Each message comes a moment after the one before."""

    def __init__(self, specs: Iterable[FunctionSpec]) -> None:
        super().__init__(specs)
        self._on_the_way: list[Arrival] = []

    def wait(self, timeout_s: float) -> list[Arrival]:
        self._on_the_way += super().wait(timeout_s)
        first, self._on_the_way = self._on_the_way[:1], self._on_the_way[1:]
        return first


def test_last_words_a_moment_behind_the_last_step_share_its_transaction(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    bell, pool = Ringing(), OneByOne([registered()["first"].spec])
    settings = Settings(processes=1, slots=16)
    engine = Engine(journal, pool, bell, settings, clock=lambda: NOW, chance=lambda: 0.5)
    worked_off(engine, bell)
    journal.append_events([NewEvent("bench/event", "{}")], NOW)
    commits: list[tuple[int, int, int]] = []
    engine.on_commit = lambda writes: commits.append((len(writes.runs), len(writes.steps), len(writes.ended)))
    worked_off(engine, bell)
    journal.close()
    assert commits == [(1, 0, 0), (0, 1, 0), (0, 1, 1)]


class Answers:
    """The engine's end of a worker's link: whatever is said is durable a turn of the loop later."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.desk = Desk(self, clock=lambda: NOW)
        self.frames = 0
        self.ended = 0
        self.on_end: Callable[[], None] = lambda: None
        self._loop = loop
        self._waiting: list[ToEngine] = []

    def put(self, message: ToEngine) -> None:
        self._waiting.append(message)

    def post(self, message: ToEngine) -> None:
        self.put(message)
        self.flush()

    def flush(self) -> None:
        said, self._waiting = self._waiting, []
        if said:
            self.frames += 1
            frame(said)
            self._loop.call_soon(self._answer, said)

    def _answer(self, said: list[ToEngine]) -> None:
        for message in said:
            if isinstance(message, StepCompleted):
                waiter = self.desk.calls.pop(message.call, None)
                if waiter is not None:
                    waiter.wake()
            elif isinstance(message, RunCompleted):
                self.ended += 1
        if self.ended == RUNS:
            self.on_end()


def test_what_a_run_costs_a_worker() -> None:
    functions = registered()
    loop = new_loop()
    answers = Answers(loop)
    answers.on_end = loop.stop
    event = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "bench/event", NOW, "{}", None, None)
    names = list(functions)
    counted = Counted()
    tasks: set[asyncio.Task[None]] = set()
    for claim in range(RUNS):
        function = functions[names[claim % 3]]
        start = Start(claim, "01ARZ3NDEKTSV4RRFFQ69G5FAV", function.spec.id, 0, event)
        execution = Execution(start, answers.desk, function.spec, function.written)
        answers.desk.executions[claim] = execution
        tasks.add(loop.create_task(call(execution, function, tasks=tasks)))
    with counted.here():
        loop.run_forever()
    loop.close()
    assert (answers.ended, tasks, answers.desk.calls, answers.desk.executions) == (RUNS, set(), {}, {})
    # All of them are at the same point at the same time: what they say then shares a frame.
    assert answers.frames <= 4
    assert counted.calls <= WORKER_CALLS * RUNS * TOLERANCE
