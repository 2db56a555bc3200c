"""Where plain functions execute: threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from fanout.model import FunctionSpec
from fanout.protocol import RunCompleted, RunEvicted, RunFailed
from fanout.worker.branches import Branch, branch
from fanout.worker.context import Context
from fanout.worker.execution import Evicted, Execution
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.registry import Registered


class ThreadSlots:
    """Threads for plain functions; a new one only when none is free. The engine never starts more than fit."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Execution, Registered]] = SimpleQueue()
        self._free = threading.Semaphore(0)

    def start(self, execution: Execution, function: Registered) -> None:
        if not self._free.acquire(blocking=False):
            threading.Thread(target=self._work, daemon=True).start()
        self._waiting.put((execution, function))

    def _work(self) -> None:
        while True:
            execution, function = self._waiting.get()
            ending = call(execution, function)
            execution.close()
            # Free before the engine can know: it may send the next function at once.
            self._free.release()
            if not execution.is_left_behind:
                execution.desk.link.post(ending)


def call(
    execution: Execution, function: Registered, make: Callable[[Execution, FunctionSpec], Context] = Context
) -> RunCompleted | RunFailed | RunEvicted:
    """Execute the function in this thread. How it ended."""
    branch.set(Branch(execution))
    if execution.desk.tracing is not None:
        execution.desk.tracing.enter(execution.start, None, execution.start.attempt)
    try:
        execution.event_types = function.event_types
        return execution.completed(function.code(make(execution, function.spec)))
    except Evicted:
        return execution.raised(Evicted())
    except BaseException as error:  # noqa: BLE001 - boundary: the user's function, sys.exit() included
        leave_if_out_of_memory(error)
        return execution.raised(error)
