"""What pruning removes from a journal, and what it leaves: whatever a live run or a younger relative needs."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fanout.core.retention import DAY_MS, Cutoffs, Keep, cutoffs
from fanout.journal.pruning import Part, Place, Pruned
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_care import CareReader
from tests.unit.filled import NOW, Filled, filled, run_id
from tests.unit.journals import dump

OLD: dict[str, Any] = {"queued_at": NOW - 40 * DAY_MS, "started_at": NOW - 40 * DAY_MS, "ended_at": NOW - 40 * DAY_MS}
WEEK_OLD: dict[str, Any] = {"queued_at": NOW - 8 * DAY_MS, "started_at": NOW - 8 * DAY_MS, "ended_at": NOW - 8 * DAY_MS}
LIVE: dict[str, Any] = {"queued_at": NOW - 40 * DAY_MS, "ended_at": None}
LONG_AGO: dict[str, Any] = {"received_at": NOW - 40 * DAY_MS}
KEEP = Keep(7 * DAY_MS, 30 * DAY_MS)
NEWEST = 1_000
"""A run that keeps its number; the last that there is, so that others may go."""


def times(keep: Keep = KEEP, now: int = NOW) -> Cutoffs:
    return cutoffs(keep, now)


def prune(path: Path, keep: Keep = KEEP, *, now: int = NOW, most: int = 100) -> Pruned:
    """A whole pass; what was foretold is what is then removed, and what is left is a whole journal."""
    with CareReader(path) as reader:
        foretold = reader.prunable(times(keep, now))
    with closing(SqliteJournal(path)) as journal:
        place: Place | None = Place()
        total = Pruned()
        while place is not None:
            done = journal.prune(place, times(keep, now), most, lambda _runs: None)
            place, total = done.place, total.plus(done.pruned)
    assert total == foretold
    broken(path, 0)
    return total


def broken(path: Path, number: int) -> None:
    with CareReader(path) as reader:
        found = [finding for finding in reader.findings() if finding.number]
    assert len(found) == number, found


def keys(path: Path, table: str = "run", column: str = "key") -> list[Any]:
    return [row[column] for row in dump(path)[table] if row[column] != NEWEST]


@pytest.fixture
def made(tmp_path: Path) -> Any:
    with filled(tmp_path) as made:
        made.event(NEWEST, received_at=NOW)
        made.run(NEWEST, "newest", NEWEST)
        yield made


def old_run(made: Filled, key: int, state: str = "completed", **values: Any) -> None:
    """With an event of its own and a step."""
    times = LIVE if state in ("queued", "running", "waiting") else OLD
    if "event" not in values:
        made.event(key, **LONG_AGO)
    made.run(key, f"f{key}", values.pop("event", key), state, **{**times, **values})
    made.step(key, "s")


def test_an_old_run_goes_with_all_that_belongs_to_it(made: Filled) -> None:
    old_run(made, 1)
    made.failure(1, "s", "ValueError", "no")
    made.event(2, **LONG_AGO)
    made.insert("run_event", run=1, position=1, event=1)
    made.insert("run_event", run=1, position=2, event=2)
    made.insert("tick", function="f1", scheduled_at=NOW - 40 * DAY_MS, run=1)
    assert prune(made.path) == Pruned(runs=1, steps=1, events=2, ticks=1)
    found = dump(made.path)
    assert [row["key"] for row in found["run"]] == [NEWEST]
    for table in ("step", "failure", "run_event", "tick"):
        assert found[table] == []


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "skipped"])
def test_failed_runs_stay_for_longer_than_others(made: Filled, state: str) -> None:
    old_run(made, 1, state, **WEEK_OLD)
    old_run(made, 2, state)
    prune(made.path)
    assert keys(made.path) == ([1] if state == "failed" else [])


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
def test_a_live_run_stays_with_all_it_has(made: Filled, state: str) -> None:
    old_run(made, 1, state, **({"due_at": NOW} if state == "waiting" else {}))
    before = dump(made.path)
    assert prune(made.path) == Pruned()
    assert dump(made.path) == before


def test_never_is_never(made: Filled) -> None:
    old_run(made, 1)
    old_run(made, 2, "failed")
    old_run(made, 3, "cancelled")
    assert prune(made.path, Keep(None, None)) == Pruned()
    prune(made.path, Keep(None, DAY_MS))
    assert keys(made.path) == [1, 3]
    prune(made.path, Keep(DAY_MS, None))
    assert keys(made.path) == []


def test_nothing_younger_than_an_hour_goes_whatever_is_asked(made: Filled) -> None:
    old_run(made, 1, ended_at=NOW - 3600 * 1000 + 1)
    old_run(made, 2, ended_at=NOW - 3600 * 1000)
    prune(made.path, Keep(0, 0))
    assert keys(made.path) == [1]


def test_the_newest_run_and_the_newest_event_of_the_engine_keep_their_numbers(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        for key in (1, 2):
            old_run(made, key)
            made.event(-key, "fanout/function.finished", **LONG_AGO)
        prune(made.path)
        assert keys(made.path) == [2]
        assert keys(made.path, "event") == [-2, 2]
        with closing(SqliteJournal(made.path)) as journal:
            assert (journal.last_run_key(), journal.first_event_key()) == (2, -2)


def test_children_go_before_their_parent_and_all_of_a_family_in_one_pass(made: Filled) -> None:
    old_run(made, 1)
    made.step(1, "map", kind="map")
    for key in (2, 3):
        made.child(key, "child", 1, "map", item=key - 2, **OLD)
    made.step(3, "call", kind="invoke")
    made.child(4, "grandchild", 3, "call", **OLD)
    made.execute("UPDATE event SET received_at = ? WHERE key <> ?", NOW - 40 * DAY_MS, NEWEST)
    # The event of the last one is the newest of the engine's own.
    assert prune(made.path, most=2) == Pruned(runs=4, steps=3, events=3)


@pytest.mark.parametrize("state", ["running", "failed"])
def test_children_stay_while_their_parent_lives_or_is_young(made: Filled, state: str) -> None:
    old_run(made, 1, state, **({} if state == "running" else WEEK_OLD))
    made.step(1, "call", kind="invoke")
    made.child(2, "child", 1, "call", **OLD)
    made.step(2, "call", kind="invoke")
    made.child(3, "grandchild", 2, "call", **OLD)
    prune(made.path)
    assert keys(made.path) == [1, 2, 3]


def test_a_parent_stays_while_a_child_is_live_or_young(made: Filled) -> None:
    old_run(made, 1)
    made.step(1, "call", kind="invoke")
    made.step(1, "other", kind="invoke")
    made.child(2, "child", 1, "call", "queued", **LIVE)
    made.child(3, "other", 1, "other", "failed", **WEEK_OLD)
    old_run(made, 4)
    made.step(4, "call", kind="invoke")
    made.child(5, "child", 4, "call", "failed", **WEEK_OLD)
    prune(made.path)
    assert keys(made.path) == [1, 2, 3, 4, 5]


def test_a_run_and_its_replays_go_together_or_not_at_all(made: Filled) -> None:
    """A failure whose replay were gone would be replayed once more."""
    old_run(made, 1, "failed", **WEEK_OLD)
    made.run(2, "f1", 1, replay_of=1, **OLD)
    old_run(made, 3, "failed")
    made.run(4, "f3", 3, "running", replay_of=3, **LIVE)
    old_run(made, 5, "failed")
    made.run(6, "f5", 5, "failed", replay_of=5, **OLD)
    made.run(7, "f5", 5, replay_of=6, **OLD)
    prune(made.path, most=1)
    assert keys(made.path) == [1, 2, 3, 4]


def test_what_somebody_has_asked_to_replay_stays_until_that_is_done(made: Filled) -> None:
    old_run(made, 1, "failed")
    old_run(made, 2, "failed")
    made.insert("request", kind="replay", body='{"runs":[1],"again":false}', made_at=NOW)
    assert prune(made.path).runs == 1
    assert keys(made.path) == [1]


def test_a_request_goes_before_the_run_that_it_has_made(made: Filled) -> None:
    old_run(made, 1)
    made.request("invoke", is_handled=True, run=1)
    made.request("cancel", is_handled=False)
    made.request("cancel", is_handled=True)
    made.execute("UPDATE request SET made_at = ?, handled_at = ? WHERE run = 1", NOW - 40 * DAY_MS, NOW - 40 * DAY_MS)
    assert prune(made.path) == Pruned(runs=1, steps=1, events=1, requests=1)
    assert keys(made.path, "request") == [2, 3]


def test_an_event_stays_as_long_as_a_run_has_it(made: Filled) -> None:
    old_run(made, 1)
    made.run(2, "other", 1, "failed", **WEEK_OLD)
    made.event(3, **LONG_AGO)
    old_run(made, 4, "waiting", due_at=NOW)
    made.insert("run_event", run=4, position=1, event=4)
    made.insert("run_event", run=4, position=2, event=3)
    made.event(5, **LONG_AGO)
    assert prune(made.path) == Pruned(runs=1, steps=1, events=1)
    assert keys(made.path, "event") == [1, 3, 4]


def test_events_without_a_run_go_when_they_are_old_and_routed(made: Filled) -> None:
    made.event(1, **LONG_AGO)
    made.event(2, received_at=NOW - DAY_MS)
    made.event(-1, "fanout/function.finished", **LONG_AGO)
    made.event(-2, "fanout/function.finished", received_at=NOW)
    made.event(NEWEST + 1, **LONG_AGO)
    made.routed_to(NEWEST)
    assert prune(made.path) == Pruned(events=2)
    assert keys(made.path, "event") == [-2, 2, NEWEST + 1]
    prune(made.path, Keep(None, None, DAY_MS))
    assert keys(made.path, "event") == [-2, NEWEST + 1]


def test_a_given_id_is_known_for_a_day(made: Filled) -> None:
    for key, age in ((1, DAY_MS - 1), (2, DAY_MS)):
        made.event(key, is_id_given=1, received_at=NOW - age)
        made.run(key, "f", key, ended_at=NOW - age, queued_at=NOW - age)
        made.event(key + 10, is_id_given=1, received_at=NOW - age)
    prune(made.path, Keep(3600 * 1000, 3600 * 1000))
    assert keys(made.path) == [1]
    assert keys(made.path, "event") == [1, 11]


def test_keys_and_limits_are_known_as_long_as_they_count(made: Filled) -> None:
    rows = [
        ("idempotency", "old", NOW - DAY_MS),
        ("idempotency", "young", NOW - DAY_MS + 1),
        ("throttle", "old", times().spent),
        ("rate limit", "young", times().spent + 1),
    ]
    for kind, key, value in rows:
        made.insert("limit_state", function="f", kind=kind, key=key, value=value)
    assert prune(made.path, most=1) == Pruned(limits=2)
    assert keys(made.path, "limit_state", "key") == ["young", "young"]


def test_a_tick_stays_as_long_as_it_could_come_again(made: Filled) -> None:
    for key, at in ((1, NOW - DAY_MS + 1), (2, NOW - 40 * DAY_MS), (3, NOW - 40 * DAY_MS), (4, NOW - 41 * DAY_MS)):
        made.event(key, "app/go", **LONG_AGO)
        made.run(key, "f" if key < 3 else "g", key, **OLD)
        made.insert("tick", function="f" if key < 3 else "g", scheduled_at=at, run=key)
    # This one has not dealt with them yet.
    made.insert("schedule", function="g", cron="@daily UTC", through=NOW - 40 * DAY_MS - 1)
    prune(made.path)
    assert keys(made.path) == [1, 3]


def test_keys_are_never_used_again(made: Filled) -> None:
    old_run(made, 1)
    prune(made.path)
    with closing(SqliteJournal(made.path)) as journal:
        assert journal.last_run_key() == NEWEST


def test_what_is_kept_elsewhere_of_a_run_goes_first(made: Filled) -> None:
    old_run(made, 1)
    seen: list[tuple[list[str], int]] = []
    with closing(SqliteJournal(made.path)) as journal:
        journal.prune(Place(Part.RUNS), times(), 10, lambda runs: seen.append((list(runs), len(keys(made.path)))))
    assert seen == [([run_id(1)], 1)]


def test_a_failure_elsewhere_leaves_the_slice_as_it_was(made: Filled) -> None:
    old_run(made, 1)
    before = dump(made.path)

    def fail(_runs: object) -> None:
        raise OSError("no")

    with closing(SqliteJournal(made.path)) as journal, pytest.raises(OSError, match="no"):
        journal.prune(Place(Part.RUNS), times(), 10, fail)
    assert dump(made.path) == before


def test_pages_are_given_back_but_for_some(made: Filled) -> None:
    for key in range(1, 60):
        old_run(made, key, output='"' + "x" * 400_000 + '"')
    with closing(SqliteJournal(made.path)) as journal:
        large = journal._scalar("PRAGMA page_count")
        assert prune(made.path).runs == 59
        assert journal._scalar("PRAGMA page_count") < large
        assert 4_096 - 100 <= journal._scalar("PRAGMA freelist_count") <= 4_096


@pytest.mark.parametrize("seed", range(30))
def test_any_journal_is_whole_after_each_slice_and_a_pass_removes_what_was_foretold(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with filled(tmp_path) as made:
        for key in range(1, 60):
            grow(made, key, chance)
        # Runs are numbered in the order in which they were queued.
        made.execute("UPDATE run SET queued_at = ?", NOW - 40 * DAY_MS)
        foretold = prune_watched(made, chance)
        assert foretold.runs > 0
        with CareReader(made.path) as reader:
            assert reader.prunable(times())._replace(limits=0) == Pruned()


def grow(made: Filled, key: int, chance: random.Random) -> None:
    state = chance.choices(["completed", "failed", "cancelled", "queued"], [8, 3, 1, 1])[0]
    ages = LIVE if state == "queued" else chance.choice([OLD, OLD, OLD, WEEK_OLD, {}])
    kind = chance.random()
    if key > 1 and kind < 0.4:
        parent = chance.randrange(max(1, key - 10), key)
        made.step(parent, f"call-{key}", kind="invoke")
        made.child(key, "child", parent, f"call-{key}", state, **ages)
        made.execute("UPDATE event SET received_at = ? WHERE key = ?", NOW - 40 * DAY_MS, -key)
        return
    made.event(key, received_at=NOW - 40 * DAY_MS)
    if key > 1 and kind < 0.6:
        original = chance.randrange(max(1, key - 10), key)
        made.execute(
            "INSERT INTO run (key, id, function, event, rank, state, max_attempts, queued_at, ended_at, replay_of)"
            " SELECT ?1, ?2, function, event, rank, ?3, 5, ?4, ?5, key FROM run WHERE key = ?6",
            key, f"REPLAY{key}", state, ages.get("queued_at", NOW), None if state == "queued" else ages.get("ended_at", NOW),
            original,
        )  # fmt: skip
    else:
        made.run(key, f"f{key}", key, state, **ages)


def prune_watched(made: Filled, chance: random.Random) -> Pruned:
    with CareReader(made.path) as reader, closing(SqliteJournal(made.path)) as journal:
        foretold, total = reader.prunable(times()), Pruned()
        live = {row["key"] for row in dump(made.path)["run"] if row["ended_at"] is None}
        place: Place | None = Place()
        while place is not None:
            done = journal.prune(place, times(), chance.randrange(1, 30), lambda _runs: None)
            place, total = done.place, total.plus(done.pruned)
            assert [each for each in reader.findings() if each.number] == []
        assert live <= set(keys(made.path))
        assert total == foretold
        return foretold
