"""Where async functions execute: one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple
from weakref import ReferenceType, ref

from fanout.model import FunctionSpec
from fanout.worker.async_context import AsyncContext
from fanout.worker.branches import Branch, branch, inside
from fanout.worker.execution import Execution
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.registry import Registered
from fanout.worker.resting import rest_soon

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST_THREADS = 1024


class LoopSlots:
    """One event loop in a thread of its own, so that it never holds up the protocol's."""

    def __init__(self) -> None:
        self._loop = new_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            # A task of the user's that raises SystemExit, or stops the loop, ends only its own run.
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def submit(self, starts: list[tuple[Execution, Registered]], told: list[Callable[[], None]]) -> None:
        """All that one frame brought, at the price of waking the loop once."""
        self._loop.call_soon_threadsafe(self._take, starts, told)

    def _take(self, starts: list[tuple[Execution, Registered]], told: list[Callable[[], None]]) -> None:
        for execution, function in starts:
            self._tasks.add(self._loop.create_task(call(execution, function, tasks=self._tasks)))
        for tell in told:
            tell()


async def call(
    execution: Execution,
    function: Registered,
    make: Callable[[Execution, FunctionSpec, asyncio.AbstractEventLoop], AsyncContext] = AsyncContext,
    *,
    tasks: set[asyncio.Task[None]] | None = None,
) -> None:
    """Execute the function in this task, and say how it ended. `tasks` are those that are going."""
    loop = asyncio.get_running_loop()
    branch.set(Branch(execution))
    if execution.desk.tracing is not None:
        execution.desk.tracing.enter(execution.start, None, execution.start.attempt)
    # Only now: a task that is cancelled before it is entered would say nothing.
    execution.task = asyncio.current_task()
    execution.cancel_if_idle()
    try:
        execution.event_types = function.event_types
        ending: Any = execution.completed(await function.code(make(execution, function.spec, loop)))
    except BaseException as error:  # noqa: BLE001 - boundary: the user's function, sys.exit() included
        leave_if_out_of_memory(error)
        ending = execution.raised(error)
    execution.close()
    if tasks is not None and execution.task is not None:
        tasks.discard(execution.task)  # A callback would cost a turn of the loop.
    # Else the task would have itself: by its context, the branch there, and that one's execution.
    branch.set(None)
    if execution.is_left_behind:
        return
    execution.desk.link.put(ending)
    execution.desk.flush_in(loop)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for functions."""
    loop = _Loop()
    loop.set_task_factory(_new_task)  # type: ignore[arg-type] # typeshed: its context is not optional
    # asyncio's own has six threads on two cores: slow plain steps would hold up the other slots.
    loop.set_default_executor(ThreadPoolExecutor(max_workers=_MOST_THREADS))
    return loop


class _Loop(asyncio.SelectorEventLoop):
    """Knows which timers and threads a function's code between its steps may wait for."""

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        execution = _between_steps()
        if execution is None:
            return super().call_at(when, callback, *args, context=context)
        itself: list[ReferenceType[asyncio.TimerHandle]] = []
        fire = partial(_fired, execution, itself, callback, *args)
        timer = super().call_at(when, fire, context=context)
        itself.append(ref(timer))
        execution.timers.add(timer)
        return timer

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        execution = _between_steps()
        if execution is not None:
            execution.threads += 1
            future.add_done_callback(partial(_thread_ended, execution))
        return future


def _between_steps() -> Execution | None:
    here = branch.get()
    return None if here is None or inside.get() is not None else here.execution


def _fired(
    execution: Execution,
    itself: list[ReferenceType[asyncio.TimerHandle]],
    callback: Callable[[*Ts], object],
    *args: *Ts,
) -> None:
    # Only now: a loop that is late still has to come to those whose time is over.
    timer = itself[0]()
    if timer is not None:
        execution.timers.discard(timer)
    execution.stirs += 1
    callback(*args)


def _thread_ended(execution: Execution, _future: asyncio.Future[Any]) -> None:
    execution.threads -= 1
    execution.stirs += 1
    rest_soon(execution)


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], *, context: Context | None = None, **more: Any
) -> asyncio.Task[Any]:
    """A task that a function starts between its steps is a branch: numbered as the code starts them.

    Those that a step's own code starts are not: when the step is remembered, they are not started at all.
    """
    here = branch.get()
    if here is None or inside.get() is not None:
        return asyncio.Task(coroutine, loop=loop, context=context, **more)
    context = copy_context() if context is None else context
    context.run(branch.set, here.fork())
    task = asyncio.Task(coroutine, loop=loop, context=context, **more)
    here.execution.tasks.add(task)
    here.execution.stirs += 1
    task.add_done_callback(partial(_ended, here.execution))
    return task


def _ended(execution: Execution, task: asyncio.Task[Any]) -> None:
    execution.tasks.discard(task)
    execution.stirs += 1
