"""W7: what a backlog of queued runs costs: the engine's start, its memory, and the pace at which it is worked off.

The backlog is made with the journal's own operations, `append_events` and `commit`, as clients and a routing engine
would make it, but without workers: they would have emptied it meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import fanout
from benchmarks import engine, measure
from benchmarks.engine import Project
from benchmarks.fan_out import FUNCTIONS, PLAIN, STEPS, fan_out
from benchmarks.measure import BenchmarkError, Deadline, figure
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES, first, second, third
from benchmarks.sending import EVENT, check_runs, follow_to_completion
from benchmarks.settings import Options, Result, Setting, settings_of
from fanout import config
from fanout.declare import spec_of
from fanout.events import NewEvent
from fanout.ids import UlidFactory
from fanout.journal import AcceptedEvent, NewRun, Writes
from fanout.journal.sqlite import SqliteJournal
from fanout.model import RunState

MAX_MEMORY_MB = 50
"""What an engine may need more for the smaller backlog than for none."""
_RUNS = 1_000_000
_FEWER_RUNS = 200_000
_DRAINED_RUNS = 20_000
_REFERENCE_EVENTS = 2_000
_CHUNK_EVENTS = 2_000


@dataclass(frozen=True)
class Reference:
    """W1 on an empty journal. `memory_mb` is that of an engine which has one, before it has run anything."""

    runs_per_s: float
    start_s: float
    memory_mb: float
    settings: dict[str, Setting]


@dataclass(frozen=True)
class Drained:
    """A backlog, and its first runs worked off. `memory_mb` is the engine's afterwards, the highest it has been."""

    prepare_s: float
    start_s: float
    wall_s: float
    runs_per_s: float
    memory_mb: float


def run(options: Options) -> Result:
    """The larger and the smaller backlog, and W1 between engines of the same age, all in turn."""
    deadline = Deadline.after(options.timeout_s)
    reference = _reference(options, deadline)
    fewer = _drain(options, options.scaled(_FEWER_RUNS), deadline)
    full = _drain(options, options.scaled(_RUNS), deadline)
    figures = {
        "start_s": figure(full.start_s),
        "start_empty_s": figure(reference.start_s),
        "runs_per_s": figure(full.runs_per_s),
        "w1_runs_per_s": figure(reference.runs_per_s),
        "ratio": figure(full.runs_per_s / reference.runs_per_s),
        "wall_s": figure(full.wall_s),
        "prepare_s": figure(full.prepare_s),
    }
    if measure.can_see_processes():
        added_by_fewer = fewer.memory_mb - reference.memory_mb
        if added_by_fewer >= MAX_MEMORY_MB:
            raise BenchmarkError(
                f"the smaller backlog costs {added_by_fewer:.0f} MB of memory, it has to be below {MAX_MEMORY_MB}"
            )
        figures["memory_mb"] = figure(full.memory_mb - reference.memory_mb)
        figures["memory_200k_mb"] = figure(added_by_fewer)
    return Result(figures, reference.settings)


def _reference(options: Options, deadline: Deadline) -> Reference:
    events = options.scaled(_REFERENCE_EVENTS)
    with (
        engine.project(PLAIN, options.processes) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        memory_mb = measure.memory_mb(running.pid) if measure.can_see_processes() else 0.0
        rounds = [fan_out(client, running, events, options.batch, deadline) for _ in range(options.rounds + 1)]
        settings = settings_of(
            place,
            client,
            queued_runs=options.scaled(_RUNS),
            fewer_queued_runs=options.scaled(_FEWER_RUNS),
            drained_runs=options.scaled(_DRAINED_RUNS),
            events=events,
            rounds=options.rounds,
            batch=options.batch,
            payload_bytes=PAYLOAD_BYTES,
            backlog="made by the journal's append_events and commit",
        )
    wall_s = figure(*(each.wall_s for each in rounds[1:])).median
    return Reference(events * FUNCTIONS / wall_s, running.start_s, memory_mb, settings)


def _drain(options: Options, runs: int, deadline: Deadline) -> Drained:
    """Make so many queued runs, start an engine, and wait until those of the first events are completed."""
    events = -(-runs // FUNCTIONS)
    watched = min(events, -(-options.scaled(_DRAINED_RUNS) // FUNCTIONS))
    with engine.project(PLAIN, options.processes) as place:
        began = time.monotonic()
        _prepare(place, events, deadline)
        prepare_s = time.monotonic() - began
        with fanout.connect(place.config) as client, engine.serve(place, deadline) as running:
            began = time.monotonic()
            follow_to_completion(client, 1, watched, watched * FUNCTIONS, deadline)
            wall_s = time.monotonic() - began
            memory_mb = measure.peak_mb(running.pid) if measure.can_see_processes() else 0.0
            edges = [AcceptedEvent(key, "", EVENT, is_duplicate=False) for key in (1, watched)]
            drained = client.wait(edges, deadline.remaining_s())
    check_runs(drained, expected=watched * FUNCTIONS, steps=STEPS, payload_bytes=PAYLOAD_BYTES)
    return Drained(prepare_s, running.start_s, wall_s, watched * FUNCTIONS / wall_s, memory_mb)


def _prepare(place: Project, events: int, deadline: Deadline) -> None:
    """Events and their queued runs, as if an engine had routed them and then done no more."""
    specs = [spec for spec in map(spec_of, (first, second, third)) if spec is not None]
    journal = SqliteJournal(config.load(place.config).journal)
    new_id = UlidFactory()
    for begin in range(0, events, _CHUNK_EVENTS):
        deadline.remaining_s()
        now = time.time_ns() // 1_000_000
        chunk = [NewEvent(EVENT, f'{{"n":{n}}}') for n in range(begin, min(begin + _CHUNK_EVENTS, events))]
        accepted = journal.append_events(chunk, now)
        writes = Writes()
        writes.routed_to = accepted[-1].key
        writes.runs = [
            NewRun(
                key=(event.key - 1) * FUNCTIONS + place_of_spec,
                id=new_id(now),
                function=spec.id,
                event=event.key,
                partition="",
                rank=now,
                state=RunState.QUEUED,
                max_attempts=spec.max_attempts,
                queued_at=now,
                due_at=None,
                replay_of=None,
            )
            for event in accepted
            for place_of_spec, spec in enumerate(specs, 1)
        ]
        journal.commit(writes)
    journal.close()
