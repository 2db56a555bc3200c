"""What a worker says under a claim that is over changes nothing."""

from __future__ import annotations

import pytest

from fanout import protocol
from fanout.model import Failure, StepKind
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
from tests.engine.scripts import Silent, Step, function
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
        StepWaits(claim, "s", "", 1, now, protocol.Sleep(10**15)),
        StepWaits(claim, "s", "", 1, now, protocol.EventWait("f", 10**15, None, None)),
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
