"""What the engine and the commands ask of a journal. All but the last part holds for any journal there will be."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from fanout.core.machine import TRANSITIONS, RunInput
from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.journal import (
    DUPLICATE_WINDOW_MS,
    AcceptedEvent,
    EndedRun,
    FailureRow,
    LostRun,
    NewRun,
    NotedRun,
    OpenRequest,
    QueuedRun,
    RetriedRun,
    StepRow,
    StoredEvent,
    Writes,
)
from fanout.journal.sqlite import MIGRATIONS, SqliteJournal
from fanout.model import Failure, RunState, StepState
from fanout.protocol import RecordedStep

NOW = 1_760_000_000_000
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
REFUSED_HINT = "another program has changed it; nothing was written, start again"

Dump = dict[str, list[dict[str, Any]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as opened:
        yield opened


def dump(path: Path) -> Dump:
    """All that is in the journal.

    With the same SQLite as the journal's: a second one in a process (Python's own) drops the first one's locks.
    """
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").fetchall()
        return {str(name): rows_of(connection, str(name)) for (name,) in tables}


def rows_of(connection: apsw.Connection, table: str) -> list[dict[str, Any]]:
    columns = [str(name) for (name,) in connection.execute(f"SELECT name FROM pragma_table_info('{table}')")]
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]


def run_row(path: Path, key: int) -> dict[str, Any]:
    return next(row for row in dump(path)["run"] if row["key"] == key)


def writes(**fields: Any) -> Writes:
    made = Writes()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def event(name: str = "app/hello", **fields: Any) -> NewEvent:
    return NewEvent(name, fields.pop("data", "{}"), **fields)


def new_run(key: int, **fields: Any) -> NewRun:
    made = NewRun(
        key=key, id=f"RUN{key}", function="f", event=1, partition="", rank=NOW, state="queued", max_attempts=5,
        queued_at=NOW, due_at=None, replay_of=None,
    )  # fmt: skip
    return made._replace(**({"function": f"f{key}"} | fields))


def step(run: int, key: str, state: str, position: int = 1, **fields: Any) -> StepRow:
    has_ended, is_completed = state != "running", state == "completed"
    made = StepRow(
        run, key, state, position, 1, '"kept"' if is_completed else None, NOW, NOW + 5 if has_ended else None
    )
    return made._replace(**fields)


def ended(run: int, state: str = "completed", *, attempt: int = 0) -> EndedRun:
    return EndedRun(state, None, '"out"' if state == "completed" else None, NOW + 1, NOW + 9, 0, run, attempt)


def failure(run: int, step: str = "", attempt: int = 0, message: str = "no") -> FailureRow:
    return FailureRow(run, step, attempt, "ValueError", message, "Traceback", NOW + 5)


@pytest.fixture
def runs(journal: SqliteJournal) -> SqliteJournal:
    """A journal with one event and three queued runs: 1, 2 and 3."""
    journal.append_events([event()], NOW)
    journal.commit(writes(routed_to=1, runs=[new_run(key) for key in (1, 2, 3)]))
    return journal


def refused(journal: SqliteJournal, attempted: Writes) -> tuple[str, str | None]:
    with pytest.raises(JournalError) as raised:
        journal.commit(attempted)
    return raised.value.message, raised.value.hint


def one_refused(path: Path, of: int = 1) -> tuple[str, str]:
    return f"the journal `{path}` refused 1 of {of} changes", REFUSED_HINT


# Events, from any process.


def test_events_are_stored_in_their_order_with_all_that_they_say(journal: SqliteJournal) -> None:
    accepted = journal.append_events(
        [event(), event("app/ünï", data='{"a":1.10}', id="given", ts=5, user='{"id":1}', v="2")], NOW
    )
    made = accepted[0].id
    assert ULID.fullmatch(made)
    assert accepted == [AcceptedEvent(1, made, "app/hello", False), AcceptedEvent(2, "given", "app/ünï", False)]
    stored = [
        StoredEvent(1, made, False, "app/hello", NOW, "{}", None, None, NOW),
        StoredEvent(2, "given", True, "app/ünï", 5, '{"a":1.10}', '{"id":1}', "2", NOW),
    ]
    assert journal.unrouted(0, 10) == stored
    assert [journal.event(key) for key in (1, 2)] == stored
    assert stored[1].envelope() == ("given", "app/ünï", 5, '{"a":1.10}', '{"id":1}', "2")


def test_no_events_are_no_change(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    assert journal.append_events([], NOW) == []
    assert dump(path) == before


def test_ids_only_grow_although_the_clock_goes_back(journal: SqliteJournal) -> None:
    made = [each.id for now in (NOW, NOW - 5_000, NOW) for each in journal.append_events([event(), event()], now)]
    assert made == sorted(set(made))


def test_keys_grow_from_request_to_request_and_between_processes(journal: SqliteJournal, path: Path) -> None:
    with closing(SqliteJournal(path)) as other:
        keys = [[each.key for each in who.append_events([event(), event()], NOW)] for who in (journal, other, journal)]
    assert keys == [[1, 2], [3, 4], [5, 6]]


def test_of_a_request_with_a_bad_event_nothing_is_stored(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        journal.append_events([event(), event(data=None)], NOW)
    assert dump(path) == before
    assert [each.key for each in journal.append_events([event()], NOW)] == [1]


def test_a_given_id_is_known_again_within_a_request_and_across(journal: SqliteJournal) -> None:
    first = journal.append_events([event(id="a"), event(id="b"), event(id="a"), event()], NOW)
    second = journal.append_events([event(id="b"), event(id="c")], NOW + 1)
    assert [(each.id, each.is_duplicate) for each in first[:3] + second] == [
        ("a", False), ("b", False), ("a", True), ("b", True), ("c", False),
    ]  # fmt: skip
    assert [each.key for each in first + second] == [1, 2, 3, 4, 5, 6]
    assert len(journal.unrouted(0, 10)) == 6


@pytest.mark.parametrize(("later", "is_duplicate"), [(0, True), (-1, True), (1, False)])
def test_an_id_is_remembered_for_24_hours(journal: SqliteJournal, later: int, is_duplicate: bool) -> None:
    assert DUPLICATE_WINDOW_MS == 86_400_000
    journal.append_events([event(id="a")], NOW)
    again = journal.append_events([event(id="a")], NOW + DUPLICATE_WINDOW_MS - 1 + later)
    assert again == [AcceptedEvent(2, "a", "app/hello", is_duplicate)]


def test_unrouted_events_come_in_order_beyond_a_key_and_bounded(journal: SqliteJournal) -> None:
    journal.append_events([event(f"app/{number}") for number in range(7)], NOW)
    assert [each.key for each in journal.unrouted(0, 3)] == [1, 2, 3]
    assert [each.key for each in journal.unrouted(3, 3)] == [4, 5, 6]
    assert [each.name for each in journal.unrouted(6, 3)] == ["app/6"]
    assert journal.unrouted(7, 3) == []


# Requests.


def test_requests_are_open_until_they_are_handled(journal: SqliteJournal, path: Path) -> None:
    body = {"runs": [1, 2], "again": False, "ü": None}
    keys = [journal.append_request(kind, body, NOW) for kind in ("replay", "cancel", "cancel")]
    assert keys == [1, 2, 3]
    assert journal.open_requests(2) == [OpenRequest(1, "replay", body), OpenRequest(2, "cancel", body)]
    journal.commit(writes(handled=[(NOW + 1, 1), (NOW + 2, 3)]))
    assert journal.open_requests(9) == [OpenRequest(2, "cancel", body)]
    assert [row["handled_at"] for row in dump(path)["request"]] == [NOW + 1, None, NOW + 2]


def test_a_request_is_handled_once(journal: SqliteJournal, path: Path) -> None:
    journal.append_request("cancel", {"runs": []}, NOW)
    journal.commit(writes(handled=[(NOW, 1)]))
    before = dump(path)
    assert refused(journal, writes(handled=[(NOW + 1, 1)])) == one_refused(path)
    assert dump(path) == before


def test_a_request_of_an_unknown_kind_is_refused(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        journal.append_request("explode", {}, NOW)
    assert dump(path) == before


# What one commit can change.


def test_a_new_journal_is_empty(journal: SqliteJournal) -> None:
    assert (journal.last_run_key(), journal.routed_to(), journal.next_due()) == (0, 0, None)
    assert (list(journal.partitions()), journal.due(NOW, 9), journal.open_requests(9)) == ([], [], [])
    assert (journal.unrouted(0, 9), journal.live(1), journal.steps(1)) == ([], None, ())


def test_a_commit_of_nothing_changes_nothing(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    assert not Writes()
    runs.commit(Writes())
    assert dump(path) == before


@pytest.mark.parametrize("field", Writes.__slots__)
def test_anything_in_it_makes_writes_worth_a_commit(field: str) -> None:
    assert writes(**{field: 0 if field == "routed_to" else [()]})


def test_runs_are_made_together_with_the_mark_that_their_event_is_routed(runs: SqliteJournal, path: Path) -> None:
    assert (runs.routed_to(), runs.last_run_key()) == (1, 3)
    assert run_row(path, 2) == {
        "key": 2, "id": "RUN2", "function": "f2", "event": 1, "partition": "", "rank": NOW, "state": "queued",
        "reason": None, "attempt": 0, "max_attempts": 5, "crashes": 0, "is_suspect": 0, "queued_at": NOW,
        "due_at": None, "started_at": None, "ended_at": None, "output": None, "replay_of": None,
    }  # fmt: skip


def test_a_function_has_one_run_an_event_but_any_number_of_replays(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(runs=[new_run(key, function="f1", replay_of=1) for key in (4, 5)]))
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=9, runs=[new_run(6), new_run(7, function="f1")]))
    assert dump(path) == before


@pytest.mark.parametrize(
    "impossible",
    [
        new_run(9, state="bogus"),
        new_run(9, state="waiting"),
        new_run(9, due_at=NOW),
        new_run(9, state="completed"),
        new_run(9, id="RUN1"),
        new_run(1),
    ],
)
def test_a_run_that_cannot_be_is_not_made_and_nothing_else_of_its_commit(
    runs: SqliteJournal, path: Path, impossible: NewRun
) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=5, runs=[new_run(8), impossible], ended=[ended(1)]))
    assert dump(path) == before


def test_an_end_has_a_reason_an_output_and_its_times(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(lost=[LostRun(1, True, 1, 0)]))
    runs.commit(writes(ended=[EndedRun("failed", "crashed", None, NOW + 1, NOW + 2, 3, 1, 0)]))
    assert run_row(path, 1) == before | {
        "state": "failed", "reason": "crashed", "crashes": 3, "is_suspect": 0, "started_at": NOW + 1, "ended_at": NOW + 2,
    }  # fmt: skip
    runs.commit(writes(ended=[ended(2)]))
    assert run_row(path, 2) == before | {
        "key": 2, "id": "RUN2", "function": "f2",
        "state": "completed", "output": '"out"', "started_at": NOW + 1, "ended_at": NOW + 9,
    }  # fmt: skip


def test_the_first_start_is_remembered(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(noted=[NotedRun(NOW + 1, 1, 0)]))
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, 1, 0)]))
    runs.commit(writes(due=[(NOW + 60, 1)]))
    runs.commit(writes(noted=[NotedRun(NOW + 61, 1, 1)]))
    runs.commit(writes(ended=[ended(1, attempt=1)._replace(started_at=NOW + 61)]))
    assert run_row(path, 1)["started_at"] == NOW + 1


def test_a_retried_run_waits_and_comes_back_to_the_queue_with_a_new_rank(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, 1, 0)]))
    waiting = before | {"state": "waiting", "due_at": NOW + 50, "attempt": 1, "started_at": NOW + 2}
    assert run_row(path, 1) == waiting
    runs.commit(writes(due=[(NOW + 60, 1)]))
    assert run_row(path, 1) == waiting | {"state": "queued", "due_at": None, "rank": NOW + 60}


def test_a_lost_run_is_queued_with_what_it_is_charged_with(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(noted=[NotedRun(NOW + 1, 1, 0)]))
    runs.commit(writes(lost=[LostRun(1, True, 1, 0)]))
    assert run_row(path, 1) == before | {"crashes": 1, "is_suspect": 1, "started_at": NOW + 1}
    assert runs.queued("f1", "", (0, 0), 9) == [QueuedRun(1, "RUN1", "f1", "", 1, NOW, 0, 1, True, True)]


def test_a_queued_or_a_waiting_run_can_be_cancelled(runs: SqliteJournal, path: Path) -> None:
    before = run_row(path, 1)
    runs.commit(writes(retried=[RetriedRun(NOW + 50, 1, NOW + 2, 2, 0)]))
    runs.commit(writes(cancelled=[(NOW + 3, 1), (NOW + 3, 2)]))
    assert run_row(path, 1) == before | {"state": "cancelled", "ended_at": NOW + 3}
    assert (run_row(path, 2)["state"], run_row(path, 2)["due_at"]) == ("cancelled", None)
    assert (runs.next_due(), [runs.live(key) for key in (1, 2, 3)]) == (None, [None, None, ("queued", 0)])


def test_all_kinds_of_changes_share_one_commit(runs: SqliteJournal, path: Path) -> None:
    runs.append_request("cancel", {"runs": [3]}, NOW)
    runs.commit(
        writes(
            routed_to=7,
            runs=[new_run(4), new_run(5, function="f1", replay_of=1)],
            carried=[(5, 1)],
            noted=[NotedRun(NOW, 1, 0)],
            running=[step(1, "going", "running")],
            steps=[step(1, "done", "completed", 2), step(2, "bad", "failed")],
            failures=[failure(2, "bad"), failure(2)],
            retried=[RetriedRun(NOW + 9, 1, NOW, 2, 0)],
            cancelled=[(NOW, 3)],
            handled=[(NOW, 1)],
            ended=[ended(4, "skipped")],
        )
    )
    after = dump(path)
    assert {row["key"]: row["state"] for row in after["run"]} == {
        1: "running", 2: "waiting", 3: "cancelled", 4: "skipped", 5: "queued",
    }  # fmt: skip
    assert [(row["run"], row["key"], row["state"]) for row in after["step"]] == [
        (1, "done", "completed"), (1, "going", "running"), (2, "bad", "failed"),
    ]  # fmt: skip
    assert [(row["run"], row["step"]) for row in after["failure"]] == [(2, ""), (2, "bad")]
    assert (after["meta"], runs.open_requests(1)) == ([{"name": "routed_to", "value": 7}], [])


# Guards.


STALE: dict[str, Writes] = {
    "ended": writes(ended=[ended(1, attempt=0)]),
    "failed": writes(ended=[ended(1, "failed", attempt=0)]),
    "retried": writes(retried=[RetriedRun(NOW + 9, 1, NOW, 1, 0)]),
    "lost": writes(lost=[LostRun(1, False, 1, 0)]),
    "noted": writes(noted=[NotedRun(NOW, 1, 0)]),
    "one of several": writes(ended=[ended(2), ended(1, attempt=0)]),
}


@pytest.mark.parametrize("kind", STALE)
def test_a_stale_attempt_is_refused_with_everything_that_shares_its_commit(
    runs: SqliteJournal, path: Path, kind: str
) -> None:
    runs.append_request("cancel", {"runs": [3]}, NOW)
    runs.commit(writes(retried=[RetriedRun(NOW + 1, 1, NOW, 1, 0)]))
    runs.commit(writes(due=[(NOW + 1, 1)]))
    assert runs.live(1) == ("queued", 1)
    before = dump(path)
    attempted = STALE[kind]
    shared = writes(
        routed_to=99,
        runs=[new_run(4)],
        running=[step(2, "going", "running")],
        steps=[step(1, "charge", "completed")],
        failures=[failure(1)],
        cancelled=[(NOW, 3)],
        handled=[(NOW, 1)],
        ended=attempted.ended,
        retried=attempted.retried,
        lost=attempted.lost,
        noted=attempted.noted,
    )
    assert refused(runs, shared) == one_refused(path, 2 if kind == "one of several" else 1)
    assert dump(path) == before
    shared.ended, shared.retried, shared.lost, shared.noted = [ended(1, attempt=1)], [], [], []
    runs.commit(shared)
    assert run_row(path, 1)["state"] == "completed"


TO_STATE: dict[RunState, list[Writes]] = {
    RunState.QUEUED: [],
    RunState.RUNNING: [writes(noted=[NotedRun(NOW, 1, 0)])],
    RunState.WAITING: [writes(retried=[RetriedRun(NOW, 0, NOW, 1, 0)])],
    **{state: [writes(ended=[ended(1, state)])] for state in RunState if state.is_final},
}
MOVES: dict[RunInput, tuple[str, Any]] = {
    RunInput.DUE: ("due", (NOW, 1)),
    RunInput.NOTED: ("noted", NotedRun(NOW, 1, 0)),
    RunInput.RETRY: ("retried", RetriedRun(NOW, 0, NOW, 1, 0)),
    RunInput.LOST: ("lost", LostRun(0, False, 1, 0)),
    RunInput.COMPLETE: ("ended", ended(1)),
    RunInput.FAIL: ("ended", ended(1, "failed")),
    RunInput.CANCEL: ("cancelled", (NOW, 1)),
}


@pytest.mark.parametrize("state", RunState)
def test_the_journal_makes_the_moves_of_the_state_machine_and_no_others(
    runs: SqliteJournal, path: Path, state: RunState
) -> None:
    for each in TO_STATE[state]:
        runs.commit(each)
    assert run_row(path, 1)["state"] == state
    before = dump(path)
    for happened, (field, change) in MOVES.items():
        attempted = writes(routed_to=99, **{field: [change]})
        if happened in TRANSITIONS[state]:
            runs.commit(attempted)
            assert run_row(path, 1)["state"] == TRANSITIONS[state][happened]
            restore(path, before)
        else:
            assert refused(runs, attempted) == one_refused(path)
        assert dump(path) == before


def restore(path: Path, before: Dump) -> None:
    """Put the row of run 1 and `routed_to` back: one journal then serves every move."""
    old = next(row for row in before["run"] if row["key"] == 1)
    with closing(apsw.Connection(str(path))) as connection, connection:
        connection.execute(f"UPDATE run SET {', '.join(f'{name} = :{name}' for name in old)} WHERE key = 1", old)
        connection.execute("UPDATE meta SET value = :value", before["meta"][0])


def test_a_change_of_a_run_that_does_not_exist_is_refused(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    for attempted in (writes(ended=[ended(77)]), writes(cancelled=[(NOW, 77)]), writes(due=[(NOW, 77)])):
        assert refused(runs, attempted) == one_refused(path)
    assert dump(path) == before


def test_a_run_ends_once_in_one_commit_too(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    assert refused(runs, writes(ended=[ended(1), ended(1, "failed")])) == one_refused(path, 2)
    assert refused(runs, writes(ended=[ended(1)], cancelled=[(NOW, 1)])) == one_refused(path)
    assert dump(path) == before


def test_a_journal_is_usable_after_a_refusal(runs: SqliteJournal, path: Path) -> None:
    refused(runs, writes(ended=[ended(1, attempt=7)]))
    runs.commit(writes(ended=[ended(1)]))
    assert run_row(path, 1)["state"] == "completed"


# Steps.


def test_a_step_is_given_back_as_it_was_recorded(runs: SqliteJournal) -> None:
    runs.commit(
        writes(
            steps=[
                step(1, "charge", "completed", output='{"id":1.10}'),
                step(1, "charge#2", "retrying", 2),
                step(1, "mail", "failed", 3, attempts=5),
                step(2, "other", "completed"),
            ],
            running=[step(1, "slow", "running", 4, attempts=0)],
            failures=[failure(1, "mail", 3, "first"), failure(1, "mail", 4, "last"), failure(1, "charge#2", 0)],
        )
    )
    assert sorted(runs.steps(1), key=lambda each: each.key) == [
        RecordedStep("charge", StepState.COMPLETED, 1, '{"id":1.10}', None),
        RecordedStep("charge#2", StepState.RETRYING, 1, None, None),
        RecordedStep("mail", StepState.FAILED, 5, None, Failure("ValueError", "last", "Traceback")),
        RecordedStep("slow", StepState.RUNNING, 0, None, None),
    ]
    assert runs.steps(3) == ()


def test_a_step_goes_on_from_attempt_to_attempt_until_it_is_completed(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(running=[step(1, "s", "running", started_at=NOW + 10)]))
    runs.commit(writes(steps=[step(1, "s", "retrying", started_at=NOW + 10, ended_at=NOW + 20)]))
    runs.commit(writes(running=[step(1, "s", "running", attempts=0, started_at=NOW + 30)]))
    assert dump(path)["step"] == [
        {"run": 1, "key": "s", "state": "running", "position": 1, "attempts": 1, "output": None,
         "started_at": NOW + 10, "ended_at": None, "due_at": None},
    ]  # fmt: skip
    runs.commit(writes(steps=[step(1, "s", "completed", 9, attempts=2, started_at=NOW + 30, ended_at=NOW + 40)]))
    assert dump(path)["step"] == [
        {"run": 1, "key": "s", "state": "completed", "position": 1, "attempts": 2, "output": '"kept"',
         "started_at": NOW + 10, "ended_at": NOW + 40, "due_at": None},
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["completed", "failed"])
@pytest.mark.parametrize("again", ["completed", "failed", "retrying"])
def test_a_step_that_has_ended_never_changes(runs: SqliteJournal, path: Path, state: str, again: str) -> None:
    runs.commit(writes(steps=[step(1, "charge", state)]))
    before = dump(path)
    output = '"other"' if again == "completed" else None
    attempted = step(1, "charge", again, attempts=2, output=output, ended_at=NOW + 99)
    assert refused(runs, writes(routed_to=5, steps=[step(1, "new", "completed"), attempted])) == one_refused(path, 2)
    assert dump(path) == before
    # News that it is running came too late: no harm, and no change.
    runs.commit(writes(running=[step(1, "charge", "running")]))
    assert dump(path) == before


@pytest.mark.parametrize(
    "impossible",
    [
        step(1, "s", "bogus"),
        step(1, "s", "completed", output=None),
        step(1, "s", "failed", output='"x"'),
        step(1, "s", "running", ended_at=NOW),
        step(1, "s", "retrying", ended_at=None),
    ],
)
def test_a_step_that_cannot_be_is_not_recorded(runs: SqliteJournal, path: Path, impossible: StepRow) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=5, steps=[step(1, "t", "completed"), impossible]))
    assert dump(path) == before


def test_a_replay_carries_what_was_completed_and_nothing_else(runs: SqliteJournal, path: Path) -> None:
    kept = [step(1, "a", "completed", 1), step(1, "b", "completed", 2, attempts=3, output="[1]")]
    runs.commit(writes(steps=[*kept, step(1, "c", "failed", 3)], running=[step(1, "d", "running", 4)]))
    runs.commit(writes(ended=[ended(1, "failed")]))
    before = [row for row in dump(path)["step"] if row["run"] == 1]
    runs.commit(writes(runs=[new_run(4, replay_of=1)], carried=[(4, 1)]))
    after = dump(path)["step"]
    assert [row for row in after if row["run"] == 1] == before
    assert [row for row in after if row["run"] == 4] == [row | {"run": 4} for row in before[:2]]


# What the engine reads.


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
    runs.commit(writes(runs=made, noted=[NotedRun(NOW, 2, 0)], ended=[ended(3)]))
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
        QueuedRun(key, f"RUN{key}", "g", "p", 1, ranks[key], 0, 0, False, True) for key in (16, 12, 15, 11, 13, 14)
    ]
    after, paged = (-(2**62), 0), []
    while page := runs.queued("g", "p", after, 2):
        assert len(page) <= 2
        paged += page
        after = (page[-1].rank, page[-1].key)
    assert paged == everything
    runs.commit(writes(noted=[NotedRun(NOW, 12, 0)], ended=[ended(11)]))
    assert [each.key for each in runs.queued("g", "p", (3, 12), 99)] == [15, 13, 14]


def test_runs_are_due_when_their_time_has_come_the_earliest_first(runs: SqliteJournal) -> None:
    waits = {1: NOW + 30, 2: NOW + 10, 3: NOW + 20}
    runs.commit(writes(retried=[RetriedRun(due_at, 1, NOW, key, 0) for key, due_at in waits.items()]))
    assert runs.next_due() == NOW + 10
    assert runs.due(NOW + 9, 9) == []
    assert [each.key for each in runs.due(NOW + 10, 9)] == [2]
    assert runs.due(NOW + 30, 2) == [
        QueuedRun(key, f"RUN{key}", f"f{key}", "", 1, NOW, 1, 0, False, True) for key in (2, 3)
    ]
    runs.commit(writes(due=[(NOW + 30, 2), (NOW + 30, 3)]))
    assert (runs.next_due(), [each.key for each in runs.due(NOW + 99, 9)]) == (NOW + 30, [1])
    runs.commit(writes(due=[(NOW + 30, 1)]))
    assert (runs.next_due(), runs.due(NOW + 99, 9)) == (None, [])


def test_a_run_can_wait_from_the_beginning(runs: SqliteJournal) -> None:
    runs.commit(writes(runs=[new_run(4, state="waiting", due_at=NOW + 5)]))
    assert (runs.next_due(), [each.key for each in runs.due(NOW + 5, 9)]) == (NOW + 5, [4])
    assert ("f4", "") not in list(runs.partitions())


def test_a_live_run_is_known_with_its_state_and_attempt(runs: SqliteJournal) -> None:
    runs.commit(writes(noted=[NotedRun(NOW, 1, 0)], retried=[RetriedRun(NOW, 3, NOW, 2, 0)], ended=[ended(3)]))
    live = [runs.live(key) for key in (1, 2, 3, 99)]
    assert live == [(RunState.RUNNING, 0), (RunState.WAITING, 3), None, None]


def test_what_a_dead_engine_left_running_is_queued_again_and_nothing_else_changes(
    runs: SqliteJournal, path: Path
) -> None:
    runs.commit(writes(noted=[NotedRun(NOW, 1, 0)], running=[step(1, "s", "running")]))
    runs.commit(writes(retried=[RetriedRun(NOW, 3, NOW, 2, 0)], ended=[ended(3)]))
    before = dump(path)
    runs.recover(NOW)
    before["run"][0]["state"] = "queued"
    assert dump(path) == before
    runs.recover(NOW)
    assert dump(path) == before


# Replays.


@pytest.mark.parametrize("state", [state for state in RunState if state.is_final])
def test_every_run_that_has_ended_can_be_replayed(runs: SqliteJournal, state: RunState) -> None:
    runs.commit(writes(ended=[ended(2, state)]))
    assert runs.replayable([2], again=False) == [(2, "f2", 1)]


def test_live_and_unknown_runs_are_left_out(runs: SqliteJournal) -> None:
    runs.commit(writes(noted=[NotedRun(NOW, 1, 0)], retried=[RetriedRun(NOW, 3, NOW, 2, 0)]))
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
    for each in TO_STATE[state]:
        runs.commit(for_run(each, 9))
    assert runs.replayable([2], again=False) == ([] if counts else [(2, "f2", 1)])
    assert runs.replayable([2], again=True) == [(2, "f2", 1)]


def for_run(each: Writes, key: int) -> Writes:
    return writes(
        noted=[change._replace(run=key) for change in each.noted],
        retried=[change._replace(run=key) for change in each.retried],
        ended=[change._replace(run=key) for change in each.ended],
    )


# News.


def test_only_what_others_write_is_news(runs: SqliteJournal, path: Path) -> None:
    assert runs.has_news() is False
    runs.append_events([event()], NOW)
    runs.append_request("cancel", {}, NOW)
    runs.commit(writes(routed_to=2))
    assert runs.has_news() is False
    with closing(SqliteJournal(path)) as other:
        other.unrouted(0, 9)
        assert runs.has_news() is False
        other.append_events([event()], NOW)
        assert [runs.has_news(), runs.has_news()] == [True, False]
        other.append_request("cancel", {}, NOW)
        assert [runs.has_news(), runs.has_news()] == [True, False]
        dump(path)
        assert runs.has_news() is False
        assert other.has_news() is False


# The file: what is SQLite's own.


def test_a_commit_is_synced_to_the_disk_and_readers_do_not_wait(journal: SqliteJournal) -> None:
    assert (journal._scalar("PRAGMA synchronous"), journal._scalar("PRAGMA journal_mode")) == (2, "wal")


def test_only_its_owner_can_read_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        journal.append_events([event()], NOW)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("journal.db", "journal.db-shm", "journal.db-wal"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_was_written_is_there_when_it_is_opened_again(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(ended=[ended(1)], steps=[step(1, "s", "completed")]))
    before = dump(path)
    runs.close()
    with closing(SqliteJournal(path)) as again:
        assert dump(path) == before
        assert (again.last_run_key(), again.routed_to()) == (3, 1)
        assert [each.key for each in again.append_events([event()], NOW)] == [2]


OTHER_TOOL = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM event").fetchone()[0])
connection.close()
"""


