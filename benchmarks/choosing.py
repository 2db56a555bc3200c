"""W10: what it costs the engine to choose the next of very many queued runs, with few keys and with many.

In this process, with the engine's own queue and limits on a real journal; there are no workers, and nothing is written.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import fanout
from benchmarks import engine
from benchmarks.crowd import check_limits
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.project.keyed import one, roomy
from benchmarks.sending import EVENT
from benchmarks.settings import Options, Result, settings_of
from fanout.attached import spec_of
from fanout.core import flow
from fanout.engine.limits import FreeSlot, Limits
from fanout.engine.queue import ReadyQueue
from fanout.events import NewEvent
from fanout.ids import UlidFactory
from fanout.journal.rows import NewRun, QueuedRun
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import FunctionSpec, RunState

LIMITS = {"one_ratio": 2.0, "roomy_ratio": 2.0}
"""What a choice among many keys may cost, as a multiple of one among few."""
SLOTS = 32
_RUNS = 100_000
_FEW_KEYS = 100
_MANY_KEYS = 10_000
_CHUNK_RUNS = 5_000


@dataclass(frozen=True)
class Chosen:
    """What it took to begin with a journal, up to the first runs for all slots; then all others, one by one."""

    begin_ms: float
    pick_us: float


def run(options: Options) -> Result:
    """All runs are chosen, in each round. `one_` is a limit that is always in the way, `roomy_` one that never is."""
    deadline = Deadline.after(options.timeout_s)
    runs, few, many = (options.scaled(size) for size in (_RUNS, _FEW_KEYS, _MANY_KEYS))
    figures: dict[str, Figure] = {}
    with engine.project("keyed", options.processes) as place, fanout.connect(place.config) as client:
        for spec in filter(None, map(spec_of, (one, roomy))):
            rounds = {
                keys: _rounds(place.root / f"{spec.id}-{keys}.db", spec, runs, keys, options.rounds, deadline)
                for keys in (few, many)
            }
            figures |= {
                f"{spec.id}_few_us": figure(*(each.pick_us for each in rounds[few])),
                f"{spec.id}_many_us": figure(*(each.pick_us for each in rounds[many])),
                f"{spec.id}_ratio": figure(
                    *(many.pick_us / few.pick_us for few, many in zip(rounds[few], rounds[many], strict=True))
                ),
                f"{spec.id}_begin_ms": figure(*(each.begin_ms for each in rounds[many])),
            }
        settings = settings_of(
            place, client, queued_runs=runs, few_keys=few, many_keys=many, at_a_time=SLOTS, rounds=options.rounds,
            payload_bytes=0,
        )  # fmt: skip
    check_limits(figures, LIMITS, options)
    return Result(figures, settings)


def _rounds(path: Path, spec: FunctionSpec, runs: int, keys: int, rounds: int, deadline: Deadline) -> list[Chosen]:
    journal = SqliteJournal(path)
    prepare(journal, spec, runs, keys)
    found = []
    for _ in range(rounds + 1):
        deadline.remaining_s()
        found.append(choose_all(journal, spec, runs))
    journal.close()
    return found[1:]  # The first has read the file.


def prepare(journal: SqliteJournal, spec: FunctionSpec, runs: int, keys: int) -> None:
    """Queued runs, the keys in turn, as if an engine had routed their events and then done no more."""
    new_id = UlidFactory()
    now = time.time_ns() // 1_000_000
    for begin in range(0, runs, _CHUNK_RUNS):
        chunk = range(begin, min(begin + _CHUNK_RUNS, runs))
        accepted = journal.append_events([NewEvent(EVENT, f'{{"key":{number % keys}}}') for number in chunk], now)
        writes = Writes()
        writes.routed_to = accepted[-1].key
        writes.runs = [
            NewRun(
                key=event.key,
                id=new_id(now),
                function=spec.id,
                event=event.key,
                partition=flow.partition((flow.key_text(number % keys),), None),
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
            for event, number in zip(accepted, chunk, strict=True)
        ]
        journal.commit(writes)


def choose_all(journal: SqliteJournal, spec: FunctionSpec, runs: int) -> Chosen:
    """Fill the slots; then whenever one is free, with the places of its run, choose the next.

    Raises:
        BenchmarkError: not every run was chosen once.
    """
    executing: deque[QueuedRun] = deque()
    chosen: set[int] = set()
    limits = Limits(journal, has_slot=lambda _app: len(executing) < SLOTS)
    queue = ReadyQueue(journal.queued, journal.partitions, chosen.__contains__, journal.last_rank())

    def fill() -> None:
        while (run := queue.take(limits)) is not None:
            limits.hold(run)
            executing.append(run)
            chosen.add(run.key)

    limits.learn({spec.id: spec})
    began = time.perf_counter()
    queue.load({spec.id})
    fill()
    first = time.perf_counter()
    at_once = len(chosen)
    while executing:
        ended = executing.popleft()
        # As when an execution ends: first the slot, then its places.
        queue.wake(FreeSlot(spec.app))
        for place in limits.release(ended):
            queue.wake(place)
        fill()
    ended_at = time.perf_counter()
    if len(chosen) != runs:
        raise BenchmarkError(f"{runs:,} runs should have been chosen, {len(chosen):,} were")
    return Chosen((first - began) * 1000, (ended_at - first) / max(1, runs - at_once) * 1e6)
