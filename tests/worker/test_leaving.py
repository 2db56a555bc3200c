"""A worker that is told to leave an execution: it does, whatever it waits for at that moment."""

from __future__ import annotations

import pytest

from fanout.model import StepState
from fanout.protocol import (
    Evict,
    Parked,
    Recorded,
    Resume,
    RunCompleted,
    RunEvicted,
    RunFailed,
    StepCompleted,
    StepFailed,
    StepWaits,
    Unpark,
)
from tests.worker.conftest import CLAIM, Worker, changed

BOTH = pytest.mark.parametrize("kind", ["plain", "task"])
CODE = """
    @fanout.function()
    def two_plain(ctx: Context):
        ctx.step.run("one", at_gate)
        ctx.step.run("two", mark, "two")


    @fanout.function()
    async def two_task(ctx: AsyncContext):
        await ctx.step.run("one", at_gate)
        await ctx.step.run("two", mark, "two")


    def fail_at_gate():
        at_gate()
        fail()


    @fanout.function()
    def failing_plain(ctx: Context):
        ctx.step.run("one", fail_at_gate)
        ctx.step.run("two", mark, "two")


    @fanout.function()
    async def failing_task(ctx: AsyncContext):
        await ctx.step.run("one", fail_at_gate)
        await ctx.step.run("two", mark, "two")


    @fanout.function()
    def branches_plain(ctx: Context):
        def flying():
            ctx.step.run("flying", at_gate)
            ctx.step.run("after", mark, "after")
        ctx.step.parallel(lambda: ctx.step.sleep("nap", 3600), flying)


    @fanout.function()
    async def branches_task(ctx: AsyncContext):
        async def flying():
            await ctx.step.run("flying", at_gate)
            await ctx.step.run("after", mark, "after")
        await asyncio.gather(ctx.step.sleep("nap", 3600), flying())


    @fanout.function()
    def catching_plain(ctx: Context):
        try:
            ctx.step.sleep("nap", 3600)
        except BaseException:
            pass
        try:
            ctx.step.run("two", mark, "two")
        except BaseException:
            return "swallowed"


    @fanout.function()
    async def catching_task(ctx: AsyncContext):
        try:
            await ctx.step.sleep("nap", 3600)
        except BaseException:
            pass
        try:
            await ctx.step.run("two", mark, "two")
        except BaseException:
            return "swallowed"


    @fanout.function()
    def catching_in_flight_plain(ctx: Context):
        for name in ("one", "two", "three"):
            try:
                ctx.step.run(name, at_gate if name == "one" else mark, name)
            except BaseException:
                pass


    @fanout.function()
    async def catching_in_flight_task(ctx: AsyncContext):
        for name in ("one", "two", "three"):
            try:
                await ctx.step.run(name, at_gate if name == "one" else mark, name)
            except BaseException:
                pass


    @fanout.function()
    def insisting_plain(ctx: Context):
        while True:
            try:
                ctx.step.sleep("nap", 3600)
                break
            except:
                pass


    @fanout.function()
    async def insisting_task(ctx: AsyncContext):
        while True:
            try:
                await ctx.step.sleep("nap", 3600)
                break
            except:
                pass


    @fanout.function()
    def insisting_branch_plain(ctx: Context):
        def branch():
            while True:
                try:
                    ctx.step.sleep("nap", 3600)
                    break
                except:
                    pass
        ctx.step.parallel(branch, lambda: ctx.step.sleep("nap", 3600))


    @fanout.function()
    async def insisting_branch_task(ctx: AsyncContext):
        async def branch():
            while True:
                try:
                    await ctx.step.sleep("nap", 3600)
                    break
                except:
                    pass
        await asyncio.gather(branch(), ctx.step.sleep("nap", 3600))


    @fanout.function()
    def careful_plain(ctx: Context):
        try:
            ctx.step.sleep("nap", 3600)
        except Exception:
            mark("swallowed")
        finally:
            mark("cleaned")


    @fanout.function()
    async def careful_task(ctx: AsyncContext):
        try:
            await ctx.step.sleep("nap", 3600)
        except Exception:
            mark("swallowed")
        finally:
            mark("cleaned")


    @fanout.function()
    async def between_steps(ctx: AsyncContext):
        mark("begun")
        await asyncio.sleep(3600)


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
"""


@BOTH
def test_it_leaves_after_a_step_whose_record_never_comes(worker: Worker, kind: str) -> None:
    """The run was cancelled while the result was on its way: nothing is recorded, and nothing more is said of it."""
    worker.open()
    worker.start(f"two-{kind}")
    worker.expect(StepCompleted)
    # Likely it waits for the record by now; if not, it still has to leave.
    worker.is_silent()
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)
    assert not worker.has("two")


