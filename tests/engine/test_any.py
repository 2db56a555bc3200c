"""Any scenario with any crashes. What must come out is foretold from the scripts alone."""

from __future__ import annotations

import random

import pytest

from tests.engine.anything import Author, any_events, any_faults, any_lag, any_park_ms
from tests.engine.checker import check, check_fan_out, check_history, check_loosely, check_over
from tests.engine.conftest import Simulate
from tests.engine.scripts import Faults, What, event
from tests.engine.simulation import Simulation


def made(
    simulate: Simulate, seed: int, rng: random.Random, *, has_deaths: bool, is_limited: bool = False
) -> Simulation:
    author = Author(rng, has_deaths=has_deaths)
    return simulate(
        *author.functions(rng.randint(1, 5), is_limited=is_limited),
        processes=rng.randint(1, 3),
        slots=rng.randint(1, 4),
        seed=seed,
        faults=any_faults(rng),
        park_ms=any_park_ms(rng),
        lag=any_lag(rng),
    )


def scenario(simulate: Simulate, seed: int) -> None:
    """Events, crashes of the engine, and code that kills its worker; or workers that die of something else."""
    rng = random.Random(seed)
    has_deaths = rng.random() < 0.6
    simulation = made(simulate, seed, rng, has_deaths=has_deaths)
    deaths = 0
    for _ in range(rng.randint(1, 5)):
        simulation.send(*any_events(rng, simulation.clock(), ["e", "f", "nobody", "w", "v", "x"]))
        simulation.run(for_ms=rng.choice([1, 30, 300, 5_000]))
        there = [each.worker.number for each in simulation.pool.executing()]
        if not has_deaths and deaths < 2 and there and rng.random() < 0.5:
            simulation.pool.lose(rng.choice(there))
            deaths += 1
    simulation.run()
    assert simulation.engine.is_idle()
    check(simulation, deaths=deaths)


def scenario_with_requests(simulate: Simulate, seed: int) -> None:
    """Whatever is cancelled, replayed or over its time when: all ends, nothing is done twice, others don't notice."""
    rng = random.Random(seed)
    simulation = made(simulate, seed, rng, has_deaths=rng.random() < 0.5, is_limited=True)
    asked: set[int] = set()
    for _ in range(rng.randint(2, 6)):
        simulation.send(*any_events(rng, simulation.clock(), ["e", "f", "e", "f", "w", "v", "x", "stop", "halt"]))
        simulation.run(for_ms=rng.choice([1, 30, 300, 3_000]))
        runs = rng.choices([*simulation.states(), 99], k=rng.randint(0, 3))
        if rng.random() < 0.5:
            simulation.cancel(*runs)
            asked.update(runs)
        else:
            simulation.replay(*runs, again=rng.random() < 0.2)
    simulation.run()
    assert simulation.engine.is_idle()
    check_loosely(simulation, asked=asked)


def scenario_with_edits(simulate: Simulate, seed: int) -> None:
    """Code that is edited while its runs wait: all ends, and nothing that is recorded is done again."""
    rng = random.Random(seed)
    simulation = made(simulate, seed, rng, has_deaths=False)
    author = Author(rng)
    functions = [*simulation.functions.values()]
    for _ in range(rng.randint(1, 4)):
        simulation.send(*any_events(rng, simulation.clock(), ["e", "f", "w", "v", "x"]))
        simulation.run(for_ms=rng.choice([1, 30, 300, 5_000]))
        functions = [author.changed(each) for each in functions]
        # What others invoke may be gone for a while.
        gone = rng.choice(["", "", "c0", "c1", "c2"])
        simulation.restart(*(each for each in functions if each.spec.id != gone))
    simulation.run(for_ms=rng.choice([1, 1_000, 100_000]))
    simulation.restart(*functions)
    simulation.run()
    assert simulation.engine.is_idle()
    check_over(simulation)
    check_history(simulation)
    check_fan_out(simulation)


@pytest.mark.parametrize("seed", range(200))
def test_any_scenario_with_any_crashes(simulate: Simulate, seed: int) -> None:
    scenario(simulate, seed)


@pytest.mark.parametrize("seed", range(80))
def test_any_scenario_with_requests_and_limits(simulate: Simulate, seed: int) -> None:
    scenario_with_requests(simulate, seed)


@pytest.mark.parametrize("seed", range(40))
def test_any_scenario_with_edits(simulate: Simulate, seed: int) -> None:
    scenario_with_edits(simulate, seed)


def test_the_scenarios_reach_what_they_are_for(simulate: Simulate) -> None:
    """The random ones are worth their time only while they crash, die, wait, fail and complete."""
    rng = random.Random(3)
    simulation: Simulation = simulate(
        *Author(rng).functions(100), processes=2, slots=4, faults=Faults(after=[5, 9]), park_ms=100
    )
    simulation.send(event("e", user=1), event("f", user=2))
    simulation.run(for_ms=30)
    simulation.send(event("w", user=1), event("v", user=2))
    simulation.run()
    check(simulation)
    assert {what for what in What if simulation.entries(what)} == set(What)
    assert set(simulation.rows("SELECT DISTINCT state, reason FROM run")) == {
        ("completed", None),
        ("failed", None),
        ("failed", "crashed"),
        ("cancelled", None),
    }
    ended = {f"{kind} {state}" for kind, state in simulation.rows("SELECT DISTINCT kind, state FROM step")}
    assert ended >= {
        "run completed", "run failed", "sleep completed", "wait completed", "send completed", "invoke completed",
        "invoke failed", "map completed", "map failed", "sleep cancelled",
    }  # fmt: skip
