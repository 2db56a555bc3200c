"""What the engine asks of runs. It holds for any journal there will be, but for the last part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from fanout.core import flow
from fanout.journal.rows import LiveRun, LostRun
from fanout.journal.sqlite import SqliteJournal
from fanout.model import RunState
from tests.unit.journals import (
    NOW,
    child,
    children,
    dump,
    ended,
    event,
    event_row,
    map_row,
    new_run,
    noted,
    parked,
    queued_run,
    retried,
    step,
    to_state,
    wait,
    waiting,
    writes,
)


def test_functions_that_an_id_has_started_already(journal: SqliteJournal) -> None:
    for now, function in ((NOW, "old"), (NOW + 100, "new"), (NOW + 200, "newer")):
        key = journal.append_events([event(id="a")], now)[0].key
        journal.commit(writes(runs=[new_run(key, event=key, function=function)]))
    journal.append_events([event(id="b")], NOW + 200)
    assert journal.functions_with_id("a", NOW) == {"new", "newer"}
    assert journal.functions_with_id("a", NOW - 1) == {"old", "new", "newer"}
    assert journal.functions_with_id("b", 0) == set()
    assert journal.functions_with_id("unknown", 0) == set()


def test_partitions_are_those_of_queued_runs_each_once_in_order(runs: SqliteJournal) -> None:
    made = [
        new_run(10 + number, function=function, event=1, partition=partition, replay_of=1)
        for number, (function, partition) in enumerate([("g", "b"), ("g", ""), ("g", "b"), ("g", "a"), ("é", "ü")])
    ]
    runs.commit(writes(runs=made, noted=[noted(2)], ended=[ended(3)]))
    assert list(runs.partitions()) == [("f1", ""), ("g", ""), ("g", "a"), ("g", "b"), ("é", "ü")]


def test_partitions_can_be_read_while_they_change(runs: SqliteJournal) -> None:
    seen = []
    for function, partition in runs.partitions():
        seen.append((function, partition))
        runs.commit(writes(ended=[ended(int(function[1:]))]))
    assert seen == [("f1", ""), ("f2", ""), ("f3", "")]
    assert list(runs.partitions()) == []


def test_queued_runs_come_in_order_beyond_a_place_and_bounded(runs: SqliteJournal) -> None:
    ranks = {11: 5, 12: 3, 13: 5, 14: 9, 15: 3, 16: -4}
    made = [new_run(key, function="g", partition="p", rank=rank, replay_of=1) for key, rank in ranks.items()]
    runs.commit(writes(runs=[*made, new_run(17, function="g", partition="other", replay_of=1)]))
    everything = runs.queued("g", "p", (-(2**62), 0), 99)
    assert everything == [
        queued_run(key, function="g", partition="p", rank=ranks[key]) for key in (16, 12, 15, 11, 13, 14)
    ]
    after, paged = (-(2**62), 0), []
    while page := runs.queued("g", "p", after, 2):
        assert len(page) <= 2
        paged += page
        after = (page[-1].rank, page[-1].key)
    assert paged == everything
    runs.commit(writes(noted=[noted(12)], ended=[ended(11)]))
    assert [each.key for each in runs.queued("g", "p", (3, 12), 99)] == [15, 13, 14]


def test_a_queued_run_knows_all_that_its_start_needs(runs: SqliteJournal) -> None:
    runs.commit(children(child(4, item=7)))
    runs.commit(writes(steps=[step(4, "s")], lost=[LostRun(2, True, NOW + 1, None, 4, 0)]))
    assert runs.queued("child", "", (0, 0), 9) == [
        queued_run(
            4, function="child", event=-4, crashes=2, is_suspect=True, started_at=NOW + 1, parent=1, parent_step="map",
            item=7, is_fresh=False,
        )
    ]  # fmt: skip


def test_the_last_rank_is_when_the_latest_of_the_newest_runs_was_queued(runs: SqliteJournal) -> None:
    """Its priority is not in it, and that the clock has stepped back since is not either."""
    runs.commit(writes(runs=[new_run(4, queued_at=NOW + 9, rank=NOW + 600_000), new_run(5, queued_at=NOW - 7)]))
    assert (runs.last_rank(), runs.last_run_key()) == (NOW + 9, 5)


def test_what_is_read_of_a_partition_is_the_same_among_equal_ranks_and_costs_no_more(runs: SqliteJournal) -> None:
    runs.commit(children(*[new_run(key, function="g", event=-key, rank=5 + key // 3_000) for key in range(10, 3_010)]))
    looked_up: list[int] = []

    def count() -> bool:
        looked_up.append(1)
        return False

    runs._connection.set_progress_handler(count, 10)

    def cost(after: tuple[int, int]) -> int:
        looked_up.clear()
        found = runs.queued("g", "", after, 20)
        assert [each.key for each in found] == [*range(after[1] + 1, min(after[1] + 21, 3_010))]
        return len(looked_up)

    assert cost((5, 2_950)) <= 1.2 * cost((5, 9))
    assert [each.key for each in runs.queued("g", "", (5, 2_995), 9)] == [*range(2_996, 3_005)]


def test_runs_are_due_when_their_time_has_come_the_earliest_first(runs: SqliteJournal) -> None:
    waits = {1: NOW + 30, 2: NOW + 10, 3: NOW + 20}
    runs.commit(writes(retried=[retried(key, due_at=due_at) for key, due_at in waits.items()]))
    assert runs.next_due() == NOW + 10
    assert runs.due(NOW + 9, 9) == []
    assert [each.key for each in runs.due(NOW + 10, 9)] == [2]
    assert runs.due(NOW + 30, 2) == [queued_run(key, attempt=1, started_at=NOW) for key in (2, 3)]
    runs.commit(writes(due=[(NOW + 30, "", 2), (NOW + 30, "", 3)]))
    assert (runs.next_due(), [each.key for each in runs.due(NOW + 99, 9)]) == (NOW + 30, [1])
    runs.commit(writes(due=[(NOW + 30, "", 1)]))
    assert (runs.next_due(), runs.due(NOW + 99, 9)) == (None, [])


def test_a_run_can_wait_from_the_beginning(runs: SqliteJournal) -> None:
    runs.commit(writes(runs=[new_run(4, state="waiting", due_at=NOW + 5)]))
    assert (runs.next_due(), [each.key for each in runs.due(NOW + 5, 9)]) == (NOW + 5, [4])
    assert ("f4", "") not in list(runs.partitions())


def test_a_parked_run_has_no_time_of_its_own(runs: SqliteJournal) -> None:
    runs.commit(writes(parked=[parked(1)]))
    assert (runs.next_due(), runs.due(2**62, 9)) == (None, [])
    assert ("f1", "") not in list(runs.partitions())


def test_runs_whose_deadline_has_passed_come_in_its_order_whatever_their_state(runs: SqliteJournal) -> None:
    runs.commit(writes(runs=[new_run(key, deadline_at=NOW + 100 - key * 10) for key in (4, 5, 6, 7)]))
    runs.commit(
        writes(
            noted=[noted(5)._replace(deadline_at=NOW + 50)],
            retried=[retried(6)._replace(deadline_at=NOW + 40)],
            ended=[ended(7)],
        )
    )
    expired = [
        LiveRun(queued_run(6, attempt=1, started_at=NOW), RunState.WAITING, NOW + 50),
        LiveRun(queued_run(5, started_at=NOW), RunState.RUNNING, None),
        LiveRun(queued_run(4), RunState.QUEUED, None),
    ]
    assert runs.next_due() == NOW + 40
    assert [runs.expired(now, 9) for now in (NOW + 39, NOW + 40, NOW + 60)] == [[], expired[:1], expired]
    assert runs.expired(NOW + 60, 2) == expired[:2]


def test_a_live_run_is_known_with_its_state_and_what_it_waits_for(runs: SqliteJournal) -> None:
    runs.commit(writes(runs=[new_run(4), new_run(5)], parked=[parked(4)]))
    runs.commit(writes(noted=[noted(1)], retried=[retried(2, next_attempt=3)], ended=[ended(3)]))
    assert [runs.live(key) for key in (1, 2, 3, 4, 5, 99)] == [
        LiveRun(queued_run(1, started_at=NOW), RunState.RUNNING, None),
        LiveRun(queued_run(2, attempt=3, started_at=NOW), RunState.WAITING, NOW + 50),
        None,
        LiveRun(queued_run(4, started_at=NOW), RunState.WAITING, None),
        LiveRun(queued_run(5), RunState.QUEUED, None),
        None,
    ]


def test_what_a_dead_engine_left_running_is_queued_again_and_nothing_else_changes(
    runs: SqliteJournal, path: Path
) -> None:
    runs.commit(writes(runs=[new_run(4)], parked=[parked(4)]))
    runs.commit(writes(noted=[noted(1)], running=[step(1, "s", "running")], steps=[waiting(4, "nap")]))
    runs.commit(writes(retried=[retried(2, next_attempt=3)], ended=[ended(3)]))
    before = dump(path)
    runs.recover()
    before["run"][0] |= {"state": "queued", "partition": flow.begun("")}
    assert dump(path) == before
    runs.recover()
    assert dump(path) == before


# Replays.


@pytest.mark.parametrize("state", [state for state in RunState if state.is_final])
def test_every_run_that_has_ended_can_be_replayed(runs: SqliteJournal, state: RunState) -> None:
    runs.commit(writes(ended=[ended(2, state)]))
    assert runs.replayable([2], again=False) == [(2, "f2", 1)]


def test_live_and_unknown_runs_are_left_out(runs: SqliteJournal) -> None:
    runs.commit(writes(noted=[noted(1)], retried=[retried(2)]))
    assert runs.replayable([1, 2, 3, 99], again=True) == []


def test_replayable_runs_come_in_the_order_in_which_they_were_asked_for(runs: SqliteJournal) -> None:
    runs.commit(writes(ended=[ended(key, "failed") for key in (1, 2, 3)]))
    assert runs.replayable([3, 1, 2], again=False) == [(3, "f3", 1), (1, "f1", 1), (2, "f2", 1)]


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        (RunState.QUEUED, True),
        (RunState.RUNNING, True),
        (RunState.WAITING, True),
        (RunState.COMPLETED, True),
        (RunState.FAILED, True),
        (RunState.CANCELLED, False),
        (RunState.SKIPPED, False),
    ],
)
def test_a_run_is_replayed_once_unless_again_is_said(runs: SqliteJournal, state: RunState, counts: bool) -> None:
    runs.commit(writes(ended=[ended(2, "failed")]))
    runs.commit(writes(runs=[new_run(9, function="f2", replay_of=2)]))
    runs.commit(to_state(9, state))
    assert runs.replayable([2], again=False) == ([] if counts else [(2, "f2", 1)])
    assert runs.replayable([2], again=True) == [(2, "f2", 1)]


# How SQLite finds it: however much the journal has, by an index.


@pytest.fixture
def full(runs: SqliteJournal) -> SqliteJournal:
    """Something of everything, so that each question is asked to its end."""
    runs.commit(children(child(4, item=0, item_key="ada"), child(5, item=1)))
    runs.commit(
        writes(
            events=[event_row(None, id="mine", is_id_given=True)],
            runs=[new_run(6, deadline_at=NOW), new_run(7, state="waiting", due_at=NOW)],
            steps=[waiting(1, "nap"), waiting(1, "map", "map", None), step(1, "bad", "failed")],
            maps={(1, "map"): map_row(1)},
            waits=[wait(1, "a"), wait(1, "b", "app/other", path="data.x", value="1")],
        )
    )
    return runs


QUESTIONS: dict[str, Callable[[SqliteJournal], object]] = {
    "next_due": lambda journal: journal.next_due(),
    "due": lambda journal: journal.due(NOW, 9),
    "due_steps": lambda journal: journal.due_steps(NOW + 100, 9),
    "expired": lambda journal: journal.expired(NOW, 9),
    "waits": lambda journal: journal.waits("app/other", "data.x", "1"),
    "wait_paths": lambda journal: journal.wait_paths("app/paid"),
    "awaited_events": lambda journal: list(journal.awaited_events()),
    "children": lambda journal: journal.children(1),
    "children of a step": lambda journal: journal.children(1, "map"),
    "has_item": lambda journal: journal.has_item(1, "map", "ada"),
    "map_row": lambda journal: journal.map_row(1, "map"),
    "steps": lambda journal: journal.steps(1),
    "step": lambda journal: journal.step(1, "bad"),
    "is_open": lambda journal: journal.is_open(1, "nap"),
    "live": lambda journal: journal.live(1),
    "partitions": lambda journal: list(journal.partitions()),
    "queued": lambda journal: journal.queued("f1", "", (0, 0), 9),
    "unrouted": lambda journal: journal.unrouted(0, 9),
    "event": lambda journal: journal.event(1),
    "functions_with_id": lambda journal: journal.functions_with_id("mine", 0),
    "last_run_key": lambda journal: journal.last_run_key(),
    "first_event_key": lambda journal: journal.first_event_key(),
    "open_requests": lambda journal: journal.open_requests(9),
    "gathered": lambda journal: journal.commit(writes(gathered=[(NOW, 1, "map")])),
    "abandoned": lambda journal: journal.commit(writes(abandoned=[(NOW, 1)])),
    "heard": lambda journal: journal.commit(writes(heard=[(1, "a")])),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_table_is_walked_through(full: SqliteJournal, path: Path, question: str) -> None:
    plans = plans_of(full, path, QUESTIONS[question])
    assert any(plans.values())
    assert {sql: plan for sql, plan in plans.items() if sql not in BY_KEY and any(map(is_a_walk, plan))} == {}


def test_those_who_wait_for_one_event_are_told_apart_by_the_value(full: SqliteJournal, path: Path) -> None:
    assert list(plans_of(full, path, QUESTIONS["waits"]).values()) == [
        ["SEARCH wait USING INDEX wait_event (event=? AND path=? AND value=?)"]
    ]


BY_KEY = ("SELECT max(key) FROM run", "SELECT min(key) FROM event")
"""SQLite names no index here: a table is in the order of its key."""


def is_a_walk(line: str) -> bool:
    # The index of open requests has nothing but those. A search for the least names its index, if it has one.
    return (line.startswith("SCAN") and "request_open" not in line) or (
        line.startswith("SEARCH") and " USING " not in line
    )


def plans_of(journal: SqliteJournal, path: Path, question: Callable[[SqliteJournal], object]) -> dict[str, list[str]]:
    """The statements that answer the question, each with how SQLite goes about it."""
    asked: dict[str, Any] = {}

    def note(_: object, sql: str, bindings: Any) -> bool:
        asked[sql] = bindings
        return True

    journal._connection.exec_trace = note
    question(journal)
    journal._connection.exec_trace = None
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return {
            sql: [str(detail) for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
            for sql, bindings in asked.items()
            if not sql.startswith(("BEGIN", "COMMIT"))
        }
