"""What a worker says under a claim that is over changes nothing; what makes no sense is the end of the worker."""

from __future__ import annotations

import pytest

from fanout import protocol
from fanout.journal.sqlite_checks import CHECKS
from fanout.model import Failure, StepKind, TimeLimits
from fanout.protocol import (
    MapItems,
    Parked,
    RunCompleted,
    RunEvicted,
    RunFailed,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToEngine,
    Unpark,
)
from tests.engine.conftest import Simulate
from tests.engine.scripts import Silent, Step, What, event, function
from tests.engine.simulation import Simulation


def _started(simulation: Simulation) -> int:
    simulation.send()
    simulation.run(lambda: simulation.pool.executing() != [])
    return simulation.pool.executing()[0].claim


_SENT = protocol.SentEvent("x", False, "f", None, "{}", None, None)


def _said_under(claim: int) -> list[ToEngine]:
    now, failure = 1, Failure("Broken", "late")
    return [
        StepRunning(claim, "s", "", 1, now),
        StepCompleted(claim, 1, "s", "", 1, 1, '"late"', now, now),
        StepCompleted(claim, 1, "s", "", 1, 1, '["x"]', now, now, StepKind.SEND, (_SENT,)),
        StepFailed(claim, "s", "", 1, 1, failure, now, now, True, None),
        StepWaits(claim, "s", "", 1, now, protocol.Sleep(10**14)),
        StepWaits(claim, "s", "", 1, now, protocol.EventWait("f", 10**14, None, None)),
        StepWaits(claim, "s", "", 1, now, protocol.Invoke("a", "{}", None)),
        StepWaits(claim, "s", "", 1, now, protocol.Map("a", 10, False)),
        MapItems(claim, "s", 0, (("{}", None),), True),
        Parked(claim, ("s",)),
        Unpark(claim),
        RunFailed(claim, failure, False, None),
        RunEvicted(claim),
        RunCompleted(claim, '"late"'),
    ]


@pytest.mark.parametrize("kind", range(14))
def test_what_comes_under_a_lost_claim_changes_nothing(simulate: Simulate, kind: int) -> None:
    simulation = simulate(function("a", Silent()))
    claim = _started(simulation)
    simulation.pool.lose(1)
    simulation.run(lambda: [each.claim for each in simulation.pool.executing()] == [claim + 1])
    before = _everything(simulation)
    commits, sent = simulation.faults.commits, len(simulation.pool.sent)
    simulation.pool.post(1, _said_under(claim)[kind])
    simulation.tick()
    assert simulation.faults.commits == commits
    assert len(simulation.pool.sent) == sent
    assert _everything(simulation) == before


@pytest.mark.parametrize("kind", range(14))
def test_what_comes_under_a_claim_that_has_ended_changes_nothing(simulate: Simulate, kind: int) -> None:
    simulation = simulate(function("a", Step("s")))
    simulation.send()
    simulation.run()
    before = _everything(simulation)
    simulation.pool.post(1, _said_under(1)[kind])
    simulation.tick()
    assert _everything(simulation) == before


def _everything(simulation: Simulation) -> list[tuple[object, ...]]:
    tables = ("event", "run", "step", "failure", "wait", "map")
    return [row for table in tables for row in simulation.rows(f"SELECT * FROM {table}")]


# Words that make no sense while the claim is held.


def _again(claim: int, now: int) -> dict[str, list[ToEngine]]:
    asked = StepWaits(claim, "m", "", 1, now, protocol.Map("b", 10, False))
    done = StepCompleted(claim, 1, "s", "", 1, 1, '"done"', now, now)
    return {
        "a step begins that is over": [StepRunning(claim, "s", "", 1, now), done, StepRunning(claim, "s", "", 1, now)],
        "a step is completed twice": [done, done],
        "a map is asked for twice": [asked, MapItems(claim, "m", 0, (("{}", None),), True), asked],
    }


@pytest.mark.parametrize("said", [*_again(1, 1)])
def test_a_worker_that_makes_no_sense_is_ended_and_its_run_begins_again_alone(simulate: Simulate, said: str) -> None:
    limits = TimeLimits(step_ms=50)
    simulation = simulate(
        function("a", Silent(), timeouts=limits), function("b", Step("t"), on=[]), function("c", Step("u"), on=["f"])
    )
    claim = _started(simulation)
    for message in _again(claim, simulation.clock())[said]:
        simulation.pool.post(1, message)
        simulation.run(for_ms=20)
    simulation.run(for_ms=500)
    assert [each.worker for each in simulation.entries(What.KILLED)] == [1]
    assert len([each for each in simulation.entries(What.START) if each.run == simulation.run_id(1)]) == 2
    simulation.send(event("f"))
    simulation.run(for_ms=100)
    assert simulation.rows("SELECT state FROM run WHERE function = 'c'") == [("completed",)]
    for check in CHECKS:
        assert simulation.rows(f"SELECT * FROM ({check.broken})") == [], check.rule


def test_a_step_that_is_said_to_run_after_it_has_failed_is_tried_again_all_the_same(simulate: Simulate) -> None:
    simulation = simulate(function("a", Silent(), backoff=(5.0,)))
    claim, now = _started(simulation), simulation.clock()
    failed = StepFailed(claim, "s", "", 1, 1, Failure("Broken", "no"), now, now, True, None)
    for message in (failed, StepRunning(claim, "s", "", 1, now), Parked(claim, ("s",))):
        simulation.pool.post(1, message)
        simulation.run(for_ms=5)
    due = simulation.rows("SELECT state, due_at > ? FROM step", now)
    assert due == [("retrying", 1)]
    assert simulation.state(1) == "waiting"
