"""Rows of a journal, as tests look at them."""

from __future__ import annotations

from typing import NamedTuple

from tests.engine.foretelling import Where
from tests.engine.simulation import Simulation


class RunRow(NamedTuple):
    key: int
    id: str
    function: str
    event: int
    state: str
    reason: str | None
    output: str | None
    attempt: int
    crashes: int
    is_suspect: int
    parent: int | None
    parent_step: str | None
    item: int | None
    replay_of: int | None


class StepRow(NamedTuple):
    key: str
    path: str
    kind: str
    state: str
    attempts: int
    output: str | None
    started_at: int
    ended_at: int | None

    @property
    def name(self) -> str:
        return self.key.partition("#")[0]

    @property
    def number(self) -> int:
        return int(self.key.partition("#")[2] or 1)


def runs_of(simulation: Simulation, which: str = "1 ORDER BY key", *bindings: object) -> list[RunRow]:
    return [
        RunRow(*row) for row in simulation.rows(f"SELECT {', '.join(RunRow._fields)} FROM run WHERE {which}", *bindings)
    ]


def run_of(simulation: Simulation, run: int) -> RunRow:
    (found,) = runs_of(simulation, "key = ?", run)
    return found


def data_of(simulation: Simulation, run: int) -> str:
    ((data,),) = simulation.rows("SELECT data FROM event JOIN run ON event = event.key WHERE run.key = ?", run)
    return str(data)


def steps_of(simulation: Simulation, run: int) -> list[StepRow]:
    """A branch is named by the code that made it, and its path in there: scripts know the path."""
    found = simulation.rows(
        """SELECT key, substr(branch, instr(branch, ':') + 1), kind, state, attempts, output, started_at, ended_at
           FROM step WHERE run = ? ORDER BY position""",
        run,
    )
    return [StepRow(*row) for row in found]


def by_place(steps: list[StepRow]) -> dict[Where, list[StepRow]]:
    """By branch and name, in the order of the calls."""
    placed: dict[Where, list[StepRow]] = {}
    for step in sorted(steps, key=lambda each: each.number):
        placed.setdefault((step.path, step.name), []).append(step)
    return placed
