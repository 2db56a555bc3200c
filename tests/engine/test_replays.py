"""Replays of many runs, made a slice at a time; and what a plan says of a replay against what then happens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fanout.core import replays
from fanout.core.replays import FunctionPlan
from fanout.engine.requests import REPLAYS_A_TICK
from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from tests.engine.conftest import Simulate
from tests.engine.scripts import FATAL, Function, Step, event, function
from tests.engine.simulation import Simulation

FAILED = RunFilter(states=frozenset({RunState.FAILED}))
MANY = 2 * REPLAYS_A_TICK + 100


def many_failed(simulate: Simulate, number: int = MANY) -> Simulation:
    """So many runs have failed, and the code has been mended since."""
    simulation = simulate(function("a", Step("one", takes_ms=0), Step("two", (FATAL,), takes_ms=0)), slots=64)
    for first in range(0, number, 1_000):
        simulation.send(*[event()] * min(1_000, number - first))
    simulation.run()
    simulation.restart(function("a", Step("one", takes_ms=0), Step("two", takes_ms=0)))
    simulation.run()
    return simulation


def replays_of(simulation: Simulation) -> list[tuple[Any, ...]]:
    return simulation.rows("SELECT replay_of, state FROM run WHERE replay_of IS NOT NULL ORDER BY replay_of")


def each_once(number: int) -> list[tuple[int, str]]:
    return [(key, "completed") for key in range(1, number + 1)]


def done(simulation: Simulation) -> list[tuple[Any, ...]]:
    return simulation.rows("SELECT done, handled_at IS NOT NULL FROM request")


def test_many_runs_are_replayed_a_slice_at_a_time_and_others_are_heard_in_between(simulate: Simulate) -> None:
    simulation = many_failed(simulate)
    simulation.replay(*range(1, MANY + 1))
    simulation.run(lambda: done(simulation) == [(REPLAYS_A_TICK, 0)])
    assert len(replays_of(simulation)) == REPLAYS_A_TICK
    simulation.send(event())
    simulation.cancel(MANY + REPLAYS_A_TICK)
    simulation.run(lambda: simulation.rows("SELECT 1 FROM request WHERE kind = 'cancel' AND handled_at > 0") != [])
    assert (0,) in simulation.rows("SELECT handled_at IS NOT NULL FROM request WHERE kind = 'replay'")
    simulation.run()
    assert [key for key, _ in replays_of(simulation)] == [*range(1, MANY + 1)]
    assert len(simulation.states()) == 2 * MANY + 1


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("commit", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("again", [False, True])
def test_whatever_dies_while_slices_are_made_none_is_lost_and_none_is_doubled(
    simulate: Simulate, where: str, commit: int, again: bool
) -> None:
    simulation = many_failed(simulate)
    setattr(simulation.faults, where, frozenset({simulation.faults.commits + commit}))
    simulation.replay(*range(1, MANY + 1), again=again)
    simulation.run()
    assert replays_of(simulation) == each_once(MANY)
    assert len(simulation.begun("one")) == MANY
    assert done(simulation)[0][1] == 1


def test_asking_again_while_slices_are_made_adds_nothing(simulate: Simulate) -> None:
    simulation = many_failed(simulate)
    simulation.replay(*range(1, MANY + 1))
    simulation.run(lambda: done(simulation) == [(REPLAYS_A_TICK, 0)])
    simulation.restart()
    simulation.replay(*range(1, MANY + 1))
    simulation.replay(*range(MANY, 0, -1))
    simulation.run()
    assert replays_of(simulation) == each_once(MANY)


def test_a_rate_spreads_starts_over_slices_and_restarts(simulate: Simulate) -> None:
    simulation = many_failed(simulate)
    simulation.request("replay", *range(1, MANY + 1), again=False, interval_ms=2.5)
    simulation.run(lambda: done(simulation) == [(REPLAYS_A_TICK, 0)])
    simulation.restart()
    began = simulation.clock()
    simulation.run()
    assert replays_of(simulation) == each_once(MANY)
    starts = sorted(at for (at,) in simulation.rows("SELECT started_at FROM run WHERE replay_of IS NOT NULL"))
    # The first ones were late: workers had to load.
    for first, last in ((0, 400), (400, 600), (900, MANY - 1)):
        assert starts[last] - starts[first] >= (last - first) * 2.5 - 100
    assert starts[-1] - began < MANY * 2.5 + 1_000


# Plans.


class Edits:
    """Some code, and what somebody makes of it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def before(self) -> Function:
        rng = self._rng
        names = [rng.choice("abcd") for _ in range(rng.randint(1, 5))]
        at = rng.randrange(len(names))
        return function("f", *[Step(name, (FATAL,) if number == at else (None,)) for number, name in enumerate(names)])

    def after(self) -> list[str]:
        return [self._rng.choice("abcde") for _ in range(self._rng.randint(1, 6))]


@pytest.mark.parametrize("seed", range(150))
def test_what_a_plan_says_is_what_happens(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    edits = Edits(rng)
    names = edits.after()
    simulation = Simulation(tmp_path / "s", edits.before(), seed=seed)
    simulation.send(*[event()] * rng.randint(1, 3))
    simulation.run()
    simulation.restart(function("f", *[Step(name) for name in names]))
    keys = [key for key, state in simulation.states().items() if state == "failed"]
    recorded = sorted({key for (key,) in simulation.rows("SELECT key FROM step")})
    from_step = rng.choice([None, None, *recorded])
    given = dict.fromkeys(rng.sample([*recorded, *names], rng.randint(0, 1)), '"by hand"')
    is_from_start = from_step is None and rng.random() < 0.3
    with JournalReader(simulation.path) as reader:
        assert reader.to_replay(FAILED, again=False) == keys
        (found,) = reader.recorded_steps(keys, from_step)
    plan = replays.plan(found, names, is_from_start=is_from_start, given=given)
    before = len(simulation.log)
    simulation.request("replay", *keys, again=False, from_start=is_from_start, from_step=from_step, set=given)
    simulation.run()
    _check(simulation, plan, len(keys), {each.step for each in simulation.log[before:] if each.what == "begin"})
    simulation.close()


def _check(simulation: Simulation, plan: FunctionPlan, runs: int, begun: set[str]) -> None:
    rows = simulation.rows(
        """SELECT step.key, step.is_unreached, step.attempts, step.output = '"by hand"' FROM step
           JOIN run ON run.key = step.run WHERE run.replay_of IS NOT NULL AND run.state = 'completed'"""
    )
    assert len(rows) % runs == 0
    # Of a name that is there more than once, the code may come to fewer calls than were recorded: a plan knows names.
    reached = {key for key, is_unreached, *_ in rows if not is_unreached}
    assert not set(plan.gone) & reached
    assert not set(plan.gone) & begun
    assert not set(plan.reused) & begun
    assert {key for key, _, attempts, _ in rows if not attempts} == set(plan.given)
    assert begun - set(plan.given) <= {*plan.again, *plan.new, *(key for key in begun if "#" in key)}
    assert set(plan.new) <= begun
    single = {key for key in plan.again if "#" not in key}
    assert single <= begun
