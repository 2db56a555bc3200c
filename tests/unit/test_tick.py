"""What one tick writes for what it was told, and whom it tells afterwards."""

from __future__ import annotations

import pytest

from fanout.core import flow
from fanout.engine.roster import Active
from fanout.engine.tick import Tick
from fanout.journal.rows import (
    EndedRun,
    FailureRow,
    LostRun,
    NotedRun,
    ParkedRun,
    QueuedRun,
    RetriedRun,
    StepRow,
)
from fanout.model import Failure, FunctionSpec, RunState, StepKind, TimeLimits
from fanout.protocol import (
    Awaited,
    EventWait,
    Evict,
    Invoke,
    Map,
    Recorded,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
)

SPEC = FunctionSpec(
    id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False, timeouts=TimeLimits(finish_ms=900)
)
FAILURE = Failure("ValueError", "no", "Traceback")


def active(claim: int = 1, worker: int = 5, *, started_at: int | None = None) -> Active:
    run = QueuedRun(100 + claim, f"r{claim}", "f", "", 1, 0, 2, 1, True, started_at, is_fresh=True)
    return Active(claim, run, SPEC, worker, started_at=70)


def completed(call: int, key: str = "s") -> StepCompleted:
    return StepCompleted(1, call, key, "0a:1", 3, 2, '"x"', 10, 20, StepKind.SEND)


def waits(awaited: Awaited) -> StepWaits:
    return StepWaits(1, "s", "0a:1", 3, 10, awaited)


def step(
    state: str, kind: str = "run", *, attempts: int = 1, ended_at: int | None = None, due_at: int | None = None
) -> StepRow:
    return StepRow(101, "s", kind, "0a:1", state, 3, attempts, None, 10, ended_at, due_at)


# Steps.


def test_a_completed_step_is_written_and_acknowledged_afterwards() -> None:
    tick, one = Tick(), active()
    tick.step_completed(one, completed(7))
    assert tick.writes.steps == [StepRow(101, "s", "send", "0a:1", "completed", 3, 2, '"x"', 10, 20)]
    assert tick.out == {}
    tick.tell_recorded()
    assert tick.out == {5: [Recorded((7,))]}


def test_acknowledgements_are_one_message_a_worker_and_none_for_what_is_over() -> None:
    tick, one, other, over = Tick(), active(1, 5), active(2, 6), active(3, 5)
    for each, call in ((one, 7), (other, 8), (over, 9), (one, 10)):
        tick.step_completed(each, completed(call, f"s{call}"))
    over.is_over = True
    tick.tell(5, Evict(3))
    tick.tell_recorded()
    assert tick.out == {5: [Evict(3), Recorded((7, 10))], 6: [Recorded((8,))]}


@pytest.mark.parametrize(("due_at", "state"), [(None, "failed"), (500, "retrying")])
def test_a_failed_attempt_of_a_step_is_written_with_its_failure(due_at: int | None, state: str) -> None:
    tick = Tick()
    failed = StepFailed(1, "s", "0a:1", 3, 4, FAILURE, 10, 20, True, None)
    tick.step_failed(active(), failed, 25, due_at=due_at)
    assert tick.writes.steps == [step(state, attempts=4, ended_at=20, due_at=due_at)]
    assert tick.writes.failures == [FailureRow(101, "s", 3, "ValueError", "no", "Traceback", 25, 10)]


def test_a_running_step_is_only_shown() -> None:
    tick = Tick()
    tick.step_running(active(), StepRunning(1, "s", "0a:1", 3, 10))
    assert (tick.writes.running, tick.writes.steps) == ([step("running", attempts=0)], [])


@pytest.mark.parametrize(
    ("awaited", "kind"),
    [
        (Sleep(500), "sleep"),
        (EventWait("app/paid", 500, None, None), "wait"),
        (Invoke("g", "{}", 500), "invoke"),
        (Map("g", 10, False), "map"),
    ],
)
def test_a_waiting_step_is_written_as_what_it_waits_for(awaited: Awaited, kind: str) -> None:
    tick = Tick()
    tick.step_waits(active(), waits(awaited), 500)
    assert tick.writes.steps == [step("waiting", kind, due_at=500)]


def test_a_step_that_asks_for_what_cannot_be_has_failed_and_its_worker_is_told() -> None:
    tick, one = Tick(), active()
    tick.step_refused(one, waits(Invoke("g", "{}", None)), FAILURE, 25)
    assert tick.writes.steps == [step("failed", "invoke", ended_at=25)]
    assert tick.writes.failures == [FailureRow(101, "s", 0, "ValueError", "no", "Traceback", 25)]
    assert tick.changed == [(one, "s")]


# Runs. Whatever is written of an execution is guarded by its attempt.


def test_an_end_is_written_with_its_reason_and_output() -> None:
    tick = Tick()
    tick.end(active(), RunState.FAILED, 80, reason="timed out")
    tick.end(active(2), RunState.COMPLETED, 81, output='"x"')
    assert tick.writes.ended == [
        EndedRun("failed", "timed out", None, 70, 80, 1, 101, 2),
        EndedRun("completed", None, '"x"', 70, 81, 1, 102, 2),
    ]


def test_a_retry_is_the_next_attempt_of_a_run_that_waits() -> None:
    tick = Tick()
    tick.retry(active(), 500)
    assert tick.writes.retried == [RetriedRun(500, 3, 70, 970, 101, 2)]
    assert tick.ready == []


def test_a_parked_run_is_known_as_it_will_be_when_it_is_queued_again() -> None:
    tick, one, again = Tick(), active(), active(2, started_at=30)
    tick.park(one)
    tick.park(again)
    assert tick.writes.parked == [ParkedRun(70, 970, 101, 2), ParkedRun(70, 930, 102, 2)]
    assert tick.parked == {101: one.run._replace(started_at=70), 102: again.run}


def test_a_lost_run_is_queued_again_with_its_charges_and_no_longer_fresh() -> None:
    tick, one = Tick(), active()
    tick.requeue(one)
    partition = flow.begun(one.run.partition)
    assert tick.writes.lost == [LostRun(1, True, 70, 970, 101, 2, partition)]
    assert tick.ready == [one.run._replace(partition=partition, started_at=70, is_fresh=False)]


def test_a_run_that_is_queued_again_or_retried_is_not_made_ready_by_its_steps_as_well() -> None:
    """In the same tick the journal still says that it waits, as it was when it was parked."""
    tick = Tick()
    tick.requeue(active(1))
    tick.retry(active(2), 900)
    assert tick.woken == {101, 102}


def test_what_has_been_executing_for_a_while_is_noted() -> None:
    tick, one = Tick(), active()
    tick.note(one)
    assert (tick.writes.noted, one.is_noted) == ([NotedRun(70, 970, 101, 2)], True)


def test_a_tick_in_which_nothing_was_decided_has_nothing_to_write() -> None:
    tick = Tick()
    tick.tell_recorded()
    assert (bool(tick.writes), tick.out) == (False, {})
