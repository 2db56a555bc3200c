"""What a task does between its steps: anything, and it is not parked as long as that is known to go on."""

from __future__ import annotations

import pytest

from fanout.model import StepState
from fanout.protocol import Parked, Recorded, Resume, RunCompleted, StepCompleted, StepWaits, Unpark
from tests.worker.conftest import CLAIM, Worker, changed

CODE = """
    @fanout.function()
    async def goes_on(ctx: AsyncContext):
        napping = asyncio.create_task(ctx.step.sleep("nap", 3600))
        opened = asyncio.Event()
        loop = asyncio.get_running_loop()
        def open_when_it_is_time():
            at_gate()
            loop.call_soon_threadsafe(opened.set)
        threading.Thread(target=open_when_it_is_time).start()
        await opened.wait()
        await ctx.step.run("two", mark, "two")
        await napping


    @fanout.function()
    async def has_a_timer(ctx: AsyncContext):
        napping = asyncio.create_task(ctx.step.sleep("nap", 3600))
        while not (HERE / "gate").exists():
            await asyncio.sleep(0.002)
        await napping


    @fanout.function()
    async def has_a_thread(ctx: AsyncContext):
        napping = asyncio.create_task(ctx.step.sleep("nap", 3600))
        await asyncio.to_thread(at_gate)
        await napping


    @fanout.function()
    async def had_a_timer(ctx: AsyncContext):
        async with asyncio.timeout(3600):
            await asyncio.sleep(0)
        await ctx.step.sleep("nap", 3600)


    @fanout.function()
    async def hurries(ctx: AsyncContext):
        try:
            await asyncio.wait_for(ctx.step.sleep("nap", 3600), 0.2)
        except TimeoutError:
            await ctx.step.sleep("another nap", 3600)


    @fanout.function()
    async def abandons(ctx: AsyncContext):
        napping = asyncio.create_task(ctx.step.sleep("abandoned", 3600))
        await asyncio.wait([napping], timeout=0.01)
        napping.cancel()
        await ctx.step.sleep("nap", 3600)


    @fanout.function()
    async def leaves_tasks_behind(ctx: AsyncContext):
        async def orphan(name, wait):
            try:
                await wait
            except asyncio.CancelledError:
                mark(f"{name} was cancelled")
                raise
        tasks = [
            asyncio.create_task(orphan("a nap", ctx.step.sleep("nap", 3600))),
            asyncio.create_task(orphan("code of its own", asyncio.sleep(3600))),
            asyncio.create_task(orphan("a step in flight", ctx.step.run("flying", asyncio.sleep, 3600))),
        ]
        await asyncio.sleep(0.01)
        return "done"
"""


@pytest.mark.parametrize("function", ["has-a-timer", "has-a-thread"])
def test_what_a_task_waits_for_between_its_steps_keeps_it_from_parking(worker: Worker, function: str) -> None:
    worker.start(function)
    assert worker.expect(StepWaits).key == "nap"
    assert worker.is_silent()
    worker.open()
    assert worker.next() == Parked(CLAIM, ("nap",))


def test_a_timer_that_is_called_off_does_not(worker: Worker) -> None:
    worker.start("had-a-timer")
    worker.expect(StepWaits)
    assert worker.next() == Parked(CLAIM, ("nap",))


def test_a_task_that_waits_for_a_step_no_longer_than_it_wants_parks_after_that(worker: Worker) -> None:
    worker.start("hurries")
    assert worker.expect(StepWaits).key == "nap"
    assert worker.expect(StepWaits).key == "another nap"
    assert worker.next() == Parked(CLAIM, ("another nap",))


def test_a_parked_task_that_comes_to_a_step_asks_for_a_slot_first(worker: Worker) -> None:
    worker.start("goes-on")
    worker.expect(StepWaits)
    assert worker.next() == Parked(CLAIM, ("nap",))
    worker.open()
    assert worker.next() == Unpark(CLAIM)
    assert worker.is_silent()
    assert not worker.has("two")
    worker.send(Resume(CLAIM))
    message = worker.next()
    while message == Parked(CLAIM, ("nap",)):
        message = worker.next()
    assert isinstance(message, StepCompleted)
    worker.send(Recorded((message.call,)))
    assert worker.next() == Parked(CLAIM, ("nap",))


def test_the_slot_may_come_with_the_news_that_is_also_there(worker: Worker) -> None:
    worker.start("goes-on")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.open()
    worker.expect(Unpark)
    worker.send(changed("nap", StepState.COMPLETED, output="null"), Resume(CLAIM))
    worker.expect_recorded("two")
    assert worker.next() == RunCompleted(CLAIM, "null")


def test_a_wait_that_was_cancelled_is_not_waited_for(worker: Worker) -> None:
    worker.start("abandons")
    assert worker.expect(StepWaits).key == "abandoned"
    message = worker.next()
    while message == Parked(CLAIM, ("abandoned",)):
        worker.send(Resume(CLAIM))
        message = worker.next()
    assert isinstance(message, StepWaits)
    assert message.key == "nap"
    assert worker.next() == Parked(CLAIM, ("nap",))
    worker.send(changed("abandoned", StepState.COMPLETED, output="null"))
    assert worker.is_silent()
    worker.send(changed("nap", StepState.COMPLETED, output="null"), Resume(CLAIM))
    assert worker.next() == RunCompleted(CLAIM, "null")


def test_tasks_that_are_left_behind_are_cancelled_when_the_function_returns(worker: Worker) -> None:
    worker.start("leaves-tasks-behind")
    worker.expect(StepWaits)
    assert worker.next() == RunCompleted(CLAIM, '"done"')
    for orphan in ("a nap", "code of its own", "a step in flight"):
        worker.await_mark(f"{orphan} was cancelled")
    assert worker.is_silent()
