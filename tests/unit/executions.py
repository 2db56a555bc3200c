"""One execution in this process, and the other end of its socket."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from fanout.model import Failure, FunctionSpec, StepState
from fanout.protocol import FrameReader, RecordedStep, Start, ToEngine, to_engine_decoder
from fanout.worker.execution import Desk, Execution

SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)
EVENT = ("01E", "app/order", 5, '{"user_id":7}', None, None)
FAILURE = Failure("shop.CardError", "declined", "line 1")
CLAIM = 3


def recorded(key: str, state: StepState = StepState.COMPLETED, **more: Any) -> RecordedStep:
    output = "1" if state is StepState.COMPLETED else None
    failure = FAILURE if state is StepState.FAILED else None
    return RecordedStep(key, more.pop("branch", ""), state, 1, output, failure, **more)


class Engine:
    """The other end of the socket: what the worker has said since the last look."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._reader = FrameReader()

    def heard(self, desk: Desk) -> list[ToEngine]:
        desk.link.flush()
        try:
            data = self._connection.recv(65_536)
        except BlockingIOError:
            return []
        return [message for body in self._reader.feed(data) for message in to_engine_decoder.decode(body)]


class Woken:
    """A waiter that counts."""

    def __init__(self) -> None:
        self.times = 0

    def wake(self) -> None:
        self.times += 1


def executed(desk: Desk, *steps: RecordedStep, event: Any = EVENT, is_async: bool = False) -> Execution:
    """An execution of a run with these steps, that an event started."""
    spec = msgspec.structs.replace(SPEC, is_async=is_async)
    made = Execution(Start(CLAIM, "01R", "f", 0, event, steps), desk, spec, executed.__code__)
    desk.executions[CLAIM] = made
    return made
