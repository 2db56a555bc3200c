"""The journal that is made for measuring: it is one that commands can read."""

from __future__ import annotations

from pathlib import Path

from benchmarks.history import make
from fanout.journal.received import EventFilter, Source
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState

NOW = 1_760_000_000_000
DAY_MS = 24 * 3600 * 1000


def test_a_past_of_two_days(tmp_path: Path) -> None:
    make(tmp_path / "journal.db", runs=2_000, days=2, now=NOW)
    with JournalReader(tmp_path / "journal.db") as reader:
        found = reader.statistics(None, NOW, None, most_slices=48)
        events = reader.events(EventFilter(since=NOW - DAY_MS), 1_000)
        assert reader.left_over(NOW).events == 0
    assert 2_000 <= sum(found.counts.values()) < 2_005
    assert set(found.counts) == {
        RunState.COMPLETED, RunState.FAILED, RunState.QUEUED, RunState.RUNNING, RunState.WAITING,
    }  # fmt: skip
    assert found.since >= NOW - 2 * DAY_MS
    assert all(found.throughput.runs)
    assert 180 <= found.cron.ticks <= 192
    assert {event.source for event in events} == {Source.SENT, Source.STEP, Source.CRON}
    assert max(event.received_at for event in events) <= NOW
