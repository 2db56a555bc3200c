"""`ctx.step` of async functions: durable steps in tasks. Only loaded where there are such functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from fanout.codec import encode_output
from fanout.errors import InvokeError, StepError
from fanout.model import Event, StepKind, StepState
from fanout.protocol import Awaited, SentEvent, Sleep, ToEngine
from fanout.worker import asking
from fanout.worker.asking import Duration, Events, Moment, OnError, Target
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Execution, Reached
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.resting import rest_soon
from fanout.worker.returns import decoder_of

if TYPE_CHECKING:
    from fanout.worker.signatures import AsyncBranch, Function, GivenT, OutputT

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
ItemT = TypeVar("ItemT")


class TaskWaiter:
    """A task that waits, or several for the same thing. To be woken in the loop's own thread."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        # Shielded: several branches may wait for one call, and one of them being cancelled is not the others' end.
        if not self._future.done():
            await asyncio.shield(self._future)


class AsyncSteps:
    """The steps of an async function. Each means what it means in `Steps`, and is awaited."""

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        self._execution = execution
        self._loop = loop

    @overload
    async def run(self, name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` once and remember its result for ever: what it returns, or what that is awaited to.

        A plain `fn` runs in a thread, so that it can't hold up its neighbours. Else as `Steps.run`.
        """
        execution = self._execution
        reached = execution.reach(name)
        # Most steps are new: a coroutine that finds that out is not worth its price.
        is_new = reached.key not in execution.recorded and not execution.has_left
        output = None if is_new else await self._recorded(reached)
        while output is None:
            await self._settle()
            attempt = Attempt(execution, reached)
            try:
                try:
                    value = await self._call(reached.key, fn, *args, **kwargs)
                finally:
                    attempt.leave()
                    rest_soon(execution)
                output = encode_output(f"step `{reached.key}`", value)
            except asyncio.CancelledError:
                execution.cancel_if_idle()
                raise
            except BaseException as error:  # noqa: BLE001 - boundary: the user's code, sys.exit() included
                leave_if_out_of_memory(error)
                await self._wait(reached.key, attempt.failed(error))
                output = await self._recorded(reached, error)
            else:
                self._post(attempt.completed(output, TaskWaiter(self._loop)))
                execution.cancel_if_idle()
        return decoder_of(fn)(output)

    async def _call(self, key: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        limit_ms = self._execution.spec.timeouts.step_ms
        if not inspect.iscoroutinefunction(fn):
            # A thread can't be stopped: the engine sees to its time limit.
            value = await asyncio.to_thread(fn, *args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        if limit_ms is None:
            return await fn(*args, **kwargs)
        limit = asyncio.timeout(limit_ms / 1000)
        try:
            async with limit:
                return await fn(*args, **kwargs)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"step `{key}` did not end within {limit_ms / 1000:g} s") from error
            raise

    async def sleep(self, name: str, duration: Duration) -> None:
        """Wait for `duration`: seconds, a timedelta, or text such as `1h30m`; up to 366 days. It costs no slot."""
        reached = self._execution.reach(name)
        if await self._recorded(reached) is None:
            await self._sleep(reached, asking.after(f"step `{reached.key}`: the duration", duration, self._now()))

    async def sleep_until(self, name: str, when: Moment) -> None:
        """Wait until `when`: a datetime, or text in ISO 8601; local time if it has no zone. A past one is no wait."""
        reached = self._execution.reach(name)
        if await self._recorded(reached) is None:
            await self._sleep(reached, asking.at(f"step `{reached.key}`: the time", when, self._now()))

    async def wait_for_event(
        self,
        name: str,
        *,
        event: str,
        timeout: Duration,  # noqa: ASYNC109 - of the wait, which outlives this process
        match: str | None = None,
        if_: str | None = None,
    ) -> Event | None:
        """The event by this name, or None if it does not come within `timeout`. Else as `Steps.wait_for_event`."""
        execution = self._execution
        reached = execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            awaited = asking.event_wait(execution, reached.key, event, timeout, match, if_)
            output = await self._ask(reached, awaited)
        return asking.awaited_event(output)

    async def send_event(self, name: str, events: Events) -> list[str]:
        """Send one event or many, exactly once, and return their ids in order. Else as `Steps.send_event`."""
        reached = self._execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            sent = asking.sent_events(reached.key, events, self._now(), self._execution.desk.schemas)
            output = encode_output(f"step `{reached.key}`", [event.id for event in sent])
            await self._done(reached, StepKind.SEND, output, sent)
        return asking.ids(output)

    @overload
    async def invoke(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> OutputT: ...

    @overload
    async def invoke(
        self,
        name: str,
        function: Function[GivenT, OutputT] | str,
        data: GivenT,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> OutputT: ...

    async def invoke(
        self,
        name: str,
        function: Target,
        data: Any = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """Run another function with this data as its event's; return what that returns. Else as `Steps.invoke`."""
        reached = self._execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            output = await self._ask(reached, asking.invoke(reached.key, function, data, timeout, self._now()))
        return asking.returned(function, output)

    @overload
    async def map(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    async def map(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: OnError,
    ) -> list[OutputT | InvokeError]: ...

    async def map(
        self,
        name: str,
        function: Target,
        items: Iterable[Any],
        *,
        key: Callable[[Any], object] | None = None,
        max_in_flight: int | None = None,
        on_error: OnError = "stop",
    ) -> list[Any]:
        """Run another function once for each item; return what the runs return, in order. Else as `Steps.map`."""
        reached = self._execution.reach(name)
        mapped = asking.Mapped(reached.key, function, items, key=key, max_in_flight=max_in_flight, on_error=on_error)
        output = await self._recorded(reached)
        if output is None:
            output = await self._feed(reached, mapped)
        return mapped.results(output)

    @overload
    async def parallel(self, a: AsyncBranch[T1], /) -> tuple[T1]: ...

    @overload
    async def parallel(self, a: AsyncBranch[T1], b: AsyncBranch[T2], /) -> tuple[T1, T2]: ...

    @overload
    async def parallel(self, a: AsyncBranch[T1], b: AsyncBranch[T2], c: AsyncBranch[T3], /) -> tuple[T1, T2, T3]: ...

    @overload
    async def parallel(
        self, a: AsyncBranch[T1], b: AsyncBranch[T2], c: AsyncBranch[T3], d: AsyncBranch[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...

    @overload
    async def parallel(
        self, a: AsyncBranch[T1], b: AsyncBranch[T2], c: AsyncBranch[T3], d: AsyncBranch[T4], e: AsyncBranch[T5], /
    ) -> tuple[T1, T2, T3, T4, T5]: ...

    @overload
    async def parallel(self, *branches: AsyncBranch[T]) -> tuple[T, ...]: ...

    async def parallel(self, *branches: Callable[[], Awaitable[Any]] | Awaitable[Any]) -> tuple[Any, ...]:
        """Await coroutines, or async functions, at the same time. `asyncio.gather` and `TaskGroup` do as well."""
        self._execution.refuse_inside("`parallel`")
        results = await asyncio.gather(
            *(each() if callable(each) else each for each in branches), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return tuple(results)

    def _now(self) -> int:
        return self._execution.desk.clock()

    # What is known of a step, and what is asked: as in `Steps`.

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
                with suppress(ValueError):
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
        self._loop.call_soon(self._execution.desk.link.flush)
