"""W9: very many runs sleep for a month: what they cost an engine, and how late others are woken beside them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec

import fanout
from benchmarks import crowd, engine, measure
from benchmarks.crowd import Visit
from benchmarks.measure import BenchmarkError, Deadline, figure, percentile
from benchmarks.sending import check_counts, counted, send_each
from benchmarks.settings import Options, Result, settings_of
from fanout.model import Run, RunState

MAX_LATE_MS = 100
_NAP = timedelta(days=30)
_SLEEPERS = 200
_FIRST_MS, _SPREAD_MS = 1_000, 8_000
"""When they wake, after they are sent. Up to `[pool] park` they sleep in their worker; the others are entered again."""


def run(options: Options) -> Result:
    """Rounds, each with an engine that finds the sleeping runs in the journal, and some more that wake at random times.

    Each round has its own percentiles of how late the code after the sleep went on. `memory_mb` and `making_mb` are
    as those of W5.
    """
    deadline = Deadline.after(options.timeout_s)
    sleepers, spread_ms = options.scaled(_SLEEPERS), options.scaled(_SPREAD_MS)
    visits: list[Visit] = []
    rounds: list[list[float]] = []
    random = Random(0)
    with engine.project("sleepers", options.processes) as place, fanout.connect(place.config) as client:
        until = datetime.now(UTC) + _NAP
        sleeping = crowd.make(
            place, client, options.scaled(crowd.RUNS), lambda _: {"until": until.isoformat()}, deadline
        )
        for _ in range(options.rounds):
            with engine.serve(place, deadline) as running:
                rounds.append(_late_ms(client, _times(sleepers, spread_ms, random), deadline))
                visits.append(Visit(running.start_s, measure.peak_mb(running.pid) - sleeping.empty_mb))
        check_counts(counted(client, sleeping.all), {RunState.WAITING: sleeping.runs})
        settings = settings_of(
            place,
            client,
            runs=sleeping.runs,
            sleepers=sleepers,
            within_s=(_FIRST_MS + spread_ms) / 1000,
            rounds=options.rounds,
            payload_bytes=0,
        )
    figures = {
        "late_p50_ms": figure(*(percentile(late_ms, 50) for late_ms in rounds)),
        "late_p99_ms": figure(*(percentile(late_ms, 99) for late_ms in rounds)),
        "late_max_ms": figure(*(max(late_ms) for late_ms in rounds)),
        **crowd.figures_of(sleeping, visits),
    }
    crowd.check_limits(figures, {**crowd.LIMITS, "late_max_ms": MAX_LATE_MS}, options)
    return Result(figures, settings)


def _times(number: int, spread_ms: int, random: Random) -> list[datetime]:
    now = datetime.now(UTC)
    return [now + timedelta(milliseconds=_FIRST_MS + random.randrange(spread_ms)) for _ in range(number)]


def _late_ms(client: fanout.Client, due: list[datetime], deadline: Deadline) -> list[float]:
    """How late a sleeper for each of these times went on, in milliseconds.

    Raises:
        BenchmarkError: one was early, or is not completed.
    """
    accepted = send_each(client, ({"until": each.isoformat()} for each in due), len(due))
    # Not in the way of the others: only then is there something to look at.
    time.sleep(max(0.0, (max(due) - datetime.now(UTC)).total_seconds()))
    runs = client.wait(accepted, deadline.remaining_s())
    late_ms = [(_woken_at(run) - each.timestamp()) * 1000 for run, each in zip(runs, due, strict=True)]
    if min(late_ms) < 0:
        raise BenchmarkError(f"one was woken {-min(late_ms):.1f} ms too early")
    return late_ms


def _woken_at(run: Run) -> float:
    if run.state is not RunState.COMPLETED or run.output is None:
        raise BenchmarkError(f"run `{run.id}` is {run.state}, it should have slept to its end")
    return msgspec.json.decode(run.output, type=float)
