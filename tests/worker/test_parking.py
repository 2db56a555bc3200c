"""When a worker says that all of an execution waits, and how such an execution goes on."""

from __future__ import annotations

import itertools

import pytest

from fanout.model import StepState
from fanout.protocol import (
    Evict,
    Parked,
    Recorded,
    RecordedStep,
    Resume,
    RunCompleted,
    RunEvicted,
    RunFailed,
    StepChanged,
    StepCompleted,
    StepFailed,
    StepWaits,
    ToEngine,
    ToWorker,
    Unpark,
)
from tests.worker.conftest import CLAIM, Worker, changed, recorded

BOTH = pytest.mark.parametrize("kind", ["plain", "task"])
CODE = """
    @fanout.function()
    def naps_plain(ctx: Context):
        ctx.step.sleep("one", 3600)
        ctx.step.sleep("two", 3600)


    @fanout.function()
    async def naps_task(ctx: AsyncContext):
        await ctx.step.sleep("one", 3600)
        await ctx.step.sleep("two", 3600)


    @fanout.function()
    def branches_plain(ctx: Context):
        def late():
            ctx.step.run("work", at_gate)
            ctx.step.sleep("late nap", 3600)
            return "late"
        return ctx.step.parallel(
            lambda: ctx.step.sleep("nap", 3600),
            lambda: ctx.step.wait_for_event("event", event="e", timeout=3600),
            late,
        )


    @fanout.function()
    async def branches_task(ctx: AsyncContext):
        async def late():
            await ctx.step.run("work", at_gate)
            await ctx.step.sleep("late nap", 3600)
            return "late"
        return await asyncio.gather(
            ctx.step.sleep("nap", 3600), ctx.step.wait_for_event("event", event="e", timeout=3600), late()
        )


    @fanout.function()
    def nested_plain(ctx: Context):
        def inner(name):
            return lambda: ctx.step.sleep(name, 3600)
        ctx.step.parallel(inner("a"), lambda: ctx.step.parallel(inner("b"), inner("c")))


    @fanout.function()
    async def nested_task(ctx: AsyncContext):
        async def inner():
            await asyncio.gather(ctx.step.sleep("b", 3600), ctx.step.sleep("c", 3600))
        await asyncio.gather(ctx.step.sleep("a", 3600), inner())


    @fanout.function()
    def failing_plain(ctx: Context):
        return ctx.step.run("one", fail_until_open)


    @fanout.function()
    async def failing_task(ctx: AsyncContext):
        return await ctx.step.run("one", fail_until_open)


    def fail_until_open():
        if not (HERE / "gate").exists():
            fail()
        return "good"


    @fanout.function()
    def remembered_plain(ctx: Context):
        ctx.step.parallel(lambda: ctx.step.sleep("one", 3600), lambda: ctx.step.run("two", fail_until_open))


    @fanout.function()
    async def remembered_task(ctx: AsyncContext):
        await asyncio.gather(ctx.step.sleep("one", 3600), ctx.step.run("two", fail_until_open))


    @fanout.function()
    def own_thread_waits(ctx: Context):
        thread = threading.Thread(target=ctx.step.sleep, args=("nap", 3600))
        thread.start()
        thread.join()


    @fanout.function()
    def own_thread_works(ctx: Context):
        def work():
            at_gate()
            ctx.step.run("of a thread", mark, "worked")
        threading.Thread(target=work).start()
        ctx.step.sleep("nap", 3600)
"""


def keys(messages: list[ToEngine]) -> set[str]:
    return {message.key for message in messages if isinstance(message, StepWaits | StepCompleted)}


def parks(worker: Worker, *steps: str) -> None:
    parked = worker.expect(Parked)
    assert (parked.claim, sorted(parked.keys)) == (CLAIM, sorted(steps))


# When it is said.


@BOTH
def test_a_wait_parks_and_the_next_one_parks_again(worker: Worker, kind: str) -> None:
    worker.start(f"naps-{kind}")
    for step in ("one", "two"):
        assert worker.expect(StepWaits).key == step
        assert worker.next() == Parked(CLAIM, (step,))
        worker.send(changed(step, StepState.COMPLETED, output="null"), Resume(CLAIM))
    assert worker.next() == RunCompleted(CLAIM, "null")


@BOTH
def test_it_parks_when_the_last_branch_waits_and_no_sooner(worker: Worker, kind: str) -> None:
    worker.start(f"branches-{kind}")
    assert keys([worker.next(), worker.next()]) == {"nap", "event"}
    worker.await_mark("gate is reached")
    assert worker.is_silent()
    worker.open()
    worker.expect(StepCompleted)
    # What is not acknowledged keeps it from waiting only if a step's body is to begin: a sleep has none.
    assert worker.expect(StepWaits).key == "late nap"
    parks(worker, "nap", "event", "late nap")


@BOTH
def test_branches_in_branches_park_together(worker: Worker, kind: str) -> None:
    worker.start(f"nested-{kind}")
    assert keys([worker.next() for _ in range(3)]) == {"a", "b", "c"}
    parks(worker, "a", "b", "c")
    worker.send(changed("b", StepState.COMPLETED, output="null"), Resume(CLAIM))
    parks(worker, "a", "c")
    worker.send(changed("a", StepState.COMPLETED, output="null"), changed("c", StepState.COMPLETED, output="null"))
    worker.send(Resume(CLAIM))
    assert worker.next() == RunCompleted(CLAIM, "null")


