"""`ctx.step` of async functions: durable steps in tasks. Only loaded where there are such functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, overload

from fanout.codec import decode_json, encode_output
from fanout.worker.execution import Execution, StepCall, Verdict, step_error
from fanout.worker.memory import leave_if_out_of_memory

P = ParamSpec("P")
T = TypeVar("T")


class TaskCall:
    """A message that waits for its verdict, in a task. To be settled in the loop's own thread."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[Verdict] = loop.create_future()

    def settle(self, verdict: Verdict) -> None:
        if not self._future.done():
            self._future.set_result(verdict)

    async def wait(self) -> Verdict:
        # Shielded: several branches may wait for one call, and one of them being cancelled is not the others' end.
        return self._future.result() if self._future.done() else await asyncio.shield(self._future)


class AsyncSteps:
    """The steps of an async function."""

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
        key, position = execution.reach(name)
        recorded = execution.remembered(key)
        if recorded is not None:
            return decode_json(recorded.output or "null")
        await self._settle()
        call = TaskCall(self._loop)
        attempt = execution.begin(key, position)
        try:
            try:
                if inspect.iscoroutinefunction(fn):
                    value = await fn(*args, **kwargs)
                else:
                    value = await asyncio.to_thread(fn, *args, **kwargs)
                    if inspect.isawaitable(value):
                        value = await value
            finally:
                attempt.leave()
            output = encode_output(f"step `{key}`", value)
        except asyncio.CancelledError:
            execution.cancel_if_idle()
            raise
        except BaseException as error:  # noqa: BLE001 - boundary: the user's code, sys.exit() included
            await self._fail(key, attempt, error, call)
        self._post(attempt.completed(output, call))
        execution.cancel_if_idle()
        return decode_json(output)

    async def _settle(self) -> None:
        execution = self._execution
        for number in tuple(execution.unrecorded):
            call = execution.desk.calls.get(number)
            if isinstance(call, TaskCall):
                await call.wait()
            # Another branch may have waited for the same call, and taken it away.
            with suppress(ValueError):
                execution.unrecorded.remove(number)
        if execution.is_evicting:
            await self._never()

    async def _fail(self, key: str, attempt: StepCall, error: BaseException, call: TaskCall) -> None:
        leave_if_out_of_memory(error)
        report = attempt.failed(error, call)
        self._post(report)
        self._execution.cancel_if_idle()
        if await call.wait() is Verdict.GIVE_UP:
            raise step_error(key, report.failure) from error
        await self._never()

    async def _never(self) -> None:
        """Wait to be cancelled; once that has happened, don't wait again."""
        if self._execution.has_left:
            raise asyncio.CancelledError
        await self._loop.create_future()

    def _post(self, message: Any) -> None:
        # Flushed when the loop has run what was ready: the steps that end in one round share a frame.
        link = self._execution.desk.link
        link.put(message)
        self._loop.call_soon(link.flush)
