"""A run and its steps as people see them, and what a run waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.journal.awaited import Awaited, AwaitedEvent, Children, Relatives
from fanout.journal.family import LeftOver
from fanout.journal.filters import EVERY_RUN, RunFilter
from fanout.model import Run, RunState, StepKind, StepState
from tests.unit.filled import NOW, Filled, event_id, filled, run_id

STATES = frozenset({RunState.QUEUED, RunState.COMPLETED})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    with filled(tmp_path) as made:
        made.event(1)
        yield made


def read(journal: Filled, key: int = 1) -> Run:
    with journal.reader() as reader:
        return reader.run(run_id(key))


@pytest.mark.parametrize(
    ("own", "steps", "due_at"),
    [
        (None, {}, None),
        (NOW + 5, {}, NOW + 5),
        (None, {"a": NOW + 9, "b": NOW + 7, "c": None}, NOW + 7),
        (NOW + 20, {"a": NOW + 9}, NOW + 20),
    ],
)
def test_a_waiting_run_goes_on_at_its_own_time_or_at_that_of_its_first_step(
    journal: Filled, own: int | None, steps: dict[str, int | None], due_at: int | None
) -> None:
    journal.run(1, "f", 1, "waiting", due_at=own)
    for name, at in steps.items():
        journal.step(1, name, "waiting", "sleep", due_at=at)
    assert read(journal).due_at == due_at


@pytest.mark.parametrize(
    ("state", "run", "attempts"),
    [
        ("queued", {}, 0),
        ("completed", {"attempt": 2}, 3),
        ("waiting", {"attempt": 1}, 2),  # It is parked in its second attempt.
        ("waiting", {"attempt": 1, "due_at": NOW}, 1),  # It waits for its second attempt.
        ("waiting", {"due_at": NOW, "started_at": None}, 0),  # Its event is of the future.
        ("failed", {"crashes": 3, "reason": "crashed"}, 3),
    ],
)
def test_attempts_are_executions_so_far(journal: Filled, state: str, run: dict[str, Any], attempts: int) -> None:
    journal.run(1, "f", 1, state, **run)
    assert read(journal).attempts == attempts


def test_a_waiting_run_shows_only_a_failure_that_it_waits_to_get_over(journal: Filled) -> None:
    journal.run(1, "f", 1, "waiting")
    journal.step(1, "flaky")
    journal.failure(1, "flaky", "OSError", "it is over")
    journal.step(1, "nap", "waiting", "sleep", due_at=NOW)
    assert read(journal).error is None
    journal.step(1, "other", "retrying", due_at=NOW)
    journal.failure(1, "other", "ValueError", "again")
    assert str(read(journal).error) == "ValueError: again"


def test_a_run_between_two_attempts_shows_why(journal: Filled) -> None:
    journal.run(1, "f", 1, "waiting", due_at=NOW, attempt=1)
    journal.failure(1, "", "ValueError", "the body")
    assert str(read(journal).error) == "ValueError: the body"


def test_steps_say_what_they_are_and_what_became_of_them(journal: Filled) -> None:
    journal.run(1, "f", 1, "cancelled")
    journal.step(1, "cut-off", "running", position=1)
    journal.step(1, "nap", "cancelled", "sleep", position=2)
    journal.step(1, "old", "completed", "invoke", position=3, is_unreached=1)
    seen = [
        (step.name, step.kind, step.state, step.attempts, step.ended_at, step.is_unreached)
        for step in read(journal).steps
    ]
    assert seen == [
        ("cut-off", StepKind.RUN, StepState.CANCELLED, 2, NOW + 9, False),
        ("nap", StepKind.SLEEP, StepState.CANCELLED, 1, NOW + 5, False),
        ("old", StepKind.INVOKE, StepState.COMPLETED, 1, NOW + 5, True),
    ]


def test_a_step_cut_off_by_its_workers_death_failed(journal: Filled) -> None:
    journal.run(1, "f", 1, "failed", reason="crashed")
    journal.step(1, "deadly", "running")
    assert [step.state for step in read(journal).steps] == [StepState.FAILED]


def test_what_steps_wait_for(journal: Filled) -> None:
    journal.run(1, "f", 1, "waiting")
    journal.step(1, "nap", "waiting", "sleep", position=1, due_at=NOW + 5)
    journal.step(1, "pay", "waiting", "wait", position=2, due_at=NOW + 9)
    journal.insert("wait", run=1, step="pay", number=0, event="app/paid", path="data.id", value="7", condition="1 < 2")
    journal.insert("wait", run=1, step="", number=0, event="app/stop", path="", value="", expires_at=NOW + 1)
    journal.step(1, "ship", "waiting", "invoke", position=3)
    journal.child(2, "ship", 1, "ship", "running")
    journal.step(1, "mails", "waiting", "map", position=4)
    journal.insert(
        "map", run=1, step="mails", function="mail", taken=3, ended=2, is_exhausted=0, max_in_flight=9, is_collecting=0
    )
    for key, state in ((3, "completed"), (4, "failed"), (5, "queued")):
        journal.child(key, "mail", 1, "mails", state)
    journal.step(1, "done", position=5)
    with journal.reader() as reader:
        assert reader.awaited(1) == [
            Awaited("nap", StepKind.SLEEP, NOW + 5),
            Awaited("pay", StepKind.WAIT, NOW + 9, AwaitedEvent("app/paid", "data.id", "7", "1 < 2", None)),
            Awaited("ship", StepKind.INVOKE, None, children=Children("ship", "ship", run_id(2), {RunState.RUNNING: 1})),
            Awaited(
                "mails",
                StepKind.MAP,
                None,
                children=Children(
                    "mails", "mail", run_id(3), {RunState.COMPLETED: 1, RunState.FAILED: 1, RunState.QUEUED: 1}
                ),
                has_more=True,
            ),
        ]
        assert reader.cancelling_events(1) == [AwaitedEvent("app/stop", "", "", None, NOW + 1)]


def test_whom_a_run_has_to_do_with(journal: Filled) -> None:
    journal.run(1, "order", 1)
    journal.child(2, "mail", 1, "mails", item=4, item_key="ada")
    journal.event(3, "app/shipped", origin=2)
    journal.event(4, "app/shipped", origin=2)
    journal.event(5, "app/billed", origin=2)
    journal.run(6, "tell", 3)
    journal.run(7, "tell", 3, "failed", replay_of=6)
    with journal.reader() as reader:
        assert reader.relatives(1) == Relatives(
            None, None, None, None, (Children("mails", "mail", run_id(2), {RunState.COMPLETED: 1}),), (), ()
        )
        assert reader.relatives(2) == Relatives(
            None, "mails", 4, "ada", (), (("app/shipped", 2, event_id(3)), ("app/billed", 1, event_id(5))), ()
        )
        assert reader.relatives(6) == Relatives(run_id(2), None, None, None, (), (), ((run_id(7), RunState.FAILED),))
        assert reader.run(run_id(2)).parent == run_id(1)


def test_children_that_were_cancelled_with_a_run_are_counted_at_any_depth(journal: Filled) -> None:
    journal.run(1, "order", 1, "cancelled", ended_at=NOW + 50)
    journal.child(2, "a", 1, "a", "cancelled", ended_at=NOW + 50)
    journal.child(3, "b", 2, "b", "cancelled", ended_at=NOW + 50)
    journal.child(4, "b", 2, "b", "completed")
    journal.child(5, "c", 1, "c", "cancelled", ended_at=NOW + 10)
    with journal.reader() as reader:
        assert reader.cancelled_children(1, NOW + 50) == 2


def test_what_is_left_from_before_is_what_goes_on_by_itself(journal: Filled) -> None:
    with journal.reader() as reader:
        assert reader.left_over(NOW) == LeftOver(0, 0, 0)
    for key, state, due_at, steps in (
        (1, "queued", None, [NOW]),
        (2, "completed", None, []),
        (3, "waiting", NOW, []),
        (4, "waiting", NOW + 1, []),
        (5, "waiting", None, [NOW - 9, NOW]),
        (6, "waiting", None, [NOW + 1, None]),
        (7, "running", None, []),
    ):
        journal.run(key, f"f{key}", 1, state, due_at=due_at)
        for number, at in enumerate(steps):
            journal.step(key, f"nap {number}", "waiting", "sleep", due_at=at)
    journal.event(2)
    journal.event(3)
    journal.routed_to(2)
    journal.request("invoke", is_handled=True)
    journal.request("invoke", is_handled=False)
    with journal.reader() as reader:
        assert reader.left_over(NOW) == LeftOver(events=1, runs=3, requests=1)


def test_what_the_engine_made_of_a_request(journal: Filled) -> None:
    journal.run(1, "f", 1)
    asked = [
        journal.request("invoke", is_handled=False),
        journal.request("invoke", is_handled=True),
        journal.request("invoke", is_handled=True, run=1),
    ]
    with journal.reader() as reader:
        assert [reader.request_answer(request) for request in asked] == [(False, None), (True, None), (True, 1)]


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        (None, None, [6, 5]),
        (5, None, [4, 3]),
        (1, None, []),
        (None, 2, [4, 3]),
        (None, 6, []),
        (5, 3, [4]),
    ],
)
@pytest.mark.parametrize("meant", [EVERY_RUN, RunFilter(function="f"), RunFilter(event="app/*", states=STATES)])
def test_a_page_is_the_nearest_runs_beside_a_key(
    journal: Filled, meant: RunFilter, before: int | None, after: int | None, keys: list[int]
) -> None:
    for key in range(1, 7):
        journal.run(key, "f", 1, "queued" if key == 4 else "completed", replay_of=None if key == 1 else 1)
    with journal.reader() as reader:
        assert [run.key for run in reader.runs(meant, limit=2, before=before, after=after)] == keys


def test_live_runs_are_counted_up_to_a_bound(journal: Filled) -> None:
    for key, state in enumerate(["queued"] * 5 + ["running"] + ["failed"] * 3, 1):
        journal.run(key, "f", 1, state, replay_of=None if key == 1 else 1)
    with journal.reader() as reader:
        assert reader.live_counts(3) == {RunState.QUEUED: 3, RunState.RUNNING: 1, RunState.WAITING: 0}