@BOTH
def test_what_was_waiting_when_it_starts_is_not_asked_for_again(worker: Worker, kind: str) -> None:
    worker.start(
        f"remembered-{kind}",
        recorded("one", StepState.WAITING, due_at=2**62),
        recorded("two", StepState.RETRYING, due_at=2**62),
    )
    parks(worker, "one", "two")
    worker.open()
    worker.send(changed("two", StepState.RETRYING), Resume(CLAIM))
    assert worker.expect_recorded("two").attempts == 2
    parks(worker, "one")


def test_a_plain_function_that_only_waits_for_its_own_thread_is_not_parked(worker: Worker) -> None:
    worker.start("own-thread-waits")
    worker.expect(StepWaits)
    assert worker.is_silent()
    worker.send(changed("nap", StepState.COMPLETED, output="null"))
    assert worker.next() == RunCompleted(CLAIM, "null")


def test_a_thread_of_a_parked_function_gets_a_slot_for_its_step(worker: Worker) -> None:
    worker.start("own-thread-works")
    said = [worker.next(), worker.next()]
    assert said[1] == Parked(CLAIM, ("nap",))
    worker.await_mark("gate is reached")
    worker.open()
    assert worker.next() == Unpark(CLAIM)
    assert not worker.has("worked")
    worker.send(Resume(CLAIM))
    messages = [worker.next(), worker.next()]
    # That all else waits may be said again before the thread is at its step, or after.
    assert {type(message) for message in messages} <= {Parked, StepCompleted, Unpark}
    worker.send(Resume(CLAIM))
    worker.await_mark("worked")


# Going on.


@BOTH
@pytest.mark.parametrize("order", list(itertools.permutations(["step", "resume"])))
@pytest.mark.parametrize("frames", [1, 2])
def test_it_goes_on_whichever_it_hears_first(worker: Worker, kind: str, order: tuple[str, str], frames: int) -> None:
    worker.start(f"naps-{kind}")
    worker.expect(StepWaits)
    worker.expect(Parked)
    news: dict[str, ToWorker] = {"step": changed("one", StepState.COMPLETED, output="null"), "resume": Resume(CLAIM)}
    if frames == 1:
        worker.send(*(news[each] for each in order))
    else:
        worker.send(news[order[0]])
        if order[0] == "resume":
            # Nothing that it waits for has come.
            assert worker.next() == Parked(CLAIM, ("one",))
        worker.send(news[order[1]])
    message = worker.next()
    while message == Parked(CLAIM, ("one",)):
        message = worker.next()
    assert isinstance(message, StepWaits)
    assert message.key == "two"
    assert worker.next() == Parked(CLAIM, ("two",))


@BOTH
def test_a_slot_for_nothing_is_given_back(worker: Worker, kind: str) -> None:
    worker.start(f"naps-{kind}")
    worker.expect(StepWaits)
    assert worker.next() == Parked(CLAIM, ("one",))
    worker.send(Resume(CLAIM))
    assert worker.next() == Parked(CLAIM, ("one",))


@BOTH
def test_a_change_of_a_step_that_nobody_waits_for_changes_nothing(worker: Worker, kind: str) -> None:
    worker.start(f"naps-{kind}")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.send(changed("gone", StepState.COMPLETED, output="7"), changed("two", StepState.COMPLETED, output="null"))
    assert worker.is_silent()
    worker.send(changed("one", StepState.COMPLETED, output="null"), Resume(CLAIM))
    # What came before the call is remembered for it.
    assert worker.next() == RunCompleted(CLAIM, "null")


@BOTH
def test_what_is_said_of_an_execution_that_is_over_is_nothing_to_anyone(worker: Worker, kind: str) -> None:
    worker.send(changed("one", StepState.COMPLETED, output="null"), Resume(CLAIM), Evict(CLAIM))
    worker.start(f"naps-{kind}")
    worker.expect(StepWaits)
    worker.expect(Parked)
    worker.send(Evict(CLAIM))
    assert worker.next() == RunEvicted(CLAIM)
    worker.send(Evict(CLAIM), Resume(CLAIM), changed("one", StepState.COMPLETED, output="null"), Recorded((1, 2, 3)))
    worker.start(f"naps-{kind}")
    assert worker.expect(StepWaits).key == "one"


@BOTH
def test_a_failed_step_is_tried_again_where_it_stands(worker: Worker, kind: str) -> None:
    worker.start(f"failing-{kind}")
    for attempts in (1, 2):
        failed = worker.expect(StepFailed)
        assert (failed.attempts, failed.is_retriable, failed.failure.message) == (attempts, True, "broken")
        assert worker.next() == Parked(CLAIM, ("one",))
        if attempts == 2:
            worker.open()
        worker.send(changed("one", StepState.RETRYING, attempts=attempts), Resume(CLAIM))
    assert worker.expect_recorded("one").attempts == 3
    assert worker.next() == RunCompleted(CLAIM, '"good"')


@BOTH
def test_a_step_that_is_not_to_be_tried_again_raises(worker: Worker, kind: str) -> None:
    worker.start(f"failing-{kind}")
    worker.expect(StepFailed)
    worker.expect(Parked)
    worker.send(changed("one", StepState.FAILED), Resume(CLAIM))
    failed = worker.expect(RunFailed)
    assert (failed.failure.type, failed.failure.message) == ("StepError", "step `one` failed: ValueError: broken")
    assert not failed.is_retriable


@BOTH
def test_the_news_of_a_later_time_goes_on_waiting(worker: Worker, kind: str) -> None:
    worker.start(f"failing-{kind}")
    worker.expect(StepFailed)
    worker.expect(Parked)
    later = RecordedStep("one", "", StepState.RETRYING, 1, None, None, 2**62)
    worker.send(StepChanged(CLAIM, later), Resume(CLAIM))
    assert worker.next() == Parked(CLAIM, ("one",))
