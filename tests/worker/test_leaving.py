"""A real worker that is told to leave an execution: it does, whatever it waits for at that moment."""

from __future__ import annotations

import textwrap
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.engine.pool import LocalPool, Lost
from fanout.protocol import (
    Described,
    Evict,
    GiveUp,
    Load,
    Recorded,
    RunCompleted,
    RunEvicted,
    RunFailed,
    Start,
    StepCompleted,
    StepFailed,
    ToEngine,
    ToWorker,
)

FENCE_S = 20
CODE = """
    import asyncio
    import time
    from pathlib import Path
    import fanout
    from fanout import AsyncContext, Context

    GATE = Path(__file__).with_name("gate")
    BEGUN = Path(__file__).with_name("begun")


    def flying(is_good):
        BEGUN.touch()
        while not GATE.exists():
            time.sleep(0.002)
        if not is_good:
            raise ValueError("broken")


    @fanout.function(trigger=fanout.on("e"))
    def plain(ctx: Context) -> None:
        ctx.step.run("one", flying, ctx.event.data["is_good"])
        ctx.step.run("two", print)


    @fanout.function(trigger=fanout.on("e"))
    async def task(ctx: AsyncContext) -> None:
        await ctx.step.run("one", flying, ctx.event.data["is_good"])
        await ctx.step.run("two", print)
"""


class Project:
    def __init__(self, folder: Path) -> None:
        (folder / "work.py").write_text(textwrap.dedent(CODE))
        self._folder = folder
        self._heard: deque[ToEngine] = deque()
        self._pool = LocalPool(Load(str(folder), ("work",), 4))
        self._pool.grow(1)
        assert isinstance(self.next(), Described)

    def open_gate(self) -> None:
        (self._folder / "gate").touch()

    def await_step(self) -> None:
        until = time.monotonic() + FENCE_S
        while not (self._folder / "begun").exists():
            assert time.monotonic() < until
            self.listen()

    def start(self, function: str, *, is_good: bool) -> None:
        data = '{"is_good":true}' if is_good else '{"is_good":false}'
        self.send(Start(1, "run", function, 0, ("id", "e", 1, data, None, None)))

    def send(self, *messages: ToWorker) -> None:
        self._pool.send(1, messages)

    def next(self) -> ToEngine:
        until = time.monotonic() + FENCE_S
        while not self._heard:
            assert time.monotonic() < until, "the worker says nothing"
            self.listen()
        return self._heard.popleft()

    def listen(self, timeout_s: float = 0.01) -> None:
        for _, message in self._pool.wait(timeout_s):
            assert not isinstance(message, Lost), message
            self._heard.append(message)

    def close(self) -> None:
        self._pool.shut_down()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_after_a_step_whose_record_never_comes(project: Project, function: str) -> None:
    """The run was cancelled while the result was on its way: nothing is recorded, and nothing more is said of it."""
    project.open_gate()
    project.start(function, is_good=True)
    assert isinstance(project.next(), StepCompleted)
    # Likely it waits for the record by now; if not, it still has to leave.
    project.listen(0.05)
    project.send(Evict(1))
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_when_the_step_in_flight_has_ended(project: Project, function: str) -> None:
    project.start(function, is_good=True)
    project.await_step()
    project.send(Evict(1))
    project.open_gate()
    assert isinstance(project.next(), StepCompleted)
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_when_the_step_in_flight_has_failed(project: Project, function: str) -> None:
    project.start(function, is_good=False)
    project.await_step()
    project.send(Evict(1))
    project.open_gate()
    assert isinstance(project.next(), StepFailed)
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_a_step_that_waits_for_its_verdict(project: Project, function: str) -> None:
    project.open_gate()
    project.start(function, is_good=False)
    assert isinstance(project.next(), StepFailed)
    project.send(Evict(1))
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_goes_on_when_it_is_told_to(project: Project, function: str) -> None:
    project.open_gate()
    project.start(function, is_good=True)
    for _ in range(2):
        message = project.next()
        assert isinstance(message, StepCompleted)
        project.send(Recorded((message.call,)))
    assert isinstance(project.next(), RunCompleted)
    project.start(function, is_good=False)
    failed = project.next()
    assert isinstance(failed, StepFailed)
    project.send(GiveUp(failed.call))
    ended = project.next()
    assert isinstance(ended, RunFailed)
    assert ended.failure.type == "StepError"
