"""Functions, ticks and queues as the reader finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.journal.functions import Collected, CronTick, Executing, Queued, RunCounts
from fanout.model import CronTrigger, RunState
from tests.unit.filled import NOW, Filled, filled, run_id
from tests.unit.specs import NIGHTLY, add, add_tick, known, spec


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    with filled(tmp_path) as made:
        made.event(1)
        yield made


def test_functions_with_what_became_of_their_code(journal: Filled) -> None:
    for name in ("b", "a"):
        add(journal, spec(name))
    add(journal, spec("stale", app="billing"), loaded_at=NOW - 5)
    add(journal, spec("aa-gone"), is_present=False, loaded_at=NOW + 5)
    journal.insert("pause", function="b", paused_at=NOW + 1)
    with journal.reader() as reader:
        assert reader.functions() == [
            known(spec("a")),
            known(spec("b"), paused_at=NOW + 1),
            known(spec("stale", app="billing"), is_stale=True, loaded_at=NOW - 5),
            known(spec("aa-gone"), is_present=False, loaded_at=NOW + 5),
        ]
        assert reader.function("a") == known(spec("a"))
        assert reader.function("z") is None


@pytest.mark.parametrize(("setting", "held_up"), [("none", False), ("paused", True), ("gone", True), ("stale", True)])
def test_whether_any_function_is_held_up(journal: Filled, setting: str, held_up: bool) -> None:
    add(journal, spec("a"))
    add(journal, spec("b"), is_present=setting != "gone", loaded_at=NOW - (setting == "stale"))
    if setting == "paused":
        journal.insert("pause", function="b", paused_at=NOW)
    with journal.reader() as reader:
        assert reader.has_held_up() == held_up


def test_runs_are_counted_among_the_newest(journal: Filled) -> None:
    for key, (name, state) in enumerate([("a", "failed"), ("a", "completed"), ("b", "queued"), ("a", "completed")], 1):
        journal.event(key + 1)
        journal.run(key, name, key + 1, state)
    with journal.reader() as reader:
        assert reader.run_counts(3) == RunCounts(
            {"a": {RunState.COMPLETED: 2}, "b": {RunState.QUEUED: 1}}, 3, is_whole=False
        )
        assert reader.run_counts(5).by_function["a"] == {RunState.COMPLETED: 2, RunState.FAILED: 1}
        assert reader.run_counts(5).is_whole


def test_ticks_the_newest_first_without_those_of_the_future(journal: Filled) -> None:
    add_tick(journal, 1, "f", NIGHTLY, NOW - 100)
    add_tick(journal, 2, "f", CronTrigger("@hourly"), NOW - 50, "skipped", reason="overlap")
    add_tick(journal, 3, "f", NIGHTLY, NOW + 1)
    add_tick(journal, 4, "g", NIGHTLY, NOW)
    first = CronTick("f", "30 2 * * *", "Europe/Berlin", NOW - 100, 1, run_id(1), RunState.COMPLETED, None)
    second = CronTick("f", "@hourly", "UTC", NOW - 50, 2, run_id(2), RunState.SKIPPED, "overlap")
    with journal.reader() as reader:
        assert reader.ticks("f", NOW, 10) == [second, first]
        assert reader.ticks("f", NOW, 1) == [second]
        assert reader.tick_at("f", NOW - 100) == first
        assert reader.tick_at("f", NOW - 99) is None
        assert reader.tick_at("z", NOW) is None


def test_ticks_that_are_new(journal: Filled) -> None:
    with journal.reader() as reader:
        assert reader.last_event_key() == 0
        assert reader.ticks_since(0) == (0, [])
        add_tick(journal, 5, "f", NIGHTLY, NOW)
        journal.child(6, "c", 5, "s")
        # One that only listens to the tick of another is no tick of its own.
        journal.run(9, "listener", -5)
        add_tick(journal, 7, "g", NIGHTLY, NOW, "queued")
        seen, ticks = reader.ticks_since(0)
        assert (seen, [tick.run_key for tick in ticks]) == (-7, [5, 7])
        assert reader.ticks_since(seen) == (-7, [])


def test_the_place_of_a_queued_run(journal: Filled) -> None:
    for key, (name, partition, rank) in enumerate(
        [("f", "p", 5), ("f", "p", 3), ("f", "p", 5), ("f", "q", 1), ("g", "p", 1), ("f", "p", 9)], 1
    ):
        journal.event(key + 1)
        journal.run(key, name, key + 1, "queued", partition=partition, rank=rank)
    journal.execute("UPDATE run SET started_at = 1, is_suspect = 1 WHERE key = 6")
    with journal.reader() as reader:
        assert reader.queued(2) == Queued("p", 0, has_begun=False, is_alone=False)
        assert reader.queued(3) == Queued("p", 2, has_begun=False, is_alone=False)
        assert reader.queued(6) == Queued("p", 3, has_begun=True, is_alone=True)


def test_what_executes_what_a_limit_has_and_what_is_collected(journal: Filled) -> None:
    journal.run(1, "f", 1, "running", partition="p")
    journal.event(2)
    journal.run(2, "g", 2, "waiting", due_at=NOW, hold="batch:7")
    for position in (1, 2):
        journal.insert("run_event", run=2, position=position, event=1)
    journal.insert("limit_state", function="f", kind="throttle", key="", value=99)
    with journal.reader() as reader:
        assert reader.executing() == [Executing(run_id(1), "f", "p")]
        assert reader.limit_value("f", "throttle", "") == 99
        assert reader.limit_value("f", "throttle", "x") is None
        assert reader.collected(2) == Collected("batch:7", 2)
        assert reader.collected(1) is None
