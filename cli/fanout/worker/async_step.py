"""`ctx.step` of async functions: durable steps in tasks. Only loaded where there are such functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, overload

from fanout.codec import encode_output
from fanout.errors import StepError
from fanout.model import Event, StepKind, StepState
from fanout.protocol import Awaited, SentEvent, Sleep, ToEngine
from fanout.worker import asking
from fanout.worker.asking import Duration, Events, Moment, OnError, Target
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Execution, Reached
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.resting import rest_soon
from fanout.worker.returns import decoder_of

P = ParamSpec("P")
T = TypeVar("T")


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
        """As `Steps.run`. A plain `fn` runs in a thread, so that it can't hold up its neighbours."""
        execution = self._execution
        reached = execution.reach(name)
        # Most steps are new: a coroutine that finds that out is not worth its price.
        is_new = reached.key not in execution.recorded and not execution.has_left
        output = None if is_new else await self._recorded(reached)
        is_simple = execution.spec.timeouts.step_ms is None
        while output is None:
            if execution.unrecorded or execution.is_parked or execution.is_evicting:
                await self._settle()
            attempt = Attempt(execution, reached)
            try:
                try:
                    # Most are coroutines without a time limit: another one around it is not worth its price, too.
                    if is_simple and _is_coroutine(fn):
                        value = await fn(*args, **kwargs)
                    else:
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
        """As `Steps.sleep`."""
        reached = self._execution.reach(name)
        if await self._recorded(reached) is None:
            await self._sleep(reached, asking.after(f"step `{reached.key}`: the duration", duration, self._now()))

    async def sleep_until(self, name: str, when: Moment) -> None:
        """As `Steps.sleep_until`."""
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
        """As `Steps.wait_for_event`."""
        execution = self._execution
        reached = execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            awaited = asking.event_wait(execution, reached.key, event, timeout, match, if_)
            output = await self._ask(reached, awaited)
        return asking.awaited_event(output)

    async def send_event(self, name: str, events: Events) -> list[str]:
        """As `Steps.send_event`."""
        reached = self._execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            sent = asking.sent_events(reached.key, events, self._now())
            output = encode_output(f"step `{reached.key}`", [event.id for event in sent])
            await self._done(reached, StepKind.SEND, output, sent)
        return asking.ids(output)

    async def invoke(
        self,
        name: str,
        function: Target,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """As `Steps.invoke`."""
        reached = self._execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            output = await self._ask(reached, asking.invoke(reached.key, function, data, timeout, self._now()))
        return asking.returned(function, output)

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
        """As `Steps.map`."""
        reached = self._execution.reach(name)
        mapped = asking.Mapped(reached.key, function, items, key=key, max_in_flight=max_in_flight, on_error=on_error)
        output = await self._recorded(reached)
        if output is None:
            output = await self._feed(reached, mapped)
        return mapped.results(output)

    async def parallel(self, *branches: Callable[[], Awaitable[Any]] | Awaitable[Any]) -> list[Any]:
        """As `Steps.parallel`, for coroutines or async functions; `asyncio.gather` and `TaskGroup` do as well."""
        self._execution.refuse_inside("`parallel`")
        results = await asyncio.gather(
            *(each() if callable(each) else each for each in branches), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

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


def _is_coroutine(fn: Callable[..., Any]) -> bool:
    """Whether it is, at a glance: what is not certain is False."""
    return type(fn) is FunctionType and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
