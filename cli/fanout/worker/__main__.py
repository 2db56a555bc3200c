"""`python -m fanout.worker FD FD`: load the user's modules, describe them, then execute what the engine starts."""

from __future__ import annotations

import faulthandler
import gc
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fanout import __version__
from fanout.core.event_schemas import EventSchemas
from fanout.errors import LoadError
from fanout.model import Failure
from fanout.protocol import (
    Described,
    Evict,
    Load,
    LoadFailed,
    Recorded,
    RecordedStep,
    Resume,
    RunFailed,
    ShutDown,
    Start,
    StepChanged,
    ToWorker,
    Traced,
)
from fanout.worker import capture, memory
from fanout.worker.execution import Desk, Execution
from fanout.worker.link import Link
from fanout.worker.registry import Registered, load
from fanout.worker.resting import rest_soon
from fanout.worker.slots import ThreadSlots
from fanout.worker.waiting import ThreadWaiter

if TYPE_CHECKING:
    from fanout.worker.loop_slots import LoopSlots
    from fanout.worker.tracing import Tracing

NOTE_AFTER_MS = 250


class Worker:
    """The protocol's thread: it only passes on, so that no user code can hold it up."""

    def __init__(self, link: Link, registered: dict[str, Registered], *, tracing: Tracing | None = None) -> None:
        self._link = link
        self._desk = Desk(link)
        self._desk.schemas = EventSchemas(each.spec for each in registered.values())
        self._desk.tracing = tracing
        self._registered = registered
        self._written = {name: each.written for name, each in registered.items()}
        self._threads = ThreadSlots()
        self._loop = _loop_slots() if any(each.spec.is_async for each in registered.values()) else None

    def serve(self) -> None:
        link = self._link
        while True:
            messages = link.receive()
            if messages:
                self._take(messages)
            self._desk.report_going(NOTE_AFTER_MS)

    def _take(self, messages: list[ToWorker]) -> None:
        starts: list[tuple[Execution, Registered]] = []
        told: list[Callable[[], None]] = []
        for message in messages:
            match message:
                case Start():
                    self._start(message, starts)
                case Recorded(calls):
                    for number in calls:
                        self._wake(number, told)
                case StepChanged(claim, step):
                    self._tell(claim, partial(_change, step=step), told)
                case Resume(claim):
                    self._tell(claim, _resume, told)
                case Evict(claim):
                    self._tell(claim, Execution.evict, told)
                case ShutDown():
                    raise SystemExit
                case _:
                    pass  # Load came first, and only once.
        if self._loop is not None and (starts or told):
            self._loop.submit(starts, told)

    def _start(self, start: Start, starts: list[tuple[Execution, Registered]]) -> None:
        function = self._registered.get(start.function)
        if function is None:
            gone = Failure("LoadError", f"the code has no function `{start.function}` any more")
            self._desk.link.post(RunFailed(start.claim, gone, True, None))
            return
        execution = Execution(start, self._desk, function.spec, self._written[start.function])
        self._desk.executions[start.claim] = execution
        if function.spec.is_async:
            starts.append((execution, function))
        else:
            self._threads.start(execution, function)

    def _wake(self, number: int, told: list[Callable[[], None]]) -> None:
        waiter = self._desk.calls.pop(number, None)
        if isinstance(waiter, ThreadWaiter):
            waiter.wake()
        elif waiter is not None:
            told.append(waiter.wake)

    def _tell(self, claim: int, what: Callable[[Execution], None], told: list[Callable[[], None]]) -> None:
        """Tell an execution, in the loop's thread if it is a task. Of one that is over, nothing is left to tell."""
        execution = self._desk.executions.get(claim)
        if execution is None:
            return
        if execution.spec.is_async:
            told.append(partial(what, execution))
        else:
            what(execution)


def _change(execution: Execution, step: RecordedStep) -> None:
    execution.changed(step)
    if execution.spec.is_async:
        rest_soon(execution)


def _resume(execution: Execution) -> None:
    """It goes on. What it was woken for may be nothing that any of it waits for."""
    execution.resumed()
    if execution.spec.is_async:
        rest_soon(execution)
    else:
        execution.rest()
        execution.desk.link.flush()


def _loop_slots() -> LoopSlots:
    # Lazy: asyncio costs 50 ms to import, which a worker with plain functions only need not pay.
    from fanout.worker.loop_slots import LoopSlots

    return LoopSlots()


def _tracing(traced: Traced | None) -> Tracing | None:
    if traced is None:
        return None
    try:
        from fanout.worker.spans import Spans  # lazy: without tracing nothing of it is imported
    except (
        ModuleNotFoundError
    ):  # A codebase's own interpreter may not have it: its events still say where they come from.
        from fanout.worker.tracing import Tracing

        return Tracing(traced.sampling)
    return Spans(traced)


def _follow_threads() -> None:
    from fanout.worker.threads import follow  # lazy: the engine knows the functions by now

    follow()


def main() -> None:
    # The culprit only: with a thread a slot, the others would fill what is kept of a dead worker's words.
    faulthandler.enable(all_threads=False)
    # A pipe is buffered in blocks otherwise, and what a function printed before it died would be lost.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    link = Link(socket.socket(fileno=int(sys.argv[1])), idle_ms=NOTE_AFTER_MS)
    messages: list[ToWorker] = []
    while not messages:
        messages = link.receive()
    first = messages[0]
    if not isinstance(first, Load):
        raise SystemExit(f"the engine's first message was {first!r}")
    os.chdir(first.root)
    capture.install(int(sys.argv[2]))
    memory.is_worker = True
    try:
        registered = load(Path(first.root), first.modules)
    except LoadError as error:
        link.post(LoadFailed(error.message, error.hint))
        return
    link.post(Described(tuple(each.spec for each in registered.values()), __version__))
    tracing = _tracing(first.traced)
    capture.hear_logging()
    _follow_threads()
    # What is loaded stays: the collector need not look at it again, and rarely at the rest.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        Worker(link, registered, tracing=tracing).serve()
    finally:
        if tracing is not None:
            tracing.close()


if __name__ == "__main__":
    main()