@BOTH
def test_it_leaves_when_the_step_in_flight_has_ended(worker: Worker, kind: str) -> None:
    worker.start(f"two-{kind}")
    worker.await_mark("gate is reached")
    worker.evict()
    worker.open()
    worker.expect(StepCompleted)
    assert worker.next() == RunEvicted(CLAIM)
    assert not worker.has("two")


@BOTH
def test_it_leaves_when_the_step_in_flight_has_failed(worker: Worker, kind: str) -> None:
    worker.start(f"failing-{kind}")
    worker.await_mark("gate is reached")
    worker.evict()
    worker.open()
    worker.expect(StepFailed)
    assert worker.next() == RunEvicted(CLAIM)


@BOTH
def test_it_leaves_a_step_that_waits_for_its_next_attempt(worker: Worker, kind: str) -> None:
    worker.open()
    worker.start(f"failing-{kind}")
    worker.expect(StepFailed)
    assert worker.next() == Parked(CLAIM, ("one",))
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)


@BOTH
def test_it_goes_on_when_it_is_told_to(worker: Worker, kind: str) -> None:
    worker.open()
    worker.start(f"two-{kind}")
    worker.expect_recorded("one")
    worker.expect_recorded("two")
    assert worker.next() == RunCompleted(CLAIM, "null")
    worker.start(f"failing-{kind}")
    worker.expect(StepFailed)
    worker.expect(Parked)
    worker.send(changed("one", StepState.FAILED), Resume(CLAIM))
    assert worker.expect(RunFailed).failure.type == "StepError"


@BOTH
def test_it_leaves_all_branches_when_the_one_in_flight_has_ended_its_step(worker: Worker, kind: str) -> None:
    worker.start(f"branches-{kind}")
    worker.expect(StepWaits)
    worker.await_mark("gate is reached")
    worker.evict()
    # The branch that waits leaves at once; the run does only when the other one has said what came of its step.
    assert worker.is_silent()
    worker.open()
    assert worker.expect(StepCompleted).key == "flying"
    assert worker.next() == RunEvicted(CLAIM)
    assert not worker.has("after")


@BOTH
def test_a_parked_execution_leaves_at_once(worker: Worker, kind: str) -> None:
    worker.open()
    worker.start(f"branches-{kind}")
    said = {type(message): message for message in (worker.next(), worker.next())}
    assert set(said) == {StepWaits, StepCompleted}
    done = said[StepCompleted]
    assert isinstance(done, StepCompleted)
    worker.send(Recorded((done.call,)))
    worker.expect_recorded("after")
    assert worker.next() == Parked(CLAIM, ("nap",))
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)


@BOTH
def test_code_that_catches_everything_has_no_result_and_does_nothing_more(worker: Worker, kind: str) -> None:
    worker.start(f"catching-{kind}")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)
    assert not worker.has("two")


@BOTH
def test_nor_does_it_after_a_step_whose_record_never_comes(worker: Worker, kind: str) -> None:
    worker.start(f"catching-in-flight-{kind}")
    worker.await_mark("one is reached")
    worker.evict()
    worker.open("one")
    worker.expect(StepCompleted)
    assert worker.next() == RunEvicted(CLAIM)
    assert (worker.has("two"), worker.has("three")) == (False, False)


@BOTH
@pytest.mark.parametrize("where", ["insisting", "insisting-branch"])
def test_code_that_tries_again_for_ever_is_left_behind(worker: Worker, where: str, kind: str) -> None:
    for _ in range(2):
        worker.start(f"{where}-{kind}")
        while not isinstance(worker.next(), Parked):
            pass
        worker.send(Evict(CLAIM))
        assert worker.next() == RunEvicted(CLAIM)
        assert worker.is_silent()
    worker.open()
    worker.start(f"two-{kind}")
    worker.expect_recorded("one")
    worker.expect_recorded("two")
    assert worker.next() == RunCompleted(CLAIM, "null")


@BOTH
def test_code_that_catches_exceptions_does_not_catch_the_eviction_but_cleans_up(worker: Worker, kind: str) -> None:
    worker.start(f"careful-{kind}")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)
    assert (worker.has("cleaned"), worker.has("swallowed")) == (True, False)


def test_a_task_leaves_between_its_steps(worker: Worker) -> None:
    worker.start("between-steps")
    worker.await_mark("begun")
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)


def test_a_task_that_wants_its_slot_back_may_have_to_leave_instead(worker: Worker) -> None:
    worker.start("goes-on")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.open()
    assert worker.next() == Unpark(CLAIM)
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)
    assert not worker.has("two")
