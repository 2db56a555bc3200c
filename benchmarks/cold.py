"""W3: the whole command `fanout send`, with no engine running; and `fanout --version`, which does nothing."""

from __future__ import annotations

import json

import fanout
from benchmarks import engine
from benchmarks.engine import Finished, Project, run_command
from benchmarks.measure import BenchmarkError, Deadline, figure
from benchmarks.project.three_functions import PAYLOAD_BYTES
from benchmarks.sending import EVENT
from benchmarks.settings import Options, Result, settings_of

_REPEATS = 7
_FUNCTIONS = 3


def run(options: Options) -> Result:
    """One process after another, after one that is not counted: it compiles the module and makes the journal."""
    deadline = Deadline.after(options.timeout_s)
    repeats = options.scaled(_REPEATS)
    with engine.project("three_functions", options.processes) as place:
        sends = [_send(place, deadline) for _ in range(repeats + 1)][1:]
        _check(place, (repeats + 1) * _FUNCTIONS, deadline)
        versions = [run_command(place, ["--version"], deadline) for _ in range(repeats)]
        with fanout.connect(place.config) as client:
            settings = settings_of(place, client, repeats=repeats, events=1, payload_bytes=PAYLOAD_BYTES)
    return Result(
        {
            "wall_s": figure(*(each.wall_s for each in sends)),
            "cpu_s": figure(*(each.cpu_s for each in sends)),
            "version_s": figure(*(each.wall_s for each in versions)),
        },
        settings,
    )


def _send(place: Project, deadline: Deadline) -> Finished:
    arguments = ["send", "--config", str(place.config), "--name", EVENT, "--data", '{"n": 1}']
    return run_command(place, arguments, deadline)


def _check(place: Project, expected: int, deadline: Deadline) -> None:
    """Raises BenchmarkError unless so many runs are there, each completed."""
    arguments = ["runs", "--config", str(place.config), "--json", "--limit", str(expected + 1)]
    runs = json.loads(run_command(place, arguments, deadline).out)["runs"]
    states = [run["state"] for run in runs]
    if states != ["completed"] * expected:
        raise BenchmarkError(f"there should be {expected} completed runs, there are {states}")
