"""W6: steps with large results, one after another in one run."""

from __future__ import annotations

import time

import fanout
from benchmarks import engine, measure
from benchmarks.measure import Deadline, figure
from benchmarks.project.large_steps import PAYLOAD_BYTES
from benchmarks.sending import EVENT, check_runs, follow_to_end
from benchmarks.settings import Options, Result, settings_of

_STEPS = 200


def run(options: Options) -> Result:
    """From the send to the run's end. MB are millions of bytes here, as the payload has them."""
    deadline = Deadline.after(options.timeout_s)
    steps = options.scaled(_STEPS)
    walls = []
    with (
        engine.project("large_steps", options.processes) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        for _ in range(options.rounds):
            began = time.monotonic()
            accepted = client.send({"name": EVENT, "data": {"steps": steps}})
            follow_to_end(client, accepted, deadline)
            walls.append(time.monotonic() - began)
            runs = client.wait(accepted, deadline.remaining_s())
            check_runs(runs, expected=1, steps=steps, payload_bytes=PAYLOAD_BYTES)
        figures = {
            "mb_per_s": figure(*(steps * PAYLOAD_BYTES / 1e6 / wall_s for wall_s in walls)),
            "wall_s": figure(*walls),
        }
        if measure.can_see_processes():
            figures["peak_mb"] = figure(measure.tree_peak_mb(running.pid))
        settings = settings_of(place, client, events=1, steps=steps, rounds=options.rounds, payload_bytes=PAYLOAD_BYTES)
    return Result(figures, settings)
