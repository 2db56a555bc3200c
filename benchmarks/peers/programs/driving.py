"""What all programs here have in common: they do what they are told, line by line. It knows no peer.

Each program is executed by its peer's own interpreter, with nothing but the standard library and that peer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

PAYLOAD_BYTES = 200
FUNCTIONS = 3


def page() -> str:
    """What a step returns: so many bytes of JSON."""
    return "x" * (PAYLOAD_BYTES - 2)


def drive(fan_out: Callable[[int], None], one: Callable[[], None]) -> None:
    """Say that all is ready, then follow what stdin says: `fan_out EVENTS`, `latency TIMES`.

    `fan_out` sends so many events and returns when all that they start is done; `one` does that for one event that
    starts one function of one step. Answers are lines of JSON.
    """
    one()
    _say({"pid": os.getpid()})
    for line in sys.stdin:
        what, number = line.split()
        began = time.perf_counter()
        if what == "fan_out":
            fan_out(int(number))
            _say({"wall_s": time.perf_counter() - began})
        else:
            _say({"times_ms": [_timed_ms(one) for _ in range(int(number))]})


def _timed_ms(one: Callable[[], None]) -> float:
    began = time.perf_counter()
    one()
    return (time.perf_counter() - began) * 1000


def _say(what: dict[str, object]) -> None:
    sys.__stdout__.write(json.dumps(what) + "\n")
    sys.__stdout__.flush()
