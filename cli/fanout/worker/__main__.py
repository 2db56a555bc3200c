"""`python -m fanout.worker FD`: load the user's modules, describe them, then execute what the engine starts."""

from __future__ import annotations

import faulthandler
import gc
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fanout.errors import LoadError
from fanout.model import Failure
from fanout.protocol import (
    Described,
    Evict,
    GiveUp,
    Load,
    LoadFailed,
    Recorded,
    RunFailed,
    ShutDown,
    Start,
    ToWorker,
)
from fanout.worker.execution import Call, Desk, Execution, Verdict
from fanout.worker.link import Link
from fanout.worker.registry import Registered, load
from fanout.worker.slots import ThreadSlots
from fanout.worker.step import ThreadCall

if TYPE_CHECKING:
    from fanout.worker.loop_slots import LoopSlots

NOTE_AFTER_MS = 250


class Worker:
    """The protocol's thread: it only passes on, so that no user code can hold it up."""

    def __init__(self, link: Link, registered: dict[str, Registered]) -> None:
        self._desk = Desk(link)
        self._registered = registered
        self._threads = ThreadSlots()
        self._loop = _loop_slots() if any(each.spec.is_async for each in registered.values()) else None

    def serve(self) -> None:
        link = self._desk.link
        while True:
            messages = link.receive()
            if messages:
                self._take(messages)
            self._desk.report_going(NOTE_AFTER_MS)

    def _take(self, messages: list[ToWorker]) -> None:  # noqa: C901 - one case a message
        starts: list[tuple[Execution, Registered]] = []
        settled: list[tuple[Call, Verdict]] = []
        evicted: list[Execution] = []
        for message in messages:
            match message:
                case Recorded(calls):
                    for number in calls:
                        self._settle(number, Verdict.RECORDED, settled)
                case Start():
                    function = self._registered.get(message.function)
                    if function is None:
                        gone = Failure("LoadError", f"the code has no function `{message.function}` any more")
                        self._desk.link.post(RunFailed(message.claim, gone, True, None))
                        continue
                    execution = Execution(message, self._desk)
                    self._desk.executions[message.claim] = execution
                    if function.spec.is_async:
                        starts.append((execution, function))
                    else:
                        self._threads.start(execution, function)
                case GiveUp(call):
                    self._settle(call, Verdict.GIVE_UP, settled)
                case Evict(claim):
                    self._evict(claim, evicted)
                case ShutDown():
                    raise SystemExit
                case _:
                    pass  # Load came first, and only once.
        if self._loop is not None and (starts or settled or evicted):
            self._loop.submit(starts, settled, evicted)

    def _settle(self, number: int, verdict: Verdict, settled: list[tuple[Call, Verdict]]) -> None:
        call = self._desk.calls.pop(number, None)
        if isinstance(call, ThreadCall):
            call.settle(verdict)
        elif call is not None:
            settled.append((call, verdict))

    def _evict(self, claim: int, evicted: list[Execution]) -> None:
        execution = self._desk.executions.get(claim)
        if execution is None:
            return
        if self._registered[execution.start.function].spec.is_async:
            evicted.append(execution)
        else:
            execution.evict()


def _loop_slots() -> LoopSlots:
    # Lazy: asyncio costs 50 ms to import, which a worker with plain functions only need not pay.
    from fanout.worker.loop_slots import LoopSlots

    return LoopSlots()


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
    try:
        registered = load(Path(first.root), first.modules)
    except LoadError as error:
        link.post(LoadFailed(error.message, error.hint))
        return
    link.post(Described(tuple(each.spec for each in registered.values())))
    # What is loaded stays: the collector need not look at it again, and rarely at the rest.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    Worker(link, registered).serve()


if __name__ == "__main__":
    main()
