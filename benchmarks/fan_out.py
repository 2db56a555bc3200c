"""W1 and W1a: many events, three functions each, two steps each, on an engine that runs already."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import fanout
from benchmarks import engine, measure
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES
from benchmarks.sending import check_runs, follow_to_end, send_in_batches
from benchmarks.settings import Options, Result, settings_of

PLAIN = "fan_out_plain"
ASYNC = "fan_out_async"
FUNCTIONS = 3
STEPS = 2
_EVENTS = 2_000


@dataclass(frozen=True)
class Round:
    """`cpu_s` is that of the engine, its workers and the client, and 0 where /proc is absent."""

    wall_s: float
    cpu_s: float


def run(module: str, options: Options) -> Result:
    """Rounds on one engine, after one that is not counted. From the first send to the last run known to be final."""
    deadline = Deadline.after(options.timeout_s)
    events = options.scaled(_EVENTS)
    cpu_before = engine.ended_cpu_s()
    with engine.project(module, options.processes) as place:
        with engine.serve(place, deadline) as running, fanout.connect(place.config) as client:
            rounds = [fan_out(client, running, events, options.batch, deadline) for _ in range(options.rounds + 1)]
            peak_mb = measure.tree_peak_mb(running.pid) if measure.can_see_processes() else None
            settings = settings_of(
                place, client, events=events, rounds=options.rounds, batch=options.batch, payload_bytes=PAYLOAD_BYTES
            )
        cpu_s_of_all = engine.ended_cpu_s() - cpu_before
    figures = _figures(rounds[1:], events)
    if peak_mb is None:
        # Known only when the engine has ended: with its start, and without the client.
        figures["cpu_s"] = figure(cpu_s_of_all / len(rounds))
    else:
        figures["peak_mb"] = figure(peak_mb)
    return Result(figures, settings)


def fan_out(client: fanout.Client, running: engine.Engine, events: int, batch: int, deadline: Deadline) -> Round:
    """One round.

    Raises:
        BenchmarkError: a run was not completed, or has other steps than it should.
    """
    cpu_of_tree = partial(measure.tree_cpu_s, running.pid) if measure.can_see_processes() else float
    cpu_before, client_before = cpu_of_tree(), time.process_time()
    began = time.monotonic()
    accepted = send_in_batches(client, events, batch)
    follow_to_end(client, accepted, deadline)
    wall_s = time.monotonic() - began
    cpu_s = cpu_of_tree() - cpu_before + time.process_time() - client_before
    if len(accepted) != events:
        raise BenchmarkError(f"of {events:,} events {len(accepted):,} were accepted")
    runs = client.wait(accepted, deadline.remaining_s())
    check_runs(runs, expected=events * FUNCTIONS, steps=STEPS, payload_bytes=PAYLOAD_BYTES)
    return Round(wall_s, cpu_s)


def _figures(rounds: list[Round], events: int) -> dict[str, Figure]:
    def per_second(number: int) -> Figure:
        return figure(*(number / each.wall_s for each in rounds))

    return {
        "events_per_s": per_second(events),
        "runs_per_s": per_second(events * FUNCTIONS),
        "steps_per_s": per_second(events * FUNCTIONS * STEPS),
        "wall_s": figure(*(each.wall_s for each in rounds)),
        "cpu_s": figure(*(each.cpu_s for each in rounds)),
    }


run_plain: Callable[[Options], Result] = partial(run, PLAIN)
run_async: Callable[[Options], Result] = partial(run, ASYNC)
