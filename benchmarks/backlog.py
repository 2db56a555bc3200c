"""W7: what a backlog of queued runs costs: the engine's start, its memory, and the pace at which it is worked off.

The backlog is made with the journal's own operations, `append_events` and `commit`, as clients and a routing engine
would make it, but without workers: they would have emptied it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import fanout
from benchmarks import engine, measure
from benchmarks.engine import Project
from benchmarks.fan_out import FUNCTIONS, PLAIN, STEPS, fan_out
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES, first, second, third
from benchmarks.sending import EVENT, check_runs, completed, follow_to_completion
from benchmarks.settings import Options, Result, Setting, settings_of
from fanout import config
from fanout.attached import spec_of
from fanout.events import NewEvent
from fanout.ids import UlidFactory
from fanout.journal.appender import AcceptedEvent
from fanout.journal.family import Watched
from fanout.journal.rows import NewRun
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import RunState

MAX_MEMORY_MB = 50
"""What an engine may need more for the smaller backlog than for none."""
_RUNS = 1_000_000
_FEWER_RUNS = 200_000
_DRAINED_RUNS = 20_000
_REFERENCE_EVENTS = 2_000
_CHUNK_EVENTS = 2_000


@dataclass(frozen=True)
class Backlog:
    """An engine with a backlog: its start, the first runs worked off, and W1 elsewhere at about the same time."""

    start_s: float
    wall_s: float
    runs_per_s: float
    peak_mb: float
    w1_runs_per_s: float


def run(options: Options) -> Result:
    """The smaller and the larger backlog. In each round an engine starts, works a portion off and stops.

    W1 on an empty journal takes turns with that. `memory_mb` is the peak of an engine with the backlog, beyond the
    memory of one that has an empty journal and has run nothing yet.
    """
    deadline = Deadline.after(options.timeout_s)
    with (
        engine.project(PLAIN, options.processes) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        memory_mb = measure.memory_mb(running.pid) if measure.can_see_processes() else None
        settings = _settings(place, client, options)

        def w1() -> float:
            events = options.scaled(_REFERENCE_EVENTS)
            return events * FUNCTIONS / fan_out(client, running, events, options.batch, deadline).wall_s

        w1()
        _, few = _work_off(options, options.scaled(_FEWER_RUNS), w1, deadline)
        prepare_s, many = _work_off(options, options.scaled(_RUNS), w1, deadline)
    figures = {
        "start_s": figure(*(each.start_s for each in many)),
        "start_empty_s": figure(running.start_s),
        "runs_per_s": figure(*(each.runs_per_s for each in many)),
        "w1_runs_per_s": figure(*(each.w1_runs_per_s for each in many)),
        "ratio": figure(*(each.runs_per_s / each.w1_runs_per_s for each in many)),
        "wall_s": figure(*(each.wall_s for each in many)),
        "prepare_s": figure(prepare_s),
    }
    if memory_mb is not None:
        figures["memory_mb"] = figure(*(each.peak_mb - memory_mb for each in many))
        figures["memory_200k_mb"] = figure(*(each.peak_mb - memory_mb for each in few))
        _check_memory(figures["memory_200k_mb"])
    return Result(figures, settings)


def _check_memory(added: Figure) -> None:
    if added.highest >= MAX_MEMORY_MB:
        raise BenchmarkError(
            f"the smaller backlog costs {added.highest:.0f} MB of memory, it has to be below {MAX_MEMORY_MB}"
        )


def _settings(place: Project, client: fanout.Client, options: Options) -> dict[str, Setting]:
    return settings_of(
        place,
        client,
        queued_runs=options.scaled(_RUNS),
        fewer_queued_runs=options.scaled(_FEWER_RUNS),
        drained_runs=options.scaled(_DRAINED_RUNS),
        events=options.scaled(_REFERENCE_EVENTS),
        rounds=options.rounds,
        batch=options.batch,
        payload_bytes=PAYLOAD_BYTES,
        backlog="made by the journal's append_events and commit",
    )


def _work_off(options: Options, runs: int, w1: Callable[[], float], deadline: Deadline) -> tuple[float, list[Backlog]]:
    """Make so many queued runs, then rounds; the seconds that the making took, and the rounds.

    An engine goes on until it has stopped: a portion of which it has a third by then is no round.
    """
    events = -(-runs // FUNCTIONS)
    size = -(-options.scaled(_DRAINED_RUNS) // FUNCTIONS)
    rounds: list[Backlog] = []
    with engine.project(PLAIN, options.processes) as place:
        began = time.monotonic()
        _prepare(place, events, deadline)
        prepare_s = time.monotonic() - began
        with fanout.connect(place.config) as client:
            for first_event in range(1, events + 1, size):
                portion = Watched(first_event, min(first_event + size - 1, events))
                if len(rounds) < options.rounds and completed(client, portion) < size:
                    rounds.append(_one_round(place, client, portion, w1(), deadline))
    return prepare_s, rounds


def _one_round(
    place: Project, client: fanout.Client, portion: Watched, w1_runs_per_s: float, deadline: Deadline
) -> Backlog:
    """Start an engine, and wait until all runs of these events are completed.

    Raises:
        BenchmarkError: one is not, or has other steps than it should.
    """
    runs = (portion.last_event - portion.first_event + 1) * FUNCTIONS
    before = completed(client, portion)
    with engine.serve(place, deadline) as running:
        began = time.monotonic()
        follow_to_completion(client, portion, runs, deadline)
        wall_s = time.monotonic() - began
        peak_mb = measure.peak_mb(running.pid) if measure.can_see_processes() else 0.0
    edges = [AcceptedEvent(key, "", EVENT, is_duplicate=False) for key in (portion.first_event, portion.last_event)]
    check_runs(client.wait(edges), expected=runs, steps=STEPS, payload_bytes=PAYLOAD_BYTES)
    return Backlog(running.start_s, wall_s, (runs - before) / wall_s, peak_mb, w1_runs_per_s)


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
                key=(event.key - 1) * FUNCTIONS + number,
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
                parent=None,
                parent_step=None,
                item=None,
                item_key=None,
                deadline_at=None,
            )
            for event in accepted
            for number, spec in enumerate(specs, 1)
        ]
        journal.commit(writes)
    journal.close()
