"""W4: one run that maps a function over very many items, which come from a generator."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

import fanout
from benchmarks import engine, measure
from benchmarks.engine import Engine
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.project.mapped import PAYLOAD_BYTES
from benchmarks.sending import EVENT, check_counts, check_runs, follow
from benchmarks.settings import Options, Result, settings_of
from fanout import config
from fanout.client import watched_events
from fanout.journal.family import Progress
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState

MAX_GROWTH_MB = 10
"""What the parent's worker may grow by between a tenth of the items and nine tenths of them."""
_ITEMS = 50_000
_SHARES = (10, 50, 90)
_PARENT, _STEP = 1, "items"
"""The first run of a journal."""
_NAP_S = 0.05
"""Between two looks: the client is told of every tick, and the engine needs the processor more."""


@dataclass(frozen=True)
class Moment:
    """How many items have ended, and the memory then of the engine and of each worker (by pid)."""

    ended: int
    memory_mb: dict[int, float]


@dataclass(frozen=True)
class Round:
    """`parent_mb` is the memory of the parent's worker at each of the shares. All memory is 0 where /proc is absent."""

    wall_s: float
    cpu_s: float
    engine_peak_mb: float
    parent_peak_mb: float
    parent_mb: tuple[float, ...]


def run(options: Options) -> Result:
    """Rounds, each with an engine and a journal of its own. From the send to all runs known to be final."""
    deadline = Deadline.after(options.timeout_s)
    items = options.scaled(_ITEMS)
    rounds = []
    for _ in range(options.rounds):
        with (
            engine.project("mapped", options.processes) as place,
            engine.serve(place, deadline) as running,
            fanout.connect(place.config) as client,
        ):
            rounds.append(_one_round(client, config.load(place.config).journal, running, items, deadline))
            settings = settings_of(
                place, client, items=items, rounds=options.rounds, events=1, payload_bytes=PAYLOAD_BYTES
            )
    if options.scale >= 1:
        _check_growth(figure(*(each.parent_mb[-1] - each.parent_mb[0] for each in rounds)))
    return Result(_figures(rounds, items), settings)


def _figures(rounds: list[Round], items: int) -> dict[str, Figure]:
    figures = {
        "items_per_s": figure(*(items / each.wall_s for each in rounds)),
        "wall_s": figure(*(each.wall_s for each in rounds)),
    }
    if measure.can_see_processes():
        figures["cpu_s"] = figure(*(each.cpu_s for each in rounds))
        figures["engine_peak_mb"] = figure(*(each.engine_peak_mb for each in rounds))
        figures["parent_peak_mb"] = figure(*(each.parent_peak_mb for each in rounds))
        for number, share in enumerate(_SHARES):
            figures[f"parent_{share}_mb"] = figure(*(each.parent_mb[number] for each in rounds))
    return figures


def _check_growth(growth: Figure) -> None:
    if growth.median >= MAX_GROWTH_MB:
        raise BenchmarkError(f"the parent's worker grows by {growth.median:.0f} MB, it has to be below {MAX_GROWTH_MB}")


def _one_round(client: fanout.Client, journal_path: Path, running: Engine, items: int, deadline: Deadline) -> Round:
    """Raises BenchmarkError unless there is a completed run for each item, and each result is in its place."""
    moments: list[Moment] = []
    journal = SqliteJournal(journal_path)

    def look(progress: Progress) -> bool:
        row = journal.map_row(_PARENT, _STEP)
        if row is not None:
            moments.append(Moment(row.ended, measure.memory_by_process(running.pid)))
            time.sleep(_NAP_S)
        return progress.is_over()

    cpu_before = measure.tree_cpu_s(running.pid) + time.process_time()
    began = time.monotonic()
    counts = follow(client, watched_events(client.send({"name": EVENT, "data": {"items": items}})), deadline, look)
    wall_s = time.monotonic() - began
    cpu_s = measure.tree_cpu_s(running.pid) + time.process_time() - cpu_before
    journal.close()
    moments.append(Moment(items, measure.memory_by_process(running.pid)))
    check_counts(counts, {RunState.COMPLETED: items + 1})
    worker = _check(journal_path, items)
    parent_mb = tuple(_memory_mb(moments, worker, items * share // 100) for share in _SHARES)
    return Round(wall_s, cpu_s, measure.peak_mb(running.pid), measure.peak_mb(worker), parent_mb)


def _check(journal_path: Path, items: int) -> int:
    """The process in which the parent was from first to last.

    Raises:
        BenchmarkError: there was more than one, or a result is not in its place, or a child has no step.
    """
    with JournalReader(journal_path) as reader:
        found = reader.runs_with_steps([_PARENT, _PARENT + items], outputs=True)
    parent, last_child = found[_PARENT], found[_PARENT + items]
    check_runs([last_child], expected=1, steps=1, payload_bytes=PAYLOAD_BYTES)
    recorded = next(step.output for step in parent.steps if step.name == _STEP)
    if recorded is None or msgspec.json.decode(recorded) != list(range(items)):
        raise BenchmarkError("what the journal has of the map is not one result for each item, in order")
    began_in, ended_in, misplaced = msgspec.json.decode(parent.output or b"", type=tuple[int, int, int])
    if misplaced:
        raise BenchmarkError(f"{misplaced:,} results did not come back in their places")
    if began_in != ended_in:
        raise BenchmarkError("the parent did not stay in one worker: its memory is not known")
    return ended_in


def _memory_mb(moments: list[Moment], pid: int, ended: int) -> float:
    """The memory of a process when so many items had ended."""
    return next(each.memory_mb.get(pid, 0.0) for each in moments if each.ended >= ended)
