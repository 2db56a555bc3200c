"""What the steps of async functions have in common, as `waiting.py` has it for plain ones."""

from __future__ import annotations

import asyncio

from fanout.errors import StepError
from fanout.model import StepKind, StepState
from fanout.protocol import Awaited, SentEvent, Sleep, ToEngine
from fanout.worker import asking
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Execution, Reached
from fanout.worker.resting import rest_soon


class TaskWaiter:
    """A task that waits, or several for the same thing. To be woken in the loop's own thread."""

    __slots__ = ("_futures", "_is_woken", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_woken = False
        # One for each: several branches may wait for one call, and one of them being cancelled is not the others' end.
        self._futures: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        self._is_woken = True
        for future in self._futures:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        if not self._is_woken:
            future = self._loop.create_future()
            self._futures.append(future)
            await future


class AsyncWaiting:
    """Of the steps of one execution."""

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        self._execution = execution
        self._loop = loop

    def _now(self) -> int:
        return self._execution.desk.clock()

    # What is known of a step, and what is asked: as in `Waiting`.

    async def _recorded(self, reached: Reached, cause: BaseException | None = None) -> str | None:
        execution = self._execution
        if execution.has_left:
            await self._leave_again()
        while True:
            try:
                recorded = execution.remembered(reached.key)
            except StepError as error:
                raise error from cause
            if recorded is None or recorded.progress is not None:
                return None
            if recorded.state is StepState.COMPLETED:
                return recorded.output or "null"
            if not recorded.is_open:
                return None
            await self._wait(reached.key)

    async def _sleep(self, reached: Reached, due_at: int) -> None:
        if due_at > self._now():
            await self._ask(reached, Sleep(due_at))
        else:
            await self._done(reached, StepKind.SLEEP, "null")

    async def _ask(self, reached: Reached, awaited: Awaited) -> str:
        await self._wait(reached.key, asking.waits(self._execution, reached, awaited))
        return await self._recorded(reached) or "null"

    async def _feed(self, reached: Reached, mapped: asking.Mapped) -> str:
        execution, key = self._execution, reached.key
        known = execution.recorded.get(key)
        if known is None or known.progress is None:
            room = mapped.request.max_in_flight
            self._post(asking.waits(execution, reached, mapped.request))
        else:
            taken, room = known.progress
            mapped.skip(taken)
        while True:
            items = mapped.next_items(execution.claim, room) if room > 0 else None
            await self._wait(key, items)
            output = await self._recorded(reached)
            if output is not None:
                return output
            room = asking.room(execution.recorded[key])

    async def _done(self, reached: Reached, kind: StepKind, output: str, events: tuple[SentEvent, ...] = ()) -> None:
        await self._settle()
        attempt = Attempt(self._execution, reached, kind)
        attempt.leave()
        self._post(attempt.completed(output, TaskWaiter(self._loop), events))

    # Waiting and leaving.

    async def _wait(self, key: str, message: ToEngine | None = None) -> None:
        execution = self._execution
        waiter = TaskWaiter(self._loop)
        is_waiting = execution.begin_wait(key, waiter, message)
        self._flush_soon()
        execution.cancel_if_idle()
        if is_waiting:
            rest_soon(execution)
            try:
                await waiter.wait()
            except asyncio.CancelledError:
                execution.end_wait(key)
                rest_soon(execution)
                raise
        await self._leave_if_evicted()

    async def _settle(self) -> None:
        execution = self._execution
        if not (execution.unrecorded or execution.is_parked or execution.is_evicting):
            return
        # Somebody who waits for the disk does something.
        execution.busy += 1
        try:
            for number in tuple(execution.unrecorded):
                call = execution.desk.calls.get(number)
                if isinstance(call, TaskWaiter):
                    await call.wait()
                # Another branch may have waited for the same call, and taken it away.
                if number in execution.unrecorded:
                    execution.unrecorded.remove(number)
            if execution.is_parked:
                waiter = TaskWaiter(self._loop)
                if execution.wants_slot(waiter):
                    self._flush_soon()
                    await waiter.wait()
        finally:
            execution.busy -= 1
            rest_soon(execution)
        await self._leave_if_evicted()

    async def _leave_if_evicted(self) -> None:
        """Wait to be cancelled; once that has happened, don't wait again."""
        execution = self._execution
        if not execution.is_evicting:
            return
        if execution.has_left:
            raise asyncio.CancelledError
        await self._loop.create_future()

    async def _leave_again(self) -> None:
        """The code has caught what makes it leave."""
        if self._execution.is_stuck():
            await self._loop.create_future()  # for ever: it would only come back
        raise asyncio.CancelledError

    def _post(self, message: ToEngine) -> None:
        # Flushed when the loop has run what was ready: the steps that end in one round share a frame.
        self._execution.desk.link.put(message)
        self._flush_soon()

    def _flush_soon(self) -> None:
        self._execution.desk.flush_in(self._loop)
