"""The engine dies between any two of its effects; another goes on, and everything is as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fanout.engine.settings import DEFAULT_PARK_MS
from fanout.model import CancelRule, TimeLimits
from tests.engine.checker import check
from tests.engine.conftest import Simulate, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    FATAL,
    OK,
    Await,
    Body,
    Faults,
    Function,
    Invoke,
    Map,
    Obey,
    Send,
    Sleep,
    Step,
    event,
    function,
    items,
    parallel,
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


WAITING = (
    function("sleeps", Step("one"), Sleep(60), Step("two"), timeouts=TimeLimits(10_000, 10_000, 5_000)),
    function(
        "hears", parallel(Await("f", 500, match="data.n"), (Step("s", (FAIL, OK)), Send((event("g"),)))), Step("end"),
        backoff=(0.03,), is_async=True,
    ),
    function("invokes", Invoke("child", '{"item":9}'), Invoke("broken", is_caught=True), Step("after")),
    function("collects", Map("child", items(1, of=3, takes_ms=5), 2, is_collecting=True), Send((event("g"),))),
    function("stops", Map("child", items(0, of=4, takes_ms=15), 3, is_caught=True), is_async=True),
    function("child", Obey(), Step("c", takes_ms=3), Sleep(11), on=[]),
    function("broken", Body((FATAL,)), on=[], on_failure="rescue"),
    function("rescue", Step("r"), on=[]),
    function("listens", Step("l"), on=["fanout/function.failed"]),
    function("g", Step("s"), on=["g"]),
    function("stopped", Sleep(5_000), Step("never"), cancel_on=(CancelRule("f"),)),
)  # fmt: skip


def waiting(simulation: Simulation) -> None:
    """All that a run can wait for, and all that can come of it."""
    simulation.send(event("e", n=1))
    simulation.run(for_ms=200)
    # After many crashes it takes longer.
    simulation.run(lambda: simulation.rows("SELECT 1 FROM step WHERE kind = 'wait'") != [])
    simulation.send(event("f", n=2), event("f", n=1))
    simulation.run()


def check_waiting(simulation: Simulation) -> None:
    stopped = {run for (run,) in simulation.rows("SELECT key FROM run WHERE function = 'stopped'")}
    check(simulation, cancelled=stopped)
    states = "SELECT function, group_concat(DISTINCT state) FROM run GROUP BY function"
    assert dict(simulation.rows(states)) | {"child": ""} == {
        **dict.fromkeys(("sleeps", "hears", "invokes", "collects", "stops", "rescue", "listens", "g"), "completed"),
        "broken": "failed",
        "stopped": "cancelled",
        "child": "",
    }
    ((heard,),) = simulation.rows("SELECT output FROM step WHERE kind = 'wait'")
    assert json.loads(heard)["data"] == {"n": 1}
    assert simulation.rows("SELECT count(*) FROM run WHERE function = 'g'") == [(2,)]


class Scenario(NamedTuple):
    functions: tuple[Function, ...]
    act: Callable[[Simulation], None]
    check: Callable[[Simulation], None]
    effects: int
    """More commits and more sendings than this."""


SCENARIOS = {"mixed": Scenario(MIXED, mixed, check, 50), "waiting": Scenario(WAITING, waiting, check_waiting, 30)}


def one_crash(scenario: str, folder: Path, faults: Faults, park_ms: int) -> Simulation:
    simulation = Simulation(folder, *SCENARIOS[scenario].functions, faults=faults, park_ms=park_ms, slots=1)
    try:
        SCENARIOS[scenario].act(simulation)
        SCENARIOS[scenario].check(simulation)
    finally:
        simulation.close()
    return simulation


@pytest.mark.parametrize(
    ("linger", "park_ms"),
    [(True, DEFAULT_PARK_MS), (False, 0)],
    ids=["workers go on a little", "workers end at once and nothing is parked"],
)
@pytest.mark.parametrize("where", ["before", "after", "sending"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_any_effect_changes_nothing(
    tmp_path: Path, scenario: str, where: str, linger: bool, park_ms: int
) -> None:
    quiet = one_crash(scenario, tmp_path / "quiet", Faults(), park_ms)
    effects = quiet.faults.sends if where == "sending" else quiet.faults.commits
    assert effects > SCENARIOS[scenario].effects
    assert quiet.engines == 1
    for number in range(1, effects + 1):
        try:
            simulation = one_crash(scenario, tmp_path / str(number), Faults.at(where, number, linger=linger), park_ms)
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


@every_parking
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_crash_after_crash(simulate: Simulate, scenario: str) -> None:
    faults = Faults(before=range(1, 200, 5), after=range(2, 200, 5))
    simulation = simulate(*SCENARIOS[scenario].functions, faults=faults, slots=1)
    SCENARIOS[scenario].act(simulation)
    SCENARIOS[scenario].check(simulation)
    assert simulation.engines > 20


def test_an_engine_that_never_gets_further_than_one_commit_still_gets_there(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("two"), Step("three")), faults=Faults(after=range(2, 1_000, 2))
    )
    simulation.send(event(), event())
    simulation.run()
    check(simulation)
