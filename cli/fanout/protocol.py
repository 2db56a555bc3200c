"""The messages between engine and workers, and their frames.

A frame is a 4-byte big-endian length and that many bytes of msgpack: a *list* of messages, so that both sides
can say many things at the price of one. Payloads are JSON text that the engine never looks into.

`claim` numbers one execution of one run by one worker. Whatever arrives under a claim that the engine no longer
holds is stale and is dropped, so a lost worker's last words can't overwrite its successor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from fanout.core.sampling import Sampling
from fanout.model import Failure, FunctionSpec, StepKind, StepState

Envelope = tuple[str, str, int, str, str | None, str | None]
Number = Annotated[int, Meta(ge=0, le=2**53)]
"""Of calls, claims, attempts, places: what the journal can hold, with room to count on."""
Moment = Annotated[int, Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""Milliseconds of the years 1 to 9999: what can be shown as a date."""
HEADER = 4
MAX_FRAME_BYTES = 1 << 30
"""Nobody says more at once. A length beyond this is no length."""
OUT_OF_MEMORY = 199
"""The exit code of a worker that ran out of memory."""


class RecordedStep(msgspec.Struct, frozen=True, array_like=True):
    """What the journal knows of a step: sent when its run is started, and whenever it changes while that executes."""

    key: str
    branch: str
    """Which of the run's parallel branches it belongs to (of which code, and where in it); empty outside of them."""
    state: StepState
    attempts: int
    output: str | None
    failure: Failure | None
    due_at: int | None = None
    """A retrying step is not tried again before; None once that time has come."""
    progress: tuple[int, int] | None = None
    """Of a map that is not over: how many items have become runs, and how many more may follow now."""
    kind: StepKind = StepKind.RUN

    @property
    def is_open(self) -> bool:
        """It waits for something that has not come."""
        return self.state is StepState.WAITING or (self.state is StepState.RETRYING and self.due_at is not None)


# From the engine to a worker.


class Traced(msgspec.Struct, frozen=True, array_like=True):
    """How code is traced: as a part of which service, which of its traces, and whose values nobody is shown."""

    service: str
    sampling: Sampling
    hidden: tuple[str, ...] = ()


