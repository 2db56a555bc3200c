"""What a worker keeps of executions that are over: nothing, without the garbage collector, which stops all slots."""

from __future__ import annotations

import pytest

from fanout.model import StepState
from fanout.protocol import Parked, RunCompleted, RunFailed, StepFailed
from tests.worker.conftest import Worker, changed

CODE = """
    import gc
    from fanout.worker.execution import Execution

    gc.disable()


    @fanout.function()
    def steps_plain(ctx: Context):
        ctx.step.run("one", mark, "one")


    @fanout.function()
    async def steps_task(ctx: AsyncContext):
        await ctx.step.run("one", mark, "one")


    @fanout.function()
    def branches_plain(ctx: Context):
        ctx.step.parallel(lambda: ctx.step.run("one", mark, "one"), lambda: mark("two"))


    @fanout.function()
    async def branches_task(ctx: AsyncContext):
        await asyncio.gather(ctx.step.run("one", mark, "one"), asyncio.sleep(0.001))


    @fanout.function()
    def failing_plain(ctx: Context):
        ctx.step.run("one", fail)


    @fanout.function()
    async def failing_task(ctx: AsyncContext):
        await ctx.step.run("one", fail)


    @fanout.function()
    async def count(ctx: AsyncContext):
        return sum(isinstance(each, Execution) for each in gc.get_objects())
"""
TIMES = 20
FEW = 4
"""The one that counts; and each thread remembers the last that it had."""


def executions_left(worker: Worker) -> int:
    worker.start("count")
    return int(worker.expect(RunCompleted).output)


@pytest.mark.parametrize("kind", ["plain", "task"])
@pytest.mark.parametrize("function", ["steps", "branches"])
def test_one_that_is_completed_is_gone_at_once(worker: Worker, function: str, kind: str) -> None:
    for _ in range(TIMES):
        worker.start(f"{function}-{kind}")
        worker.expect_recorded("one")
        worker.expect(RunCompleted)
    assert executions_left(worker) <= FEW


@pytest.mark.parametrize("kind", ["plain", "task"])
def test_one_that_has_failed_is_gone_at_once(worker: Worker, kind: str) -> None:
    for _ in range(TIMES):
        worker.start(f"failing-{kind}")
        worker.expect(StepFailed)
        worker.expect(Parked)
        worker.send(changed("one", StepState.FAILED))
        worker.expect(RunFailed)
    assert executions_left(worker) <= FEW
