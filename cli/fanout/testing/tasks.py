"""Executes async functions, in one event loop a thread. Only loaded where there are such functions."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from fanout.testing import contexts
from fanout.testing.pool import is_foreign
from fanout.testing.stubs import Stubs
from fanout.worker.async_context import AsyncContext
from fanout.worker.execution import Execution
from fanout.worker.loop_slots import call, new_loop
from fanout.worker.registry import Registered

_here = threading.local()


def execute(execution: Execution, function: Registered, stubs: Stubs | None) -> None:
    """Execute the function until it ends or leaves. The calling thread may be in a loop of its own."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001 - the public one raises, which costs more than the rest
        _execute(execution, function, stubs)
        return
    thread = threading.Thread(target=copy_context().run, args=(_execute_once, execution, function, stubs))
    thread.start()
    thread.join()


def guarded(function: Registered, escape: Callable[[BaseException], None]) -> Registered:
    """The function, but that what is not its own failure is also heard by the test."""

    async def code(ctx: AsyncContext) -> Any:
        try:
            return await function.code(ctx)
        except BaseException as error:
            if is_foreign(error) and not isinstance(error, asyncio.CancelledError):
                escape(error)
            raise

    return function._replace(code=code)


def _execute(execution: Execution, function: Registered, stubs: Stubs | None) -> None:
    loop = _loop()
    make = AsyncContext if stubs is None else contexts.tasks(stubs)
    loop.run_until_complete(_until_said(execution, function, make))


def _execute_once(execution: Execution, function: Registered, stubs: Stubs | None) -> None:
    try:
        _execute(execution, function, stubs)
    finally:
        _loop().close()


async def _until_said(execution: Execution, function: Registered, make: contexts.MakeAsyncContext) -> None:
    task = asyncio.get_running_loop().create_task(call(execution, function, make))
    await asyncio.wait([task])
    # What it has started and left behind is cancelled, and gets a turn to see that.
    while execution.tasks:
        await asyncio.wait(execution.tasks)
    await asyncio.sleep(0)


def _loop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop | None = getattr(_here, "loop", None)
    if loop is None or loop.is_closed():
        loop = _here.loop = new_loop()
        atexit.register(loop.close)
    return loop
