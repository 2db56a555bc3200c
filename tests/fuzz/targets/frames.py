"""The bytes that a worker sends: cut into frames, decoded to messages, or known for nonsense. Never anything else."""

from __future__ import annotations

from fanout.engine.pool import _NONSENSE
from fanout.model import Failure
from fanout.protocol import (
    MAX_FRAME_BYTES,
    FrameReader,
    Parked,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    StepCompleted,
    ToEngine,
    frame,
    to_engine_decoder,
)

_MESSAGES: list[ToEngine] = [
    StepCompleted(1, 1, "s", "b", 1, 1, '"x"', 1, 2, events=(SentEvent("i", False, "n", None, "{}", None, None),)),
    RunCompleted(1, "null", ("u",)),
    RunFailed(1, Failure("T", "m"), True, 5),
    Parked(1, ("s",)),
    RunEvicted(1),
]
SEEDS = (
    *(bytes(frame([message])) for message in _MESSAGES), bytes(frame(_MESSAGES)), b"\0\0\0\x01\x90", b"\xff\xff\xff\xff",
    b"\0\0\0\x05\x91\x93\x15\xa1\xff",
)  # fmt: skip


def check(data: bytes) -> None:
    whole = _read([data])
    assert _read([data[:1], data[1:3], data[3:]]) == whole
    assert _read([data[place : place + 1] for place in range(min(len(data), 64))] + [data[64:]]) == whole


def _read(pieces: list[bytes]) -> list[ToEngine] | None:
    """What is said; None if it is nonsense."""
    reader, said = FrameReader(), list[ToEngine]()
    for piece in pieces:
        try:
            for body in reader.feed(piece):
                said += to_engine_decoder.decode(body)
        except _NONSENSE:
            return None
        assert len(reader._buffer) <= min(MAX_FRAME_BYTES, sum(map(len, pieces)))
    # What was read can be sent again, and is the same then.
    assert not said or to_engine_decoder.decode(bytes(frame(said)[4:])) == said
    return said
