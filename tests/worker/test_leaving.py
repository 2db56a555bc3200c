"""A real worker that is told to leave an execution: it does, whatever it waits for at that moment."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.engine.pool import LocalPool
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

FENCE_S = 30
CODE = """
    import asyncio
    import time
    from pathlib import Path
    import fanout
    from fanout import AsyncContext, Context

    GATE = Path(__file__).with_name("gate")


    def flying(is_good):
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
        self._gate = folder / "gate"
        self._pool = LocalPool(Load(str(folder), ("work",), 4))
        self._pool.grow(1)
        assert isinstance(self.next(), Described)

    def open_gate(self) -> None:
        self._gate.touch()

    def start(self, function: str, *, is_good: bool) -> None:
        data = '{"is_good":true}' if is_good else '{"is_good":false}'
        self.send(Start(1, "run", function, 0, ("id", "e", 1, data, None, None)))

    def send(self, *messages: ToWorker) -> None:
        self._pool.send(1, messages)

    def next(self) -> ToEngine:
        """The next message, and there is only one."""
        until = time.monotonic() + FENCE_S
        while time.monotonic() < until:
            for _, message in self._pool.wait(0.1):
                return message  # type: ignore[return-value]
        raise AssertionError("the worker says nothing")

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
    project.send(Evict(1))
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_when_the_step_in_flight_has_ended(project: Project, function: str) -> None:
    project.start(function, is_good=True)
    project.send(Evict(1))
    project.open_gate()
    assert isinstance(project.next(), StepCompleted)
    assert project.next() == RunEvicted(1)


@pytest.mark.parametrize("function", ["plain", "task"])
def test_it_leaves_when_the_step_in_flight_has_failed(project: Project, function: str) -> None:
    project.start(function, is_good=False)
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
