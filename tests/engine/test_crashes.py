"""The engine dies between any two of its effects; another goes on, and everything is as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.checker import FINAL, check, check_history, check_run
from tests.engine.conftest import Simulate
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    FATAL,
    FOREVER,
    OK,
    Body,
    Fail,
    Faults,
    Function,
    Outcome,
    Step,
    What,
    event,
    function,
)
from tests.engine.simulation import Simulation

MIXED = (
    function("plain", Step("one"), Step("two", takes_ms=30), Step("one")),
    function(
        "retried", Step("s", (FAIL, OK), takes_ms=3), Body((FAIL, OK)), Step("t", takes_ms=7), backoff=(0.05,),
        on=["e", "f"],
    ),
    function("failing", Step("kept"), Step("bad", (FAIL, FATAL)), backoff=(0.02,), is_async=True),
    function("deadly", Step("before"), Step("boom", takes_ms=4, deaths=2), Step("after"), on=["f"]),
)  # fmt: skip


def mixed(simulation: Simulation) -> None:
    """Seven events, fifteen runs, a worker that dies, a step that takes long enough to be shown."""
    simulation.send(event("e"), event("f"), event("e", ts=BEGINNING + 400))
    simulation.run(for_ms=35)
    simulation.send(event("f"), event("nobody"))
    simulation.run(for_ms=60)
    simulation.send(event("e"), event("f"))
    simulation.run()


def one_crash(folder: Path, faults: Faults) -> Simulation:
    simulation = Simulation(folder, *MIXED, faults=faults)
    try:
        mixed(simulation)
        check(simulation)
    finally:
        simulation.close()
    return simulation


@pytest.mark.parametrize("linger", [True, False], ids=["workers go on a little", "workers end at once"])
@pytest.mark.parametrize("where", ["before", "after", "sending"])
def test_a_crash_at_any_effect_changes_nothing(tmp_path: Path, where: str, linger: bool) -> None:
    quiet = one_crash(tmp_path / "quiet", Faults())
    effects = quiet.faults.sends if where == "sending" else quiet.faults.commits
    assert effects >= 50
    assert quiet.engines == 1
    for number in range(1, effects + 1):
        try:
            simulation = one_crash(tmp_path / str(number), Faults(linger=linger, **{where: [number]}))
        except Exception as error:
            raise AssertionError(f"a crash {where} {number} of {effects}") from error
        assert simulation.engines == 2


def test_what_is_executed_once_more_after_a_crash_had_not_been_recorded(simulate: Simulate) -> None:
    """A crash just before the commit of a step: the one case in which a step's code begins again."""
    quiet = simulate(function("a", Step("one", takes_ms=5), Step("two")))
    quiet.send()
    quiet.run()
    begun = []
    for number in range(1, quiet.faults.commits + 1):
        simulation = simulate(function("a", Step("one", takes_ms=5), Step("two")), faults=Faults(before=[number]))
        simulation.send()
        simulation.run()
        begun.append((len(simulation.begun("one")), len(simulation.begun("two"))))
        check(simulation)
    # recover, functions, route, step one, step two with the end
    assert begun == [(1, 1), (1, 1), (1, 1), (2, 1), (1, 2)]


def test_crash_after_crash(simulate: Simulate) -> None:
    simulation = simulate(*MIXED, faults=Faults(before=range(1, 200, 7), after=range(2, 200, 7)))
    mixed(simulation)
    check(simulation)
    assert simulation.engines > 20


def test_an_engine_that_never_gets_further_than_one_commit_still_gets_there(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("two"), Step("three")), faults=Faults(after=range(2, 1_000, 2))
    )
    simulation.send(event(), event())
    simulation.run()
    check(simulation)


# Any scenario.


def any_outcomes(rng: random.Random) -> tuple[Outcome, ...]:
    return tuple(
        rng.choices([OK, FAIL, FATAL, Fail(retry_after_ms=rng.choice([0, 30, 5_000]))], [12, 4, 1, 1])[0]
        for _ in range(rng.randint(1, 4))
    )


