"""An engine with its real journal, and workers of which half say whatever they like. The clock is the test's."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from fanout import __version__
from fanout.engine.loop import Engine
from fanout.engine.pool import _NONSENSE, Arrival, Lost
from fanout.engine.settings import Settings
from fanout.events import NewEvent
from fanout.journal.sqlite import SqliteJournal
from fanout.model import EventTrigger, FunctionSpec
from fanout.protocol import (
    HEADER,
    Described,
    Evict,
    RunCompleted,
    RunEvicted,
    ShutDown,
    Start,
    StepCompleted,
    ToEngine,
    ToWorker,
    frame,
    to_engine_decoder,
)

APP = "test"
BEGINNING = 1_800_000_000_000
RESULT = '"done"'
_MOST_TICKS = 3_000


def spec(id_: str, event: str | None = "go", **more: Any) -> FunctionSpec:
    triggers = () if event is None else (EventTrigger(event),)
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=False, triggers=triggers, **more
    )


SPECS = (
    spec("one"), spec("two", retries=1), spec("child", None), spec("sent", "sent*"),
    spec("told", "fanout/function.finished"), spec("wrong", "fanout/function.failed"),
)  # fmt: skip


class Worker:
    """What the engine has told a worker to execute. An honest one does it at once, in one step."""

    def __init__(self, number: int, *, is_honest: bool) -> None:
        self.number = number
        self.is_honest = is_honest
        self.claims: dict[int, Start] = {}
        self.calls = 0

    def take(self, message: ToWorker) -> list[ToEngine]:
        match message:
            case Start():
                self.claims[message.claim] = message
                return self._do(message) if self.is_honest else []
            case Evict(claim):
                return [RunEvicted(claim)] if self.claims.pop(claim, None) and self.is_honest else []
        return []

    def _do(self, start: Start) -> list[ToEngine]:
        del self.claims[start.claim]
        self.calls += 1
        recorded = {step.key for step in start.steps if step.state != "retrying"}
        step = StepCompleted(start.claim, self.calls, "honest", "", 1, 1, "1", BEGINNING, BEGINNING)
        end = RunCompleted(start.claim, RESULT)
        return [end] if "honest" in recorded else [step, end]


class HostilePool:
    """The Pool protocol. `honest` says of a worker's number whether it is."""

    def __init__(self, honest: Callable[[int], bool], specs: tuple[FunctionSpec, ...] = SPECS) -> None:
        self._honest = honest
        self._specs = specs
        self.workers: dict[int, Worker] = {}
        self.seen: dict[int, set[str]] = {}
        self._started = 0
        self._arrivals: list[Arrival] = []
        self.keeps = False
        """Who is killed does not end yet."""
        self.touched: set[str] = set()
        """Runs that a worker has had which is not honest."""

    @property
    def apps(self) -> Collection[str]:
        return [APP]

    def app_of(self, worker: int) -> str:
        return APP

    def workers_of(self, app: str) -> list[int]:
        return list(self.workers)

    def start(self, app: str) -> int:
        self._started += 1
        self.workers[self._started] = Worker(self._started, is_honest=self._honest(self._started))
        self.say(self._started, [Described(self._specs, __version__)])
        return self._started

    def stop(self, worker: int) -> None:
        self.send(worker, [ShutDown()])

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        there = self.workers.get(worker)
        for message in messages if there is not None else ():
            assert there is not None
            if isinstance(message, ShutDown):
                self._lose(worker, "exited with code 0")
                return
            if isinstance(message, Start) and not there.is_honest:
                self.touched.add(message.run_id)
            self.say(worker, there.take(message))

    def wait(self, timeout_s: float) -> list[Arrival]:
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    def kill(self, worker: int) -> None:
        if worker in self.workers and not self.keeps:
            self._lose(worker, "was killed by SIGKILL")

    def shut_down(self) -> None:
        self.workers.clear()

    def say(self, worker: int, messages: Iterable[ToEngine]) -> None:
        """These, as they come through a socket: what is nonsense there ends the worker."""
        listed = list(messages)
        if listed:
            self.speak(worker, bytes(frame(listed)[HEADER:]))

    def speak(self, worker: int, body: bytes) -> None:
        if worker not in self.workers:
            return
        try:
            self._arrivals += [(worker, message) for message in to_engine_decoder.decode(body)]
        except _NONSENSE:
            self._lose(worker, "spoke nonsense to the engine")

    def _lose(self, worker: int, reason: str) -> None:
        del self.workers[worker]
        self._arrivals.append((worker, Lost(reason, (), APP)))


class Bell:
    def answer(self) -> bool:
        return True

    def tell_followers(self) -> None:
        pass


class Scene:
    """An engine on a journal of its own, with some runs."""

    def __init__(self, path: Path, *, runs: int = 3, name: str = "go", specs: tuple[FunctionSpec, ...] = SPECS) -> None:
        self.is_over = False
        self.now = BEGINNING
        self.pool = HostilePool(lambda number: self.is_over or number % 2 == 0, specs)
        self.journal = SqliteJournal(path)
        self.journal._execute("PRAGMA synchronous = off")
        self.engine = Engine(
            self.journal, self.pool, Bell(), Settings(processes=2, slots=4, park_ms=2_000),
            clock=lambda: self.now, chance=random.Random(1).random,
        )  # fmt: skip
        for _ in range(4):
            self.engine.tick()
        self.journal.append_events([NewEvent(name, "{}") for _ in range(runs)], self.now)
        for _ in range(4):
            self.engine.tick()

    def hostile(self) -> list[Worker]:
        return [worker for worker in self.pool.workers.values() if not worker.is_honest]

    def speaking(self) -> Worker:
        """One of those, which has runs."""
        return next(each for each in self.hostile() if each.claims)

    def tick(self, ms: int = 1) -> None:
        self.now += ms
        self.engine.tick()

    def settle(self) -> None:
        """From now on all workers are honest, and what is left takes its course."""
        self.is_over = True
        for worker in self.hostile():
            self.pool.kill(worker.number)
        for _ in range(_MOST_TICKS):
            self.tick()
            if not self.pool._arrivals and self.engine.is_idle():
                due = self.engine.next_due
                if due is None:
                    return
                self.now = max(self.now, due)
        raise AssertionError("it does not come to rest")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.journal._execute(sql).fetchall()
