"""W5: one event wakes one of very many runs that wait for its name, told apart by `match`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from random import Random

import msgspec

import fanout
from benchmarks import crowd, engine, measure
from benchmarks.crowd import Visit
from benchmarks.measure import BenchmarkError, Deadline, figure, percentile
from benchmarks.project.waiters import AWAITED
from benchmarks.sending import EVENT, check_counts, counted
from benchmarks.settings import Options, Result, settings_of
from fanout.journal.appender import AcceptedEvent
from fanout.model import Event, Run, RunState

_REPEATS = 200
_WARM_UP = 20


@dataclass(frozen=True)
class Wake:
    """Milliseconds from before `send` to the step resolved, by the engine's clock; and to the run in our hands."""

    resolved_ms: float
    ended_ms: float


def run(options: Options) -> Result:
    """Rounds, each with an engine that finds the waiting runs in the journal; each of its events wakes another one.

    Each round has its own p50s and p99s. `memory_mb` is the peak of such an engine beyond the memory of one that has
    an empty journal and has run nothing yet, `making_mb` the same of the engine in which the runs began to wait.
    """
    deadline = Deadline.after(options.timeout_s)
    repeats, warm_up = options.scaled(_REPEATS), options.scaled(_WARM_UP)
    visits: list[Visit] = []
    rounds: list[list[Wake]] = []
    with engine.project("waiters", options.processes) as place, fanout.connect(place.config) as client:
        waiting = crowd.make(place, client, options.scaled(crowd.RUNS), lambda number: {"n": number}, deadline)
        woken = options.rounds * (repeats + warm_up)
        chosen = iter(Random(0).sample(range(1, waiting.runs + 1), woken))
        for _ in range(options.rounds):
            with engine.serve(place, deadline) as running:
                wakes = [_wake(client, number, deadline) for number in islice(chosen, repeats + warm_up)]
                visits.append(Visit(running.start_s, measure.peak_mb(running.pid) - waiting.empty_mb))
            rounds.append(wakes[warm_up:])
        check_counts(counted(client, waiting.all), {RunState.COMPLETED: woken, RunState.WAITING: waiting.runs - woken})
        settings = settings_of(
            place, client, runs=waiting.runs, repeats=repeats, rounds=options.rounds, events=1, payload_bytes=0
        )
    figures = {
        f"{name}_p{percent}_ms": figure(
            *(percentile([getattr(each, f"{name}_ms") for each in wakes], percent) for wakes in rounds)
        )
        for name in ("ended", "resolved")
        for percent in (50, 99)
    }
    figures |= crowd.figures_of(waiting, visits)
    crowd.check_limits(figures, crowd.LIMITS, options)
    return Result(figures, settings)


def _wake(client: fanout.Client, number: int, deadline: Deadline) -> Wake:
    """Send the event that one run waits for.

    Raises:
        BenchmarkError: that run is not completed by it.
    """
    timeout_s = deadline.remaining_s()
    waiter = AcceptedEvent(number, "", EVENT, is_duplicate=False)
    sent_ms = time.time() * 1000
    began = time.perf_counter()
    client.send({"name": AWAITED, "data": {"n": number}})
    runs = client.wait([waiter], timeout_s)
    ended_ms = (time.perf_counter() - began) * 1000
    return Wake(resolved_at(runs, number) - sent_ms, ended_ms)


def resolved_at(runs: list[Run], number: int) -> float:
    """When the one step of the one run was resolved, with the event of this number: in milliseconds.

    Raises:
        BenchmarkError: it was not.
    """
    steps = [step for run in runs for step in run.steps if run.state is RunState.COMPLETED]
    if len(runs) == len(steps) == 1 and steps[0].output is not None and steps[0].ended_at is not None:
        event = msgspec.json.decode(steps[0].output, type=Event | None)
        if event is not None and (event.name, event.data) == (AWAITED, {"n": number}):
            # The journal's times are whole milliseconds, cut off.
            return steps[0].ended_at + 0.5
    raise BenchmarkError(f"the run of event {number:,} was not completed by the event that it waited for")