def any_script(rng: random.Random) -> Iterator[Step | Body]:
    # One part at most: three deaths are too many, wherever they come.
    deadly = rng.randint(0, 30)
    for number in range(rng.randint(0, 5)):
        deaths = rng.choice([1, 2, FOREVER]) if number == deadly else 0
        if rng.random() < 0.75:
            takes_ms = rng.choice([0, 0, 1, 3, 40, 700])
            yield Step(rng.choice("stuv"), any_outcomes(rng), takes_ms, deaths, rng.random() < 0.3)
        else:
            yield Body(any_outcomes(rng), rng.choice([0, 0, 5]), deaths)


def any_function(rng: random.Random, name: str) -> Function:
    return function(
        name,
        *any_script(rng),
        on=rng.choice([["e"], ["f"], ["e", "f"]]),
        retries=rng.randint(0, 3),
        backoff=rng.choice([(0.0,), (0.01, 0.3), (2.0,), None]),
        is_async=rng.random() < 0.4,
    )


def any_faults(rng: random.Random) -> Faults:
    crashes = rng.choice([0, 1, 3, 10])
    return Faults(
        before=rng.sample(range(1, 80), crashes),
        after=rng.sample(range(1, 80), crashes),
        sending=rng.sample(range(1, 120), crashes),
        linger=rng.random() < 0.5,
    )


@pytest.mark.parametrize("seed", range(200))
def test_any_scenario_with_any_crashes(simulate: Simulate, seed: int) -> None:
    rng = random.Random(seed)
    simulation: Simulation = simulate(
        *[any_function(rng, f"f{number}") for number in range(rng.randint(1, 5))],
        processes=rng.randint(1, 3),
        slots=rng.randint(1, 4),
        seed=seed,
        faults=any_faults(rng),
    )
    for _ in range(rng.randint(1, 4)):
        simulation.send(
            *[
                event(rng.choice(["e", "f", "nobody"]), ts=simulation.clock() + rng.choice([-5, 0, 20, 9_000]))
                for _ in range(rng.randint(1, 6))
            ]
        )
        simulation.run(for_ms=rng.choice([1, 30, 300]))
    simulation.run()
    check(simulation)


@pytest.mark.parametrize("seed", range(60))
def test_any_scenario_with_requests_and_crashes(simulate: Simulate, seed: int) -> None:
    """Whatever is cancelled and replayed when: all ends, nothing is done twice, others don't notice."""
    rng = random.Random(seed)
    simulation: Simulation = simulate(
        *[any_function(rng, f"f{number}") for number in range(rng.randint(1, 4))],
        processes=rng.randint(1, 3),
        slots=rng.randint(1, 4),
        seed=seed,
        faults=any_faults(rng),
    )
    asked: set[int] = set()
    for _ in range(rng.randint(2, 6)):
        simulation.send(*[event(rng.choice(["e", "f"])) for _ in range(rng.randint(1, 4))])
        simulation.run(for_ms=rng.choice([1, 30, 300]))
        runs = rng.choices([*simulation.states(), 99], k=rng.randint(0, 3))
        if rng.random() < 0.5:
            simulation.cancel(*runs)
            asked.update(runs)
        else:
            simulation.replay(*runs, again=rng.random() < 0.2)
    simulation.run()
    assert set(simulation.states().values()) <= FINAL
    assert simulation.rows("SELECT key FROM request WHERE handled_at IS NULL") == []
    assert simulation.engine.is_idle()
    check_history(simulation)
    for key, function_id, state, replay_of in simulation.rows("SELECT key, function, state, replay_of FROM run"):
        assert state != "cancelled" or key in asked
        if replay_of is not None:
            carried = {step for step, (state, _) in simulation.steps(replay_of).items() if state == "completed"}
            begun = {each.step for each in simulation.entries(What.BEGIN) if each.run == simulation.run_id(key)}
            assert not carried & begun
        elif state != "cancelled":
            check_run(simulation, key, simulation.functions[function_id])


def test_the_scenarios_reach_what_they_are_for(simulate: Simulate) -> None:
    """The random ones are worth their time only while they crash, die, fail and complete."""
    rng = random.Random(1)
    simulation: Simulation = simulate(
        *[any_function(rng, f"f{number}") for number in range(100)], processes=2, slots=4, faults=Faults(after=[5, 9])
    )
    simulation.send(event("e"), event("f"))
    simulation.run()
    check(simulation)
    assert {what for what in What if simulation.entries(what)} == set(What)
    assert set(simulation.rows("SELECT DISTINCT state, reason FROM run")) == {
        ("completed", None),
        ("failed", None),
        ("failed", "crashed"),
    }
