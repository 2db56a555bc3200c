"""What a commit refuses: changes that find a run or step in another state than the engine believed.

Then nothing of it is written. It holds for any journal there will be.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from fanout.core.machine import TRANSITIONS, RunInput
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import RunState, StepState
from tests.unit.journals import (
    NOW,
    Dump,
    dump,
    ended,
    event_row,
    failure,
    lost,
    map_row,
    new_run,
    noted,
    one_refused,
    parked,
    queued_run,
    refused,
    retried,
    retrying,
    run_row,
    step,
    to_state,
    wait,
    waiting,
    writes,
)

STALE: dict[str, Writes] = {
    "ended": writes(ended=[ended(1)]),
    "failed": writes(ended=[ended(1, "failed")]),
    "retried": writes(retried=[retried(1)]),
    "lost": writes(lost=[lost(1)]),
    "noted": writes(noted=[noted(1)]),
    "parked": writes(parked=[parked(1)]),
    "one of several": writes(ended=[ended(2), ended(1)]),
}


@pytest.mark.parametrize("kind", STALE)
def test_a_stale_attempt_is_refused_with_everything_that_shares_its_commit(
    runs: SqliteJournal, path: Path, kind: str
) -> None:
    runs.append_request("cancel", {"runs": [3]}, NOW)
    runs.commit(writes(retried=[retried(1)]))
    runs.commit(writes(due=[(NOW + 1, "", 1)]))
    assert runs.live(1) == (queued_run(1, rank=NOW + 1, attempt=1, started_at=NOW), RunState.QUEUED, None, None)
    before = dump(path)
    attempted = STALE[kind]
    shared = writes(
        routed_to=99,
        events=[event_row(-1), event_row(None)],
        runs=[new_run(4)],
        waits=[wait(2)],
        maps={(2, "map"): map_row(2)},
        running=[step(2, "going", "running")],
        steps=[step(1, "charge", "completed")],
        failures=[failure(1)],
        cancelled=[("cancelled", None, NOW, 3)],
        abandoned=[(NOW, 3)],
        handled=[(NOW, None, 1)],
        ended=attempted.ended,
        retried=attempted.retried,
        lost=attempted.lost,
        noted=attempted.noted,
        parked=attempted.parked,
    )
    assert refused(runs, shared) == one_refused(path, 2 if kind == "one of several" else 1)
    assert dump(path) == before
    shared.ended, shared.retried, shared.lost, shared.noted, shared.parked = [ended(1, attempt=1)], [], [], [], []
    runs.commit(shared)
    assert run_row(path, 1)["state"] == "completed"


def test_only_the_attempt_that_was_parked_can_go_on(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(retried=[retried(1)]))
    runs.commit(writes(due=[(NOW, "", 1)]))
    runs.commit(writes(parked=[parked(1, attempt=1)]))
    before = dump(path)
    assert refused(runs, writes(routed_to=99, resumed=[(1, 0)])) == one_refused(path)
    assert dump(path) == before
    runs.commit(writes(resumed=[(1, 1)]))
    assert run_row(path, 1)["state"] == "running"


MOVES: dict[RunInput, tuple[str, Any]] = {
    RunInput.DUE: ("due", (NOW, "", 1)),
    RunInput.RESUME: ("resumed", (1, 0)),
    RunInput.NOTED: ("noted", noted(1)),
    RunInput.PARK: ("parked", parked(1)),
    RunInput.RETRY: ("retried", retried(1, next_attempt=0)),
    RunInput.LOST: ("lost", lost(1)),
    RunInput.COMPLETE: ("ended", ended(1)),
    RunInput.FAIL: ("ended", ended(1, "failed")),
    RunInput.CANCEL: ("cancelled", ("cancelled", None, NOW, 1)),
    RunInput.SKIP: ("skipped", ("why", NOW, 1)),
}


def test_every_input_of_the_state_machine_is_a_change_of_the_journal() -> None:
    assert set(MOVES) == set(RunInput)


@pytest.mark.parametrize("state", RunState)
def test_the_journal_makes_the_moves_of_the_state_machine_and_no_others(
    runs: SqliteJournal, path: Path, state: RunState
) -> None:
    runs.commit(to_state(1, state))
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


@pytest.mark.parametrize(
    "field", ["ended", "retried", "lost", "noted", "parked", "resumed", "due", "cancelled", "skipped"]
)
def test_a_change_of_a_run_that_does_not_exist_is_refused(runs: SqliteJournal, path: Path, field: str) -> None:
    rows: dict[str, Any] = {
        "ended": ended(77), "retried": retried(77), "lost": lost(77), "noted": noted(77), "parked": parked(77),
        "resumed": (77, 0), "due": (NOW, "", 77), "cancelled": ("cancelled", None, NOW, 77),
        "skipped": ("why", NOW, 77),
    }  # fmt: skip
    before = dump(path)
    assert refused(runs, writes(routed_to=9, **{field: [rows[field]]})) == one_refused(path)
    assert dump(path) == before


def test_a_run_ends_once_in_one_commit_too(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    cancelled = ("cancelled", None, NOW, 1)
    assert refused(runs, writes(ended=[ended(1), ended(1, "failed")])) == one_refused(path, 2)
    assert refused(runs, writes(ended=[ended(1)], cancelled=[cancelled])) == one_refused(path)
    assert refused(runs, writes(cancelled=[cancelled, cancelled])) == one_refused(path, 2)
    assert dump(path) == before


def test_a_journal_is_usable_after_a_refusal(runs: SqliteJournal, path: Path) -> None:
    refused(runs, writes(ended=[ended(1, attempt=7)]))
    runs.commit(writes(ended=[ended(1)]))
    assert run_row(path, 1)["state"] == "completed"


# Steps.


STEPS: dict[StepState, Any] = {
    StepState.RUNNING: step(1, "s", "running"),
    StepState.RETRYING: retrying(1, "s"),
    StepState.WAITING: waiting(1, "s"),
    StepState.COMPLETED: step(1, "s"),
    StepState.FAILED: step(1, "s", "failed"),
    StepState.CANCELLED: step(1, "s", "cancelled"),
}
OPEN = {StepState.RETRYING, StepState.WAITING}
STEP_MOVES: dict[str, tuple[tuple[str, Any], set[StepState]]] = {
    "recorded": (("steps", step(1, "s")), {StepState.RUNNING, *OPEN}),
    "resolved": (("resolved", ("completed", "1", NOW, 1, "s")), OPEN),
    "gathered": (("gathered", (NOW, 1, "s")), OPEN),
    "tried": (("tried", (1, "s")), {StepState.RETRYING}),
}


def test_every_state_of_a_step_is_tried() -> None:
    assert set(STEPS) == set(StepState)


@pytest.mark.parametrize("move", STEP_MOVES)
@pytest.mark.parametrize("state", STEPS)
def test_a_step_is_changed_only_in_a_state_that_is_not_final(
    runs: SqliteJournal, path: Path, state: StepState, move: str
) -> None:
    runs.commit(writes(steps=[STEPS[state]]))
    before = dump(path)
    (field, change), allowed = STEP_MOVES[move]
    attempted = writes(routed_to=99, events=[event_row(-1)], runs=[new_run(4)], ended=[ended(2)], **{field: [change]})
    if state in allowed:
        runs.commit(attempted)
        assert runs.routed_to() == 99
    else:
        assert refused(runs, attempted) == one_refused(path)
        assert dump(path) == before


@pytest.mark.parametrize("move", ["resolved", "gathered", "tried"])
def test_a_change_of_a_step_that_does_not_exist_is_refused(runs: SqliteJournal, path: Path, move: str) -> None:
    runs.commit(writes(steps=[waiting(2, "s"), retrying(1, "other")]))
    before = dump(path)
    field, change = STEP_MOVES[move][0]
    assert refused(runs, writes(routed_to=99, **{field: [change]})) == one_refused(path)
    assert dump(path) == before


def test_a_step_is_resolved_once_in_one_commit_too(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(steps=[waiting(1, "s")]))
    before = dump(path)
    twice = [("completed", "1", NOW, 1, "s"), ("failed", None, NOW, 1, "s")]
    assert refused(runs, writes(resolved=twice)) == one_refused(path, 2)
    assert refused(runs, writes(resolved=twice[:1], gathered=[(NOW, 1, "s")])) == one_refused(path)
    assert dump(path) == before
