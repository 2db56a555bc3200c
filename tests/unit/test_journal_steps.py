"""What a journal remembers of steps. It holds for any journal there will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.errors import JournalError
from fanout.journal.rows import Carried, DueStep, ResolvedStep, StepRow
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import Failure, StepKind, StepState
from fanout.protocol import RecordedStep
from tests.unit.journals import (
    NOW,
    dump,
    ended,
    failure,
    map_row,
    new_run,
    one_refused,
    refused,
    retrying,
    step,
    step_row,
    wait,
    waiting,
    writes,
)

FAILURE = Failure("ValueError", "last", "Traceback")


def test_a_step_is_given_back_as_it_was_recorded(runs: SqliteJournal) -> None:
    runs.commit(
        writes(
            steps=[
                step(1, "charge", "completed", output='{"id":1.10}'),
                retrying(1, "charge#2", due_at=NOW + 7),
                step(1, "mail", "failed", 3, attempts=5, branch="0a:1.2"),
                waiting(1, "nap", due_at=NOW + 9),
                waiting(1, "paid", "wait", due_at=None, branch="0a:2"),
                step(1, "sent", kind="send", output='["01E"]'),
                step(1, "asked", "cancelled", kind="invoke"),
                step(2, "other", "completed"),
            ],
            running=[step(1, "slow", "running", 4, attempts=0)],
            failures=[failure(1, "mail", 3, "first"), failure(1, "mail", 4, "last"), failure(1, "charge#2", 0)],
        )
    )
    expected = [
        RecordedStep("asked", "", StepState.CANCELLED, 1, None, None, kind=StepKind.INVOKE),
        RecordedStep("charge", "", StepState.COMPLETED, 1, '{"id":1.10}', None),
        RecordedStep("charge#2", "", StepState.RETRYING, 1, None, None, NOW + 7),
        RecordedStep("mail", "0a:1.2", StepState.FAILED, 5, None, FAILURE),
        RecordedStep("nap", "", StepState.WAITING, 1, None, None, NOW + 9, None, StepKind.SLEEP),
        RecordedStep("paid", "0a:2", StepState.WAITING, 1, None, None, None, None, StepKind.WAIT),
        RecordedStep("sent", "", StepState.COMPLETED, 1, '["01E"]', None, kind=StepKind.SEND),
        RecordedStep("slow", "", StepState.RUNNING, 0, None, None),
    ]
    assert sorted(runs.steps(1), key=lambda each: each.key) == expected
    assert [runs.step(1, each.key) for each in expected] == expected
    assert runs.steps(3) == ()


def test_a_step_is_open_while_it_waits_or_is_to_be_tried_again(runs: SqliteJournal) -> None:
    states = [step(1, state, state) for state in ("running", "completed", "failed", "cancelled")]
    runs.commit(writes(steps=[*states, waiting(1, "waiting"), retrying(1, "retrying", due_at=None)]))
    assert {state: runs.is_open(1, state) for state in StepState} == {
        "running": False, "retrying": True, "waiting": True, "completed": False, "failed": False, "cancelled": False,
    }  # fmt: skip
    assert (runs.is_open(2, "waiting"), runs.is_open(1, "missing")) == (False, False)


def test_a_step_goes_on_from_attempt_to_attempt_until_it_is_completed(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(running=[step(1, "s", "running", started_at=NOW + 10)]))
    runs.commit(writes(steps=[retrying(1, "s", NOW + 25, started_at=NOW + 10, ended_at=NOW + 20)]))
    row = {
        "run": 1, "key": "s", "kind": "run", "branch": "", "state": "retrying", "position": 1, "attempts": 1,
        "output": None, "started_at": NOW + 10, "ended_at": NOW + 20, "due_at": NOW + 25, "is_unreached": 0,
        "attempted_at": None,
    }  # fmt: skip
    assert dump(path)["step"] == [row]
    runs.commit(writes(running=[step(1, "s", "running", attempts=0, started_at=NOW + 30)]))
    assert dump(path)["step"] == [row | {"state": "running", "ended_at": None, "due_at": None}]
    runs.commit(writes(steps=[step(1, "s", "completed", 9, attempts=2, started_at=NOW + 30, ended_at=NOW + 40)]))
    assert dump(path)["step"] == [
        row
        | {"state": "completed", "attempts": 2, "output": '"kept"', "ended_at": NOW + 40, "due_at": None}
        | {"attempted_at": NOW + 30}
    ]


def test_a_step_whose_time_to_be_tried_again_has_come_is_due_no_more(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(steps=[retrying(1, "s", NOW + 7)]))
    before = step_row(path, 1, "s")
    assert runs.next_due() == NOW + 7
    runs.commit(writes(tried=[(1, "s")]))
    assert step_row(path, 1, "s") == before | {"due_at": None}
    assert (runs.next_due(), runs.due_steps(NOW + 99, 9)) == (None, [])
    runs.commit(writes(tried=[(1, "s")]))  # It is said again if a worker dies before it is tried.


@pytest.mark.parametrize("state", ["completed", "failed"])
@pytest.mark.parametrize("first", [waiting(1, "s", attempts=4), retrying(1, "s", attempts=4)])
def test_what_a_step_waited_for_is_its_end(runs: SqliteJournal, path: Path, first: StepRow, state: str) -> None:
    runs.commit(writes(steps=[first]))
    before = step_row(path, 1, "s")
    output = '{"id":"01E"}' if state == "completed" else None
    runs.commit(writes(resolved=[ResolvedStep(state, output, NOW + 50, 1, "s")]))
    assert step_row(path, 1, "s") == before | {
        "state": state, "output": output, "ended_at": NOW + 50, "due_at": None,
    }  # fmt: skip
    assert runs.next_due() is None


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("again", ["completed", "failed", "retrying", "waiting"])
def test_a_step_that_has_ended_never_changes(runs: SqliteJournal, path: Path, state: str, again: str) -> None:
    runs.commit(writes(steps=[step(1, "charge", state)]))
    before = dump(path)
    made = {"retrying": retrying(1, "charge"), "waiting": waiting(1, "charge")}.get(again, step(1, "charge", again))
    attempted = made._replace(attempts=2, output='"other"' if again == "completed" else None)
    assert refused(runs, writes(routed_to=5, steps=[step(1, "new", "completed"), attempted])) == one_refused(path, 2)
    assert dump(path) == before
    # News that it is running came too late: no harm, and no change.
    runs.commit(writes(running=[step(1, "charge", "running")]))
    assert dump(path) == before


def test_a_waiting_step_is_not_shown_as_running(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(steps=[waiting(1, "nap")]))
    before = dump(path)
    runs.commit(writes(running=[step(1, "nap", "running")]))
    assert dump(path) == before


@pytest.mark.parametrize(
    "impossible",
    [
        step(1, "s", "bogus"),
        step(1, "s", kind="bogus"),
        step(1, "s", "completed", output=None),
        step(1, "s", "failed", output='"x"'),
        step(1, "s", "waiting", output='"x"'),
        step(1, "s", "running", ended_at=NOW),
        step(1, "s", "waiting", ended_at=NOW),
        step(1, "s", "retrying", ended_at=None),
        step(1, "s", "completed", due_at=NOW),
        step(1, "s", "running", due_at=NOW),
    ],
)
def test_a_step_that_cannot_be_is_not_recorded(runs: SqliteJournal, path: Path, impossible: StepRow) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=5, steps=[step(1, "t", "completed"), impossible]))
    assert dump(path) == before


# What becomes of steps when their run ends, and after.


def test_a_run_that_ends_gives_up_what_waits_and_leaves_the_rest(runs: SqliteJournal, path: Path) -> None:
    kept = [step(1, state, state) for state in ("running", "completed", "failed", "cancelled")]
    other = [waiting(2, "nap"), retrying(2, "mail")]
    runs.commit(
        writes(
            steps=[*kept, waiting(1, "nap"), retrying(1, "mail"), waiting(1, "map", "map", None), *other],
            waits=[wait(1, "nap"), wait(1, "", number=1), wait(2, "nap")],
            maps={(1, "map"): map_row(1), (2, "map"): map_row(2)},
        )
    )
    before = {(row["run"], row["key"]): row for row in dump(path)["step"]}
    runs.commit(writes(ended=[ended(1)], abandoned=[(NOW + 50, 1)]))
    after = dump(path)
    gone = {"state": "cancelled", "ended_at": NOW + 50, "due_at": None}
    assert {(row["run"], row["key"]): row for row in after["step"]} == before | {
        (1, key): before[1, key] | gone for key in ("nap", "mail", "map")
    }
    assert [[(row["run"], row["step"]) for row in after[table]] for table in ("wait", "map")] == [
        [(2, "nap")], [(2, "map")],
    ]  # fmt: skip


def test_steps_that_the_code_did_not_come_to_are_marked(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(steps=[step(1, "a"), step(1, "a#2"), step(2, "a")]))
    runs.commit(writes(ended=[ended(1)], unreached=[(1, "a#2"), (1, "missing")]))
    assert [(row["run"], row["key"], row["is_unreached"]) for row in dump(path)["step"]] == [
        (1, "a", 0), (1, "a#2", 1), (2, "a", 0),
    ]  # fmt: skip


def test_a_replay_carries_what_was_completed_and_nothing_else(runs: SqliteJournal, path: Path) -> None:
    kept = [
        step(1, "a", "completed", 1, branch="0a:1"),
        step(1, "b", "completed", 2, attempts=3, output="[1]"),
        step(1, "c", "completed", 3, kind="wait", output="null"),
    ]
    left = [step(1, "d", "failed", 4), step(1, "e", "cancelled"), waiting(1, "f"), retrying(1, "g")]
    runs.commit(writes(steps=[*kept, *left], running=[step(1, "h", "running", 5)]))
    runs.commit(writes(ended=[ended(1, "failed")], unreached=[(1, "a")]))
    before = [row for row in dump(path)["step"] if row["run"] == 1]
    runs.commit(writes(runs=[new_run(4, replay_of=1)], carried=[Carried(4, 1)]))
    after = dump(path)["step"]
    assert [row for row in after if row["run"] == 1] == before
    assert [row for row in after if row["run"] == 4] == [row | {"run": 4, "is_unreached": 0} for row in before[:3]]


def test_a_run_with_steps_is_not_fresh(runs: SqliteJournal) -> None:
    assert runs.queued("f1", "", (0, 0), 9)[0].is_fresh
    runs.commit(writes(steps=[step(1, "s", "completed")]))
    assert not runs.queued("f1", "", (0, 0), 9)[0].is_fresh


# When steps are due.


def test_steps_are_due_when_their_time_has_come_the_earliest_first(runs: SqliteJournal) -> None:
    runs.commit(
        writes(
            steps=[
                waiting(1, "nap", due_at=NOW + 30),
                retrying(1, "mail", NOW + 10),
                waiting(2, "paid", "wait", NOW + 20),
                waiting(2, "asked", "invoke", None),
                waiting(3, "asked", "invoke", NOW + 40),
            ]
        )
    )
    due = [
        DueStep(1, "mail", StepKind.RUN, StepState.RETRYING),
        DueStep(2, "paid", StepKind.WAIT, StepState.WAITING),
        DueStep(1, "nap", StepKind.SLEEP, StepState.WAITING),
        DueStep(3, "asked", StepKind.INVOKE, StepState.WAITING),
    ]
    assert runs.next_due() == NOW + 10
    assert [runs.due_steps(now, 9) for now in (NOW + 9, NOW + 10, NOW + 39, NOW + 40)] == [[], due[:1], due[:3], due]
    assert runs.due_steps(NOW + 40, 2) == due[:2]


@pytest.mark.parametrize(
    "change",
    [
        writes(tried=[(1, "s")]),
        writes(resolved=[("completed", "1", NOW, 1, "s")]),
        writes(steps=[step(1, "s")]),
        writes(running=[step(1, "s", "running")]),
        writes(ended=[ended(1)], abandoned=[(NOW, 1)]),
    ],
)
def test_a_step_that_goes_on_is_not_due_any_more(runs: SqliteJournal, change: Writes) -> None:
    runs.commit(writes(steps=[retrying(1, "s", NOW)]))
    assert runs.next_due() == NOW
    runs.commit(change)
    assert (runs.next_due(), runs.due_steps(NOW + 99, 9)) == (None, [])


def test_what_is_next_is_the_earliest_of_steps_runs_and_deadlines(runs: SqliteJournal) -> None:
    def earliest(**changes: Any) -> int | None:
        runs.commit(writes(**changes))
        return runs.next_due()

    assert earliest(runs=[new_run(4, deadline_at=NOW + 30)]) == NOW + 30
    assert earliest(runs=[new_run(5, state="waiting", due_at=NOW + 20)]) == NOW + 20
    assert earliest(steps=[waiting(1, "nap", due_at=NOW + 10)]) == NOW + 10
    assert earliest(steps=[step(1, "nap")]) == NOW + 20
    assert earliest(due=[(NOW, "", 5)]) == NOW + 30
    assert earliest(ended=[ended(4)]) is None
