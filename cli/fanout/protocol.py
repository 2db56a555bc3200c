"""The messages between engine and workers, and their frames.

A frame is a 4-byte big-endian length and that many bytes of msgpack: a *list* of messages, so that both sides
can say many things at the price of one. Payloads are JSON text that the engine never looks into.

`claim` numbers one execution of one run by one worker. Whatever arrives under a claim that the engine no longer
holds is stale and is dropped, so a lost worker's last words can't overwrite its successor's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fanout.model import Failure, FunctionSpec, StepState

HEADER = 4
OUT_OF_MEMORY = 199
"""The exit code of a worker that ran out of memory."""


class RecordedStep(msgspec.Struct, frozen=True, array_like=True):
    """What the journal knows of a step when its run is started again."""

    key: str
    state: StepState
    attempts: int
    output: str | None
    failure: Failure | None


# From the engine to a worker.


class Load(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """First: which modules to import, from where, and how many functions may run at once."""

    root: str
    modules: tuple[str, ...]
    slots: int


class Start(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Execute a function. `event` is (id, name, ts, data, user, v), its last three parts as JSON text."""

    claim: int
    run_id: str
    function: str
    attempt: int
    event: tuple[str, str, int, str, str | None, str | None]
    steps: tuple[RecordedStep, ...] = ()


class Recorded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The results of these calls are durable."""

    calls: tuple[int, ...]


class GiveUp(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The step of this call is out of attempts, and that is durable: raise StepError."""

    call: int


class Evict(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Leave this execution at its next step's edge. A step in flight ends first, and its result is sent."""

    claim: int


class ShutDown(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Exit; nothing is executing any more."""


# From a worker to the engine.


class Described(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The modules are loaded; these are their functions."""

    functions: tuple[FunctionSpec, ...]


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """The modules can't be loaded. The worker exits."""

    message: str
    hint: str | None


class StepRunning(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """A step has been going for a while: worth showing to people."""

    claim: int
    key: str
    position: int
    started_at: int


class StepCompleted(msgspec.Struct, frozen=True, array_like=True, tag=23):
    claim: int
    call: int
    key: str
    position: int
    attempts: int
    output: str
    started_at: int
    ended_at: int


class StepFailed(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """An attempt of a step failed. The engine answers with GiveUp or Evict."""

    claim: int
    call: int
    key: str
    position: int
    attempts: int
    failure: Failure
    started_at: int
    ended_at: int
    is_retriable: bool
    retry_after_ms: int | None


class RunCompleted(msgspec.Struct, frozen=True, array_like=True, tag=25):
    claim: int
    output: str


class RunFailed(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """The function raised: between its steps, or a StepError that it did not catch."""

    claim: int
    failure: Failure
    is_retriable: bool
    retry_after_ms: int | None


class RunEvicted(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """The execution is over without a result."""

    claim: int


ToWorker = Load | Start | Recorded | GiveUp | Evict | ShutDown
ToEngine = Described | LoadFailed | StepRunning | StepCompleted | StepFailed | RunCompleted | RunFailed | RunEvicted

_encoder = msgspec.msgpack.Encoder()
to_worker_decoder = msgspec.msgpack.Decoder(list[ToWorker])
to_engine_decoder = msgspec.msgpack.Decoder(list[ToEngine])


def frame(messages: Sequence[ToWorker] | Sequence[ToEngine]) -> bytearray:
    """The messages as one frame."""
    buffer = bytearray(HEADER)
    _encoder.encode_into(messages, buffer, HEADER)
    buffer[:HEADER] = (len(buffer) - HEADER).to_bytes(HEADER, "big")
    return buffer


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The bodies that are complete with `data`; the rest is kept."""
        buffer = self._buffer
        buffer += data
        bodies = []
        start, size = 0, len(buffer)
        while size - start >= HEADER:
            end = start + HEADER + int.from_bytes(buffer[start : start + HEADER], "big")
            if end > size:
                break
            bodies.append(bytes(buffer[start + HEADER : end]))
            start = end
        if start:
            del buffer[:start]
        return bodies
