"""`ctx.step` of async functions: durable steps in tasks. Only loaded where there are such functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from fanout.codec import encode_output
from fanout.errors import InvokeError
from fanout.model import Event, Sendable, StepKind
from fanout.worker import asking
from fanout.worker.asking import Duration, Moment, OnError, Target
from fanout.worker.async_waiting import AsyncWaiting, TaskWaiter
from fanout.worker.attempt import Attempt
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.resting import rest_soon
from fanout.worker.returns import decoder_of

if TYPE_CHECKING:
    from fanout.worker.signatures import AsyncBranch, Function, GivenT, KeysT, LooseT, OutputT, Shape

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
ItemT = TypeVar("ItemT")


class AsyncSteps(AsyncWaiting):
    """The steps of an async function, each awaited. What a call gives is recorded; it is never done again."""

    @overload
    async def run(self, name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` once and remember its result for ever: what it returns, or what that is awaited to.

        The value returned is the one that was recorded as JSON, now and at every replay, made into what `fn` is
        annotated to return; a tuple without such an annotation comes back as a list. A step that raises is tried
        again after a while, as the function's `retries` say. A plain `fn` runs in a thread, so that it can't hold up
        its neighbours.

        Raises:
            StepError: the step is out of attempts.
            UsageError: the name is not usable, or this is inside another step.
        """
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
        """Wait for `duration`: seconds, a timedelta, or text such as `1h30m`; up to 366 days. It costs no slot.

        Raises:
            UsageError: the name or the duration is not usable.
        """
        reached = self._execution.reach(name)
        if await self._recorded(reached) is None:
            await self._sleep(reached, asking.after(f"step `{reached.key}`: the duration", duration, self._now()))

    async def sleep_until(self, name: str, when: Moment) -> None:
        """Wait until `when`: a datetime, or text in ISO 8601; local time if it has no zone. A past one is no wait.

        Raises:
            UsageError: the name or the time is not usable.
        """
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
        """Wait for an event by this name, at most for `timeout`. It counts if it comes after this wait is recorded.

        Args:
            name: the step's.
            event: the name of the event.
            timeout: as for `sleep`.
            match: a path such as `data.user_id`, at which it has to equal the event that started this run. However
                many runs wait, finding the right ones is one look-up.
            if_: a CEL expression over `event` (which started this run) and `async` (which has come).

        Returns:
            the event, or None if it did not come in time.

        Raises:
            UsageError: the name, the event, the timeout or `match` is not usable.
            ExpressionError: `if_` is not CEL.
        """
        execution = self._execution
        reached = execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            awaited = asking.event_wait(execution, reached.key, event, timeout, match, if_)
            output = await self._ask(reached, awaited)
        return asking.awaited_event(output)

    async def send_event(self, name: str, events: Sendable | Sequence[Sendable]) -> list[str]:
        """Send one event or many, exactly once: they are stored in the transaction that records this step.

        Each is `{"name": ..., "data": {...}}`, with `id`, `ts`, `user` and `v` if they matter.

        Returns:
            their ids, in order.

        Raises:
            EventError: one of them is no event, or does not fit a function that it would start; none was sent.
        """
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
        function: Function[dict[str, Any], OutputT] | str,
        data: Shape | None = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> OutputT: ...

    @overload
    async def invoke(
        self,
        name: str,
        function: Function[GivenT, OutputT],
        data: GivenT,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as above
    ) -> OutputT: ...

    @overload
    async def invoke(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        data: dict[str, Any],
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
        """Run another function with this data as its event's, and wait for what it returns.

        Args:
            name: the step's.
            function: a function of fanout's, plain or async, or the id of one.
            data: the data of its event, as its context is annotated: a mapping, a dataclass, a Struct or a model.
            timeout: how long to wait, as for `sleep`; the function itself goes on.

        Returns:
            what it returned, in the type that it is annotated to return; of an id, as JSON values.

        Raises:
            InvokeError: it failed, was cancelled, or took too long.
        """
        reached = self._execution.reach(name)
        output = await self._recorded(reached)
        if output is None:
            output = await self._ask(reached, asking.invoke(reached.key, function, data, timeout, self._now()))
        return asking.returned(function, output)

    @overload
    async def map(
        self,
        name: str,
        function: Function[dict[str, Any], OutputT] | str,
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
        function: Function[GivenT, OutputT],
        items: Iterable[GivenT],
        *,
        key: Callable[[GivenT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    async def map(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        items: Iterable[LooseT],
        *,
        key: Callable[[LooseT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    async def map(
        self,
        name: str,
        function: Function[dict[str, Any], OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
    ) -> list[OutputT | InvokeError]: ...

    @overload
    async def map(
        self,
        name: str,
        function: Function[GivenT, OutputT],
        items: Iterable[GivenT],
        *,
        key: Callable[[GivenT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
    ) -> list[OutputT | InvokeError]: ...

    @overload
    async def map(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        items: Iterable[LooseT],
        *,
        key: Callable[[LooseT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
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
        """Run another function once for each item, across all workers, and wait for all that they return.

        An item is the data of its run's event; one that is not an object is in one, as `item`. Items are taken as
        they are needed, so they may come from a generator. When the function is entered again, as many are passed
        over as have become runs already; with a `key`, those whose keys have.

        Args:
            name: the step's.
            function: a function of fanout's, plain or async, or the id of one.
            items: any number of them.
            key: gives each item a text or number of its own.
            max_in_flight: how many of its runs may be there at a time; 1,000 if left out.
            on_error: `stop`: the first failure fails the step, and cancels the other runs. `collect`: an InvokeError
                is in the place of what failed.

        Returns:
            what the runs returned, in the order of the items.

        Raises:
            InvokeError: an item failed, and `on_error` is `stop`.
        """
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
        """Await coroutines, or async functions without arguments, at the same time, with steps of their own.

        All come to their end, also when one of them raises. `asyncio.gather` and `asyncio.TaskGroup` do as well.

        Returns:
            what they gave, in order.

        Raises:
            BaseException: what the first one that raised has raised.
        """
        self._execution.refuse_inside("`parallel`")
        results = await asyncio.gather(
            *(each() if callable(each) else each for each in branches), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return tuple(results)


def _is_coroutine(fn: Callable[..., Any]) -> bool:
    """Whether it is, at a glance: what is not certain is False."""
    return type(fn) is FunctionType and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
