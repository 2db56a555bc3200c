"""What a worker can't say, whatever runs in it: numbers that no journal holds, times that are none, frames without end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fanout.model import Failure, StepKind
from fanout.protocol import (
    HEADER,
    MAX_FRAME_BYTES,
    EventWait,
    FrameError,
    FrameReader,
    Invoke,
    Map,
    MapItems,
    Parked,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    Unpark,
    frame,
    to_engine_decoder,
)

LATE = 253_402_300_799_999 + 1
WIDE = 2**53 + 1
_FAILURE = Failure("Broken", "it is")


def _completed(claim: int = 1, call: int = 1, at: int = 1, position: int = 1, attempts: int = 1, **more: Any) -> Any:
    return StepCompleted(claim, call, "s", "", position, attempts, "1", at, at, **more)


def _failed(
    claim: int = 1, at: int = 1, retry_after_ms: int | None = None, position: int = 1, attempts: int = 1
) -> Any:
    return StepFailed(claim, "s", "", position, attempts, _FAILURE, at, at, True, retry_after_ms)


@pytest.mark.parametrize(
    "message",
    [
        *(kind(number) for kind in (Unpark, RunEvicted) for number in (-1, WIDE, 2**64 - 1)),
        *(_completed(**{field: number}) for field in ("claim", "call", "position", "attempts") for number in (-1, WIDE)),
        *(_failed(**{field: number}) for field in ("claim", "retry_after_ms", "position", "attempts") for number in (-1, WIDE)),
        *(said(at=number) for said in (_completed, _failed) for number in (-LATE, LATE, 2**63)),
        *(_completed(kind=StepKind.SEND, events=(SentEvent("i", False, "n", ts, "{}", None, None),)) for ts in (-LATE, LATE)),
        StepRunning(1, "s", "", -1, 1), StepRunning(1, "s", "", 1, LATE), RunFailed(1, _FAILURE, True, -1),
        Parked(-1, ("s",)), RunCompleted(-1, "1"), MapItems(1, "s", -1, (), True), MapItems(-1, "s", 0, (), True),
        *(
            StepWaits(1, "s", "", 1, 1, awaited)
            for awaited in (
                Sleep(LATE), EventWait("e", LATE, None, None), Invoke("f", "{}", LATE),
                Map("f", 0, False), Map("f", -1, False), Map("f", WIDE, False),
            )
        ),
    ],
)  # fmt: skip
def test_a_number_beyond_its_limits_is_refused(message: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        to_engine_decoder.decode(bytes(frame([message])[HEADER:]))


@pytest.mark.parametrize(
    "message",
    [
        _completed(claim=2**53, call=0, at=LATE - 1, position=2**53, attempts=0),
        _failed(at=-62_135_596_800_000, retry_after_ms=0),
        StepWaits(1, "s", "", 1, 1, Map("f", 2**53, False)),
    ],
)
def test_numbers_at_their_limits_are_taken(message: Any) -> None:
    assert to_engine_decoder.decode(bytes(frame([message])[HEADER:])) == [message]


def test_a_length_that_no_frame_has_is_refused_before_it_is_waited_for() -> None:
    reader = FrameReader()
    assert reader.feed(MAX_FRAME_BYTES.to_bytes(4, "big")) == []
    with pytest.raises(FrameError):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_text_that_is_not_utf_8_is_an_error_that_the_pool_knows() -> None:
    from fanout.engine.pool import _NONSENSE

    with pytest.raises(_NONSENSE):
        to_engine_decoder.decode(bytes([0x91, 0x93, 21, 0xA2, 0xFF, 0xFE, 0xC0]))
