"""W11: how long the few runs of one key take beside a long queue of another key, and alone."""

from __future__ import annotations

import time

import fanout
from benchmarks import engine
from benchmarks.crowd import check_limits
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.project.keyed import PAYLOAD_BYTES, STEP_S, one, roomy, two
from benchmarks.sending import check_runs, completed, follow
from benchmarks.settings import Options, Result, settings_of
from fanout.attached import spec_of
from fanout.client import watched_events
from fanout.journal.appender import AcceptedEvent
from fanout.journal.family import Watched

LIMITS = {"one_ratio": 2.0, "two_ratio": 2.0, "roomy_ratio": 2.0}
"""How long the runs may take beside others, as a multiple of what they take alone."""
_OTHERS = 10_000
_RUNS = 10
_REQUEST_EVENTS = 5_000


def run(options: Options) -> Result:
    """For each limit a key alone, several times, then again with the other key's runs in the queue.

    The time is from before `send` to the end of the last of these runs, as the client learns it.
    """
    deadline = Deadline.after(options.timeout_s)
    others = options.scaled(_OTHERS)
    figures: dict[str, Figure] = {}
    for function in filter(None, map(spec_of, (one, two, roomy))):
        with (
            engine.project("keyed", options.processes) as place,
            engine.serve(place, deadline),
            fanout.connect(place.config) as client,
        ):
            name = f"bench/{function.id}"
            rounds = range(options.rounds + 1)
            alone = [_key_ms(client, name, f"alone {number}", deadline) for number in rounds][1:]
            queued = _queue(client, name, others, deadline)
            beside = [_key_ms(client, name, f"beside {number}", deadline) for number in rounds][1:]
            if options.scale >= 1 and completed(client, queued) == others:
                raise BenchmarkError("the queue was worked off before all was measured")
            settings = settings_of(
                place, client, queued_runs=others, runs=_RUNS, step_ms=round(STEP_S * 1000), rounds=options.rounds,
                payload_bytes=PAYLOAD_BYTES,
            )  # fmt: skip
        figures |= {
            f"{function.id}_alone_ms": figure(*alone),
            f"{function.id}_beside_ms": figure(*beside),
            f"{function.id}_ratio": figure(*(one / other for one, other in zip(beside, alone, strict=True))),
        }
    check_limits(figures, LIMITS, options)
    return Result(figures, settings)


def _queue(client: fanout.Client, name: str, runs: int, deadline: Deadline) -> Watched:
    """So many runs of one other key are made, whether they have begun or not."""
    accepted: list[AcceptedEvent] = []
    while len(accepted) < runs:
        portion = min(runs - len(accepted), _REQUEST_EVENTS)
        accepted += client.send(*({"name": name, "data": {"key": "others"}} for _ in range(portion)))
    watched = watched_events(accepted)
    follow(client, watched, deadline, lambda progress: progress.is_routed)
    return watched


def _key_ms(client: fanout.Client, name: str, key: str, deadline: Deadline) -> float:
    timeout_s = deadline.remaining_s()
    began = time.perf_counter()
    runs = client.wait(client.send(*({"name": name, "data": {"key": key}} for _ in range(_RUNS))), timeout_s)
    took_ms = (time.perf_counter() - began) * 1000
    check_runs(runs, expected=_RUNS, steps=1, payload_bytes=PAYLOAD_BYTES)
    return took_ms
