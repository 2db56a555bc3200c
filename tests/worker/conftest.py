"""A real worker process, and an engine that is a script: it says what a test says, and nothing by itself."""

from __future__ import annotations

import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from fanout.engine.pool import Codebase, LocalPool, Lost
from fanout.model import Failure, StepKind, StepState
from fanout.protocol import (
    Described,
    Evict,
    Load,
    Logged,
    Recorded,
    RecordedStep,
    RunCompleted,
    Start,
    StepChanged,
    StepCompleted,
    ToEngine,
    ToWorker,
)

FENCE_S = 20
CLAIM = 1
M = TypeVar("M")

HEAD = """
    import asyncio
    import threading
    import time
    from pathlib import Path
    import fanout
    from fanout import AsyncContext, Context

    HERE = Path(__file__).parent


    def mark(name):
        (HERE / name).touch()


    def at_gate(name="gate"):
        mark(f"{name} is reached")
        while not (HERE / name).exists():
            time.sleep(0.002)


    def fail():
        raise ValueError("broken")


    @fanout.function()
    async def answers(ctx):
        pass
"""


class Worker:
    """A worker with a module of functions; the test is its engine. All executions here have one claim."""

    def __init__(self, folder: Path, code: str) -> None:
        (folder / "work.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(code))
        self._folder = folder
        self._heard: deque[ToEngine] = deque()
        self._pool = LocalPool({"": Codebase(sys.executable, Load(str(folder), ("work",), 4))})
        self.printed: list[Logged] = []
        self._pool.on_printed = self.printed.extend
        self._pool.start("")
        self.expect(Described)

    # What the functions do with files.

    def open(self, gate: str = "gate") -> None:
        (self._folder / gate).touch()

    def has(self, mark: str) -> bool:
        return (self._folder / mark).exists()

    def await_mark(self, mark: str) -> None:
        until = time.monotonic() + FENCE_S
        while not self.has(mark):
            assert time.monotonic() < until, f"never: {mark}"
            self._listen()

    # What the engine says.

    def start(self, function: str, *steps: RecordedStep, data: str = "{}") -> None:
        self.send(Start(CLAIM, "run", function, 0, ("id", "e", 1, data, None, None), steps))

    def send(self, *messages: ToWorker) -> None:
        """All in one frame."""
        self._pool.send(1, messages)

    def evict(self) -> None:
        """It has heard of that when this returns, whatever it is at."""
        self.send(Evict(CLAIM), Start(CLAIM + 1, "run", "answers", 0, ("id", "e", 1, "{}", None, None)))
        answer = RunCompleted(CLAIM + 1, "null")
        until = time.monotonic() + FENCE_S
        while answer not in self._heard:
            assert time.monotonic() < until, "the worker says nothing"
            self._listen()
        self._heard.remove(answer)

    # What the worker says.

    def next(self) -> ToEngine:
        until = time.monotonic() + FENCE_S
        while not self._heard:
            assert time.monotonic() < until, "the worker says nothing"
            self._listen()
        return self._heard.popleft()

    def expect(self, kind: type[M]) -> M:
        message = self.next()
        assert isinstance(message, kind), message
        return message

    def expect_recorded(self, key: str) -> StepCompleted:
        """A result of this step, which is acknowledged at once."""
        message = self.expect(StepCompleted)
        assert message.key == key
        self.send(Recorded((message.call,)))
        return message

    def is_silent(self) -> bool:
        """Whether it says nothing for a moment. What it is wrong to say, it would say at once."""
        self._listen(0.05)
        return not self._heard

    def _listen(self, timeout_s: float = 0.01) -> None:
        for _, message in self._pool.wait(timeout_s):
            assert not isinstance(message, Lost), message
            self._heard.append(message)

    def close(self) -> None:
        self._pool.shut_down()


def recorded(
    key: str,
    state: StepState,
    *,
    output: str | None = None,
    attempts: int = 1,
    due_at: int | None = None,
    kind: StepKind = StepKind.RUN,
) -> RecordedStep:
    failure = Failure("ValueError", "broken") if state is StepState.FAILED else None
    return RecordedStep(key, "", state, attempts, output, failure, due_at, None, kind)


def changed(key: str, state: StepState, *, output: str | None = None, attempts: int = 1) -> StepChanged:
    return StepChanged(CLAIM, recorded(key, state, output=output, attempts=attempts))


@pytest.fixture
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    """A worker with the functions of the test's own module, `CODE`."""
    made = Worker(tmp_path, request.module.CODE)
    yield made
    made.close()
