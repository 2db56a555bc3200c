"""Where async functions execute: one event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from fanout.worker.async_context import AsyncContext
from fanout.worker.execution import Call, Execution, Verdict
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.registry import Registered

_MOST_THREADS = 1024


class LoopSlots:
    """One event loop in a thread of its own, so that it never holds up the protocol's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # asyncio's own has six threads on two cores: slow plain steps would hold up the other slots.
        self._loop.set_default_executor(ThreadPoolExecutor(max_workers=_MOST_THREADS))
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            # A task of the user's that raises SystemExit, or stops the loop, ends only its own run.
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def submit(self, starts: list[tuple[Execution, Registered]], settled: list[tuple[Call, Verdict]],
               evicted: list[Execution]) -> None:  # fmt: skip
        """All that one frame brought, at the price of waking the loop once."""
        self._loop.call_soon_threadsafe(self._take, starts, settled, evicted)

    def _take(self, starts: list[tuple[Execution, Registered]], settled: list[tuple[Call, Verdict]],
              evicted: list[Execution]) -> None:  # fmt: skip
        for call, verdict in settled:
            call.settle(verdict)
        for execution, function in starts:
            task = self._loop.create_task(self._call(execution, function))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for execution in evicted:
            execution.evict()

    async def _call(self, execution: Execution, function: Registered) -> None:
        # Only now: a task that is cancelled before it is entered would say nothing.
        execution.task = asyncio.current_task()
        execution.cancel_if_idle()
        try:
            ending: Any = execution.completed(await function.code(AsyncContext(execution, function.spec, self._loop)))
        except BaseException as error:  # noqa: BLE001 - boundary: the user's function, sys.exit() included
            leave_if_out_of_memory(error)
            ending = execution.raised(error)
        execution.close()
        execution.desk.link.put(ending)
        self._loop.call_soon(execution.desk.link.flush)
