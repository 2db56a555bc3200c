"""W3: the whole command `fanout send`, with no engine running; and how soon commands that do little are over."""

from __future__ import annotations

import json
import sys

import fanout
from benchmarks import engine
from benchmarks.engine import COMMAND, Finished, Project, run_command, run_process
from benchmarks.measure import BenchmarkError, Deadline, figure
from benchmarks.project.three_functions import PAYLOAD_BYTES
from benchmarks.sending import EVENT
from benchmarks.settings import Options, Result, settings_of

_REPEATS = 7
_FUNCTIONS = 3
_NO_OP = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def nothing() -> None: ...
app()
"""
"""The least that a Typer command takes."""


def run(options: Options) -> Result:
    """One process after another, after one that is not counted: it compiles the module and makes the journal."""
    deadline = Deadline.after(options.timeout_s)
    repeats = options.scaled(_REPEATS)
    with engine.project("three_functions", options.processes) as place:
        sends = [_send(place, deadline) for _ in range(repeats + 1)][1:]
        _check(place, (repeats + 1) * _FUNCTIONS, deadline)
        starts = _starts(place, repeats, deadline)
        with fanout.connect(place.config) as client:
            settings = settings_of(place, client, repeats=repeats, events=1, payload_bytes=PAYLOAD_BYTES)
    return Result(
        {
            "wall_s": figure(*(each.wall_s for each in sends)),
            "cpu_s": figure(*(each.cpu_s for each in sends)),
            **{name: figure(*walls) for name, walls in starts.items()},
        },
        settings,
    )


def _send(place: Project, deadline: Deadline) -> Finished:
    arguments = ["send", "--config", str(place.config), "--name", EVENT, "--data", '{"n": 1}']
    return run_command(place, arguments, deadline)


def _starts(place: Project, repeats: int, deadline: Deadline) -> dict[str, list[float]]:
    """In turn, so that whatever else the machine does is everybody's."""
    with_config = ["--config", str(place.config)]
    commands = {
        "python_s": [sys.executable, "-c", "pass"],
        "version_s": [COMMAND, "--version"],
        "no_op_s": [sys.executable, "-c", _NO_OP],
        "help_s": [COMMAND, "--help"],
        "runs_s": [COMMAND, "runs", *with_config],
        "no_wait_s": [COMMAND, "send", "--name", "bench/unheard", "--data", "{}", "--no-wait", *with_config],
    }
    walls: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            walls[name].append(run_process(command, place.root, deadline).wall_s)
    return walls


def _check(place: Project, expected: int, deadline: Deadline) -> None:
    """Raises BenchmarkError unless so many runs are there, each completed."""
    arguments = ["runs", "--config", str(place.config), "--json", "--limit", str(expected + 1)]
    runs = json.loads(run_command(place, arguments, deadline).out)["runs"]
    states = [run["state"] for run in runs]
    if states != ["completed"] * expected:
        raise BenchmarkError(f"there should be {expected} completed runs, there are {states}")