def count_with_another_tool(path: Path) -> int:
    result = subprocess.run(
        [sys.executable, "-c", OTHER_TOOL, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(result.stdout)


def test_another_tool_that_looks_does_not_take_the_log_away_from_a_process_that_opened_it_twice(
    journal: SqliteJournal, path: Path
) -> None:
    """To close any descriptor of the file drops SQLite's locks on it; the other would then think to be the last."""
    with closing(SqliteJournal(path)) as second:
        assert count_with_another_tool(path) == 0
        journal.append_events([event()], NOW)
        second.append_events([event()], NOW)
        assert count_with_another_tool(path) == 2


def add_column(table: str) -> str:
    return f"ALTER TABLE {table} ADD COLUMN note TEXT; UPDATE {table} SET note = 'old'; "


def version(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return connection.pragma("user_version")  # type: ignore[no-any-return]


def test_an_older_journal_is_brought_up_to_date_step_by_step(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    runs.close()
    later = (*MIGRATIONS, add_column("event"), add_column("meta"))
    with closing(SqliteJournal(path, migrations=later)) as journal:
        after = dump(path)
        journal.recover(NOW)
    for table in ("event", "meta"):
        before[table] = [row | {"note": "old"} for row in before[table]]
    assert (after, version(path)) == (before, len(later))
    with closing(SqliteJournal(path, migrations=later)):
        assert dump(path) == after


def test_every_statement_of_a_migration_is_executed_also_after_one_that_returns_rows(path: Path) -> None:
    script = f"SELECT 1 UNION SELECT 2; {add_column('meta')}"
    with closing(SqliteJournal(path, migrations=(*MIGRATIONS, script))):
        assert dump(path)["meta"] == [{"name": "routed_to", "value": 0, "note": "old"}]


@pytest.mark.parametrize("bad", ["ALTER TABLE missing ADD COLUMN x", "UPDATE meta SET value = NULL", "no SQL at all"])
def test_a_migration_that_fails_leaves_the_older_version_whole(runs: SqliteJournal, path: Path, bad: str) -> None:
    before = dump(path)
    runs.close()
    with pytest.raises(JournalError):
        SqliteJournal(path, migrations=(*MIGRATIONS, add_column("event"), add_column("meta") + bad))
    assert (dump(path), version(path)) == (before, len(MIGRATIONS))
    with closing(SqliteJournal(path)) as journal:
        assert journal.last_run_key() == 3


def test_a_newer_journal_is_refused_and_left_alone(runs: SqliteJournal, path: Path) -> None:
    runs.close()
    later = (*MIGRATIONS, add_column("event"))
    SqliteJournal(path, migrations=later).close()
    before = dump(path)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    known = len(MIGRATIONS)
    assert (raised.value.message, raised.value.hint) == (
        f"the journal `{path}` was written by a newer fanout (its version {known + 1}, known here {known})",
        "upgrade fanout, or name another journal in `[journal] path`",
    )
    assert (dump(path), version(path)) == (before, known + 1)


@pytest.mark.parametrize(
    "content", [b"not a database " * 100, b"{}", b"SQLite format 3\0 and then something else" * 50]
)
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    assert (raised.value.message, raised.value.hint) == (
        f"`{path}` is not a fanout journal",
        "move that file away, or name another in `[journal] path`",
    )
    assert path.read_bytes() == content


def in_a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "journal.db", "can't be opened: File exists"


def below_a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder" / "journal.db", "can't be opened: Not a directory"


def a_folder(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, "can't be used: unable to open database file"


@pytest.mark.parametrize("make", [in_a_file, below_a_file, a_folder])
def test_a_place_where_no_journal_can_be_is_named(tmp_path: Path, make: Callable[[Path], tuple[Path, str]]) -> None:
    path, reason = make(tmp_path)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    assert raised.value.message == f"the journal `{path}` {reason}"


def test_a_new_journal_waits_for_another_process_that_is_making_it(path: Path) -> None:
    """SQLite asks no busy handler when the log is switched on: the waiting is ours."""
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.05, other.execute, ["COMMIT"])
        release.start()
        with closing(SqliteJournal(path)) as journal:
            assert journal.routed_to() == 0
        release.join()


OPEN_AT_ONCE = """
import sys
from pathlib import Path
from fanout.events import NewEvent
from fanout.journal.sqlite import SqliteJournal

print("ready", flush=True)
sys.stdin.readline()
journal = SqliteJournal(Path(sys.argv[1]))
print(journal.append_events([NewEvent("app/hello", "{}")], 1)[0].key)
"""


def test_processes_that_make_the_same_journal_at_once_share_it(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AT_ONCE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    keys = [each.communicate(timeout=60)[0] for each in processes]
    assert sorted(keys) == ["1\n", "2\n", "3\n", "4\n"]
    assert [each.returncode for each in processes] == [0] * 4
    assert [row["key"] for row in dump(path)["event"]] == [1, 2, 3, 4]


def test_a_run_with_steps_is_not_fresh(runs: SqliteJournal) -> None:
    assert runs.queued("f1", "", (0, 0), 9)[0].is_fresh
    runs.commit(writes(steps=[step(1, "s", "completed")]))
    assert not runs.queued("f1", "", (0, 0), 9)[0].is_fresh


def test_somebody_else_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path)
    assert caught.value.message == f"`{path}` is not a fanout journal"
    assert path.read_bytes() == before