class Load(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """First: which modules to import, from where, and how many functions may run at once."""

    root: str
    modules: tuple[str, ...]
    slots: int
    traced: Traced | None = None
    """None is without traces."""


class Start(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Execute a function. `event` is (id, name, ts, data, user, v), its last three parts as JSON text.

    `batch` has all events of a run that has several.
    """

    claim: int
    run_id: str
    function: str
    attempt: int
    event: Envelope
    steps: tuple[RecordedStep, ...] = ()
    batch: tuple[Envelope, ...] = ()


class Recorded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The results of these calls are durable."""

    calls: tuple[int, ...]


class StepChanged(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The journal has something new on a step: what it waited for has come, or it may be tried again."""

    claim: int
    step: RecordedStep


class Evict(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Leave this execution at its next step's edge. A step in flight ends first, and its result is sent."""

    claim: int


class Resume(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The execution was parked and has a slot again: its steps may run."""

    claim: int


class ShutDown(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Exit; nothing is executing any more."""


# From a worker to the engine.


class SentEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event that a step sends; data and user are JSON text."""

    id: str
    is_id_given: bool
    name: str
    ts: Moment | None
    data: str
    user: str | None
    v: str | None


class Described(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The modules are loaded; these are their functions."""

    functions: tuple[FunctionSpec, ...]
    version: str


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """The modules can't be loaded. The worker exits."""

    message: str
    hint: str | None
    is_passing: bool = False
    """The machine has no room for a worker now; said by the pool."""


class StepRunning(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """A step has been going for a while, or has a time limit: worth showing to people, and watching."""

    claim: Number
    key: str
    branch: str
    position: Number
    started_at: Moment


class StepCompleted(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """A step is done. `events` are sent with it, in the transaction that records it."""

    claim: Number
    call: Number
    key: str
    branch: str
    position: Number
    attempts: Number
    output: str
    started_at: Moment
    ended_at: Moment
    kind: StepKind = StepKind.RUN
    events: tuple[SentEvent, ...] = ()


class StepFailed(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """An attempt of a step failed. A StepChanged says when it may be tried again, or that it may not."""

    claim: Number
    key: str
    branch: str
    position: Number
    attempts: Number
    failure: Failure
    started_at: Moment
    ended_at: Moment
    is_retriable: bool
    retry_after_ms: Number | None
    kind: StepKind = StepKind.RUN


class Sleep(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """Wait for a time."""

    due_at: Moment


class EventWait(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """Wait for an event, until `due_at` at the latest. `match` is a path and the JSON text that has to be there."""

    event: str
    due_at: Moment
    match: tuple[str, str] | None
    if_: str | None


class Invoke(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """Wait for a run of another function with this data (JSON text)."""

    function: str
    data: str
    due_at: Moment | None


class Map(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """Wait for a run for each of the items, which follow in MapItems."""

    function: str
    max_in_flight: Annotated[int, Meta(ge=1, le=2**53)]
    is_collecting: bool
    """A failed item is a result like others; otherwise the first one fails the step and cancels the rest."""


Awaited = Sleep | EventWait | Invoke | Map


class StepWaits(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """A step waits. A StepChanged says what came of it."""

    claim: Number
    key: str
    branch: str
    position: Number
    started_at: Moment
    awaited: Awaited


class MapItems(msgspec.Struct, frozen=True, array_like=True, tag=29):
    """The next items of a map: (data as JSON text, its key if it has one). `first` is the number of the first."""

    claim: Number
    key: str
    first: Number
    items: tuple[tuple[str, str | None], ...]
    is_last: bool


class Parked(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """All branches of an execution wait, for these steps. Nothing of it runs until a Resume."""

    claim: Number
    keys: tuple[str, ...]


class Unpark(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """A parked execution has something to do after all: code between steps has come to a step."""

    claim: Number


class RunCompleted(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """The function returned. `unreached` are recorded steps that it did not come to."""

    claim: Number
    output: str
    unreached: tuple[str, ...] = ()


class RunFailed(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """The function raised: between its steps, or a StepError that it did not catch."""

    claim: Number
    failure: Failure
    is_retriable: bool
    retry_after_ms: Number | None


class RunEvicted(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """The execution is over without a result."""

    claim: Number


class Logged(msgspec.Struct, frozen=True, array_like=True):
    """A line that a function has printed, or a record that it has logged: beside the messages, by a pipe of its own.

    There it is JSON text on a line of its own. It is true whatever becomes of the execution, so it has no claim.
    """

    run_id: str
    step: str | None
    """Whose own code it comes from; None is the code between steps."""
    attempt: Number
    """How many attempts have failed before: of the step, or of the code between steps."""
    at: Moment
    source: str
    """`stdout` or `stderr`, or the level of a record."""
    logger: str | None
    """Whose record it is; None if it was printed."""
    text: str


ToWorker = Load | Start | Recorded | StepChanged | Evict | Resume | ShutDown
FromExecution = (
    StepRunning
    | StepCompleted
    | StepFailed
    | StepWaits
    | MapItems
    | Parked
    | Unpark
    | RunCompleted
    | RunFailed
    | RunEvicted
)
ToEngine = Described | LoadFailed | FromExecution

_encoder = msgspec.msgpack.Encoder()
to_worker_decoder = msgspec.msgpack.Decoder(list[ToWorker])
to_engine_decoder = msgspec.msgpack.Decoder(list[ToEngine])
logged_encoder = msgspec.json.Encoder()
logged_decoder = msgspec.json.Decoder(Logged)


def frame(messages: Sequence[ToWorker] | Sequence[ToEngine]) -> bytearray:
    """The messages as one frame."""
    buffer = bytearray(HEADER)
    _encoder.encode_into(messages, buffer, HEADER)
    buffer[:HEADER] = (len(buffer) - HEADER).to_bytes(HEADER, "big")
    return buffer


class FrameError(Exception):
    """What comes is no frame: whoever sends it does not speak our language."""


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """The bodies that are complete with `data`; the rest is kept.

        Raises:
            FrameError: a frame would be longer than any is.
        """
        buffer = self._buffer
        buffer += data
        bodies = []
        start, size = 0, len(buffer)
        while size - start >= HEADER:
            length = int.from_bytes(buffer[start : start + HEADER], "big")
            end = start + HEADER + length
            if end > size:
                if length > MAX_FRAME_BYTES:
                    raise FrameError
                break
            bodies.append(bytes(buffer[start + HEADER : end]))
            start = end
        if start:
            del buffer[:start]
        return bodies
