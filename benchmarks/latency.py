"""W2: how long one event takes to the end of its one run of one step, on an engine that has nothing else to do."""

from __future__ import annotations

import time

import fanout
from benchmarks import engine
from benchmarks.measure import Deadline, figure, percentile
from benchmarks.project.one_step import PAYLOAD_BYTES
from benchmarks.sending import EVENT, check_runs
from benchmarks.settings import Options, Result, settings_of

_REPEATS = 200
_WARM_UP = 20


def run(options: Options) -> Result:
    """One event after another; the time from before `send` to the run in the client's hands.

    Each round has its own p50 and p99.
    """
    deadline = Deadline.after(options.timeout_s)
    repeats = options.scaled(_REPEATS)
    with (
        engine.project("one_step", options.processes) as place,
        engine.serve(place, deadline),
        fanout.connect(place.config) as client,
    ):
        for _ in range(options.scaled(_WARM_UP)):
            _once_ms(client, deadline)
        began = time.monotonic()
        rounds = [[_once_ms(client, deadline) for _ in range(repeats)] for _ in range(options.rounds)]
        wall_s = (time.monotonic() - began) / options.rounds
        settings = settings_of(
            place, client, repeats=repeats, rounds=options.rounds, events=1, payload_bytes=PAYLOAD_BYTES
        )
    return Result(
        {
            "p50_ms": figure(*(percentile(times, 50) for times in rounds)),
            "p99_ms": figure(*(percentile(times, 99) for times in rounds)),
            "wall_s": figure(wall_s),
        },
        settings,
    )


def _once_ms(client: fanout.Client, deadline: Deadline) -> float:
    """Raises BenchmarkError if there is not the one completed run of one step."""
    timeout_s = deadline.remaining_s()
    began = time.perf_counter()
    runs = client.wait(client.send({"name": EVENT, "data": {}}), timeout_s)
    took_ms = (time.perf_counter() - began) * 1000
    check_runs(runs, expected=1, steps=1, payload_bytes=PAYLOAD_BYTES)
    return took_ms
