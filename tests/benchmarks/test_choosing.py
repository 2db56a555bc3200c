"""What a choice costs, counted: calls of functions and reads of the journal. They are the same on every machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from benchmarks.choosing import choose_all, prepare
from benchmarks.project.keyed import one, roomy
from fanout.attached import spec_of
from fanout.core import flow
from fanout.engine.queue import ReadyQueue
from fanout.journal.rows import QueuedRun
from fanout.journal.sqlite import SqliteJournal
from fanout.model import FunctionSpec

RUNS = 10_000
FEW, MANY = 50, 5_000


class CountingJournal(SqliteJournal):
    """Counts what the queue reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads = 0

    def queued(self, function: str, partition: str, after: tuple[int, int], limit: int) -> list[QueuedRun]:
        self.reads += 1
        return super().queued(function, partition, after, limit)


class Cost(NamedTuple):
    calls: int
    parsed: int
    """Keys that were read from their text."""
    reads: int


def cost(path: Path, spec: FunctionSpec, keys: int) -> Cost:
    journal = CountingJournal(path)
    prepare(journal, spec, RUNS, keys)
    calls = parsed = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls, parsed
        calls += event in {"call", "c_call"}
        parsed += event == "call" and frame.f_code is flow.keys_of.__code__

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        choose_all(journal, spec, RUNS)
    finally:
        sys.setprofile(before)
    journal.close()
    return Cost(calls, parsed, journal.reads)


@pytest.mark.parametrize("function", [one, roomy], ids=["always in the way", "never in the way"])
def test_a_choice_among_many_keys_costs_as_much_as_one_among_few(tmp_path: Path, function: object) -> None:
    spec = spec_of(function)
    assert spec is not None
    few, many = (cost(tmp_path / f"{keys}.db", spec, keys) for keys in (FEW, MANY))
    assert few.calls < 150 * RUNS
    assert many.calls < 1.3 * few.calls
    assert (few.parsed, many.parsed) == (FEW, MANY)
    assert many.reads <= MANY


def test_to_begin_reads_no_more_than_can_start(tmp_path: Path) -> None:
    """However many keys wait: those that have no slot are not read, and hold no memory."""
    spec = spec_of(one)
    assert spec is not None
    journal = CountingJournal(tmp_path / "journal.db")
    prepare(journal, spec, 2_000, 1_000)

    class Full:
        """Three slots and no more."""

        left = 3

        def obstacle(self, _run: object) -> str | None:
            return self.shut(None)

        def shut(self, _partition: object) -> str | None:
            return None if self.left else "slot"

        def with_room(self, _partition: object) -> tuple[()]:
            return ()

    queue = ReadyQueue(journal.queued, journal.partitions, lambda _run: False)
    queue.load({spec.id})
    gate = Full()
    while queue.take(gate) is not None:
        gate.left -= 1
    journal.close()
    assert (gate.left, journal.reads) == (0, 3)
