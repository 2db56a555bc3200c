"""What one commit can change of runs, and what it refuses. It holds for any journal there will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.errors import JournalError
from fanout.journal.rows import (
    Carried,
    EndedRun,
    LostRun,
    NewRun,
    NotedRun,
    ParkedRun,
    RetriedRun,
)
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from tests.unit.journals import (
    NOW,
    child,
    children,
    dump,
    ended,
    event_row,
    failure,
    lost,
    map_row,
    new_run,
    noted,
    parked,
    queued_run,
    retried,
    retrying,
    run_row,
    step,
    wait,
    waiting,
    writes,
)


def test_a_new_journal_is_empty(journal: SqliteJournal) -> None:
    assert (journal.last_run_key(), journal.last_rank(), journal.routed_to(), journal.next_due()) == (0, 0, 0, None)
    assert (list(journal.partitions()), journal.due(NOW, 9), journal.open_requests(9)) == ([], [], [])
    assert (journal.due_steps(NOW, 9), journal.expired(NOW, 9)) == ([], [])
    assert (journal.unrouted(0, 9), journal.live(1), journal.steps(1), journal.children(1)) == ([], None, (), [])
    assert (list(journal.awaited_events()), journal.wait_paths("a"), journal.waits("a", "", "")) == ([], [], [])
    assert (journal.map_row(1, "map"), journal.has_item(1, "map", "a"), journal.is_open(1, "s")) == (None, False, False)
    assert journal.first_event_key() == 0


def test_a_commit_of_nothing_changes_nothing(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    assert not Writes()
    runs.commit(Writes())
    assert dump(path) == before


@pytest.mark.parametrize("field", Writes.__slots__)
def test_anything_in_it_makes_writes_worth_a_commit(field: str) -> None:
    values: dict[str, Any] = {"routed_to": 0, "maps": {(1, "map"): map_row()}}
    assert writes(**{field: values.get(field, [()])})


# Beginnings.


def test_runs_are_made_together_with_the_mark_that_their_event_is_routed(runs: SqliteJournal, path: Path) -> None:
    assert (runs.routed_to(), runs.last_run_key()) == (1, 3)
    assert run_row(path, 2) == {
        "key": 2, "id": "RUN2", "function": "f2", "event": 1, "partition": "", "rank": NOW, "state": "queued",
        "reason": None, "attempt": 0, "max_attempts": 5, "crashes": 0, "is_suspect": 0, "queued_at": NOW,
        "due_at": None, "started_at": None, "ended_at": None, "output": None, "replay_of": None, "parent": None,
        "parent_step": None, "item": None, "item_key": None, "deadline_at": None, "is_echo": 0, "hold": None,
        "singleton": None, "event_name": "app/hello",
    }  # fmt: skip


def test_a_child_has_its_parent_its_step_and_its_item(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(children(child(4, item=7, item_key="ada", deadline_at=NOW + 9)))
    assert run_row(path, 4) == before | {
        "key": 4, "id": "RUN4", "function": "child", "event": -4, "parent": 1, "parent_step": "map", "item": 7,
        "item_key": "ada", "deadline_at": NOW + 9, "event_name": "fanout/function.invoked",
    }  # fmt: skip


def test_a_function_has_one_run_an_event_but_any_number_of_replays(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(runs=[new_run(key, function="f1", replay_of=1) for key in (4, 5)]))
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=9, runs=[new_run(6), new_run(7, function="f1")]))
    assert dump(path) == before


def test_an_item_with_a_key_has_one_run_in_its_map(runs: SqliteJournal, path: Path) -> None:
    other_map, other_run = child(5, step="map#2", item_key="ada"), child(6, parent=2, item_key="ada")
    runs.commit(children(child(4, item_key="ada"), other_map, other_run, child(7), child(8)))
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(children(child(9), child(10, item_key="ada")))
    assert dump(path) == before


@pytest.mark.parametrize(
    "impossible",
    [
        new_run(9, state="bogus"),
        new_run(9, due_at=NOW),
        new_run(9, state="completed"),
        new_run(9, id="RUN1"),
        new_run(1),
        new_run(9, parent=1),
        new_run(9, parent_step="map"),
    ],
)
def test_a_run_that_cannot_be_is_not_made_and_nothing_else_of_its_commit(
    runs: SqliteJournal, path: Path, impossible: NewRun
) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=5, runs=[new_run(8), impossible], ended=[ended(1)]))
    assert dump(path) == before


# The life of a run.


def test_an_end_has_a_reason_an_output_and_its_times(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(lost=[LostRun(1, True, NOW + 1, NOW + 99, 1, 0)]))
    runs.commit(writes(ended=[EndedRun("failed", "crashed", None, NOW + 7, NOW + 8, 3, 1, 0)]))
    assert run_row(path, 1) == before | {
        "state": "failed", "reason": "crashed", "crashes": 3, "is_suspect": 0, "started_at": NOW + 1, "ended_at": NOW + 8,
    }  # fmt: skip
    runs.commit(writes(ended=[ended(2)]))
    assert run_row(path, 2) == before | {
        "key": 2, "id": "RUN2", "function": "f2",
        "state": "completed", "output": '"out"', "started_at": NOW + 1, "ended_at": NOW + 9,
    }  # fmt: skip


def test_the_first_start_is_remembered(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(noted=[NotedRun(NOW + 1, None, 1, 0)]))
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, None, 1, 0)]))
    runs.commit(writes(due=[(NOW + 60, "", 1)]))
    runs.commit(writes(noted=[NotedRun(NOW + 61, None, 1, 1)]))
    runs.commit(writes(parked=[ParkedRun(NOW + 61, None, 1, 1)]))
    runs.commit(writes(due=[(NOW + 62, "", 1)]))
    runs.commit(writes(lost=[LostRun(0, False, NOW + 63, None, 1, 1)]))
    runs.commit(writes(ended=[ended(1, attempt=1)._replace(started_at=NOW + 61)]))
    assert run_row(path, 1)["started_at"] == NOW + 1


def test_a_retried_run_waits_and_comes_back_to_the_queue_with_a_new_rank(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, NOW + 99, 1, 0)]))
    is_waiting = before | {
        "state": "waiting", "due_at": NOW + 50, "attempt": 1, "started_at": NOW + 2, "deadline_at": NOW + 99,
    }  # fmt: skip
    assert run_row(path, 1) == is_waiting
    runs.commit(writes(due=[(NOW + 60, "", 1)]))
    assert run_row(path, 1) == is_waiting | {"state": "queued", "due_at": None, "rank": NOW + 60}


def test_a_parked_run_waits_for_no_time_of_its_own_and_comes_back_in_two_ways(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(parked=[ParkedRun(NOW + 2, NOW + 99, 1, 0)]))
    is_waiting = before | {"state": "waiting", "started_at": NOW + 2, "deadline_at": NOW + 99}
    assert run_row(path, 1) == is_waiting
    runs.commit(writes(resumed=[(1, 0)]))
    assert run_row(path, 1) == is_waiting | {"state": "running"}
    runs.commit(writes(parked=[ParkedRun(NOW + 9, NOW + 99, 1, 0)]))
    runs.commit(writes(due=[(NOW + 60, "", 1)]))
    assert run_row(path, 1) == is_waiting | {"state": "queued", "rank": NOW + 60}


def test_a_lost_run_is_queued_with_what_it_is_charged_with(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(noted=[NotedRun(NOW + 1, NOW + 5, 1, 0)]))
    runs.commit(writes(lost=[LostRun(1, True, NOW + 1, NOW + 5, 1, 0)]))
    assert run_row(path, 1) == before | {
        "crashes": 1, "is_suspect": 1, "started_at": NOW + 1, "deadline_at": NOW + 5,
    }  # fmt: skip
    assert runs.queued("f1", "", (0, 0), 9) == [queued_run(1, crashes=1, is_suspect=True, started_at=NOW + 1)]


def test_a_run_that_no_worker_has_can_end_for_any_reason(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, NOW + 99, 2, 0)], noted=[noted(3)]))
    runs.commit(
        writes(
            cancelled=[
                ("cancelled", None, NOW + 3, 1),
                ("failed", "timed out", NOW + 3, 2),
                ("skipped", "singleton", NOW + 4, 3),
            ]
        )
    )
    assert run_row(path, 1) == before | {"state": "cancelled", "ended_at": NOW + 3}
    assert run_row(path, 2) == before | {
        "key": 2, "id": "RUN2", "function": "f2", "attempt": 1, "started_at": NOW + 2,
        "state": "failed", "reason": "timed out", "ended_at": NOW + 3,
    }  # fmt: skip
    assert (run_row(path, 3)["state"], run_row(path, 3)["reason"]) == ("skipped", "singleton")
    assert (runs.next_due(), [runs.live(key) for key in (1, 2, 3)]) == (None, [None, None, None])


def test_a_deadline_is_gone_with_the_end_of_its_run(runs: SqliteJournal) -> None:
    runs.commit(writes(runs=[new_run(key, deadline_at=NOW + key) for key in (4, 5)]))
    assert runs.next_due() == NOW + 4
    runs.commit(writes(ended=[ended(4)], cancelled=[("cancelled", None, NOW, 5)]))
    assert (runs.next_due(), runs.expired(NOW + 99, 9)) == (None, [])


def test_a_run_that_has_started_has_another_deadline_than_one_that_has_not(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(runs=[new_run(key, deadline_at=NOW + 10) for key in (4, 5, 6, 7)]))
    runs.commit(
        writes(
            noted=[NotedRun(NOW, NOW + 70, 4, 0)],
            parked=[ParkedRun(NOW, NOW + 70, 5, 0)],
            retried=[RetriedRun(NOW, 1, NOW, NOW + 70, 6, 0)],
            lost=[LostRun(0, False, NOW, None, 7, 0)],
        )
    )
    assert [run_row(path, key)["deadline_at"] for key in (4, 5, 6, 7)] == [NOW + 70, NOW + 70, NOW + 70, None]


def test_all_kinds_of_changes_share_one_commit(runs: SqliteJournal, path: Path) -> None:
    runs.append_request("cancel", {"runs": [3]}, NOW)
    runs.commit(writes(runs=[new_run(key) for key in (10, 11, 12, 13)]))
    runs.commit(
        writes(parked=[parked(10), parked(11)], noted=[noted(13)], steps=[waiting(10, "nap"), retrying(11, "r")])
    )
    runs.commit(
        writes(
            routed_to=7,
            events=[event_row(-6, "fanout/function.invoked"), event_row(None)],
            runs=[new_run(4), new_run(5, function="f1", replay_of=1), child(6)],
            waits=[wait(1, "w")],
            carried=[Carried(5, 1)],
            maps={(1, "map"): map_row()},
            noted=[noted(1)],
            running=[step(1, "going", "running")],
            steps=[step(1, "done", "completed", 2), step(2, "bad", "failed"), waiting(1, "map", "map", None)],
            failures=[failure(2, "bad"), failure(2)],
            resolved=[("completed", "1", NOW, 10, "nap")],
            heard=[(10, "nap")],
            due=[(NOW, "", 10)],
            resumed=[(11, 0)],
            tried=[(11, "r")],
            lost=[lost(13)],
            parked=[parked(12)],
            retried=[retried(2)],
            unreached=[(1, "done")],
            cancelled=[("cancelled", None, NOW, 3)],
            abandoned=[(NOW, 3)],
            handled=[(NOW, None, 1)],
            ended=[ended(4, "skipped")],
        )
    )
    after = dump(path)
    assert {row["key"]: row["state"] for row in after["run"]} == {
        1: "running", 2: "waiting", 3: "cancelled", 4: "skipped", 5: "queued", 6: "queued",
        10: "queued", 11: "running", 12: "waiting", 13: "queued",
    }  # fmt: skip
    assert [(row["run"], row["key"], row["state"]) for row in after["step"]] == [
        (1, "done", "completed"), (1, "going", "running"), (1, "map", "waiting"), (2, "bad", "failed"),
        (10, "nap", "completed"), (11, "r", "retrying"),
    ]  # fmt: skip
    assert [(row["run"], row["step"]) for row in after["failure"]] == [(2, ""), (2, "bad")]
    assert [row["key"] for row in after["event"]] == [-6, 1, 2]
    assert [[(row["run"], row["step"]) for row in after[table]] for table in ("wait", "map")] == [
        [(1, "w")],
        [(1, "map")],
    ]
    assert (after["meta"], runs.open_requests(1)) == ([{"name": "routed_to", "value": 7}], [])
