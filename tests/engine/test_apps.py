"""Several apps in one engine: what is wrong with one does not stop the others."""

from __future__ import annotations

import random

import pytest

from fanout import __version__
from fanout.errors import LoadError
from fanout.protocol import ShutDown
from tests.engine.conftest import Simulate
from tests.engine.scripts import FATAL, Function, Invoke, Step, What, event, function
from tests.engine.simulation import Simulation
from tests.engine.workers import Loading

Apps = dict[str, tuple[Function, ...]]


def two(*, takes_ms: int = 5) -> Apps:
    return {
        "shop": (function("f", Step("s", takes_ms=takes_ms)),),
        "billing": (function("f", Step("b", takes_ms=takes_ms), on=["e", "bill"]),),
    }


def states(simulation: Simulation) -> list[tuple[str, str]]:
    """(function, state) of all runs."""
    return [*simulation.rows("SELECT function, state FROM run ORDER BY key")]


def test_each_app_executes_its_own_functions_whatever_their_ids(simulate: Simulate) -> None:
    simulation = simulate(apps=two())
    simulation.send()
    simulation.run()
    assert states(simulation) == [("shop/f", "completed"), ("billing/f", "completed")]
    assert sorted(simulation.order()) == [("billing/f", "b"), ("shop/f", "s")]


def test_functions_are_invoked_across_apps_and_handlers_are_their_apps(simulate: Simulate) -> None:
    simulation = simulate(
        apps={
            "shop": (
                function("f", Invoke("billing/f"), Step("s")),
                function("bad", Step("x", (FATAL,)), on_failure="rescue"),
                function("rescue", Step("r"), on=()),
            ),
            "billing": (function("f", Step("b"), on=()), function("rescue", Step("wrong"), on=())),
        }
    )
    simulation.send()
    simulation.run()
    assert sorted(states(simulation)) == [
        ("billing/f", "completed"),
        ("shop/bad", "failed"),
        ("shop/f", "completed"),
        ("shop/rescue", "completed"),
    ]


def test_an_app_that_does_not_load_does_not_stop_the_others_and_its_runs_wait(simulate: Simulate) -> None:
    simulation = simulate(apps=two())
    simulation.run()
    simulation.broken.add("billing")
    simulation.restart()
    simulation.send(event(), event("bill"))
    simulation.run(for_ms=5_000)
    assert states(simulation) == [("shop/f", "completed"), ("billing/f", "queued"), ("billing/f", "queued")]
    assert simulation.engine.unloaded() == {"billing/f"}
    assert [error.message for error in simulation.engine.load_errors] == ["app `billing`: `m.py` line 1: it is broken"]
    simulation.broken.clear()
    simulation.run(for_ms=5_000)
    assert {state for _, state in states(simulation)} == {"completed"}
    assert (simulation.engine.unloaded(), simulation.engine.load_errors) == (set(), [])


def test_an_app_that_was_never_loaded_is_not_known_and_the_others_go_on(simulate: Simulate) -> None:
    simulation = simulate(apps=two())
    simulation.broken.add("billing")
    simulation.send()
    simulation.run(for_ms=3_000)
    assert states(simulation) == [("shop/f", "completed")]
    simulation.broken.clear()
    simulation.run(for_ms=3_000)
    simulation.send()
    simulation.run()
    assert states(simulation)[1:] == [("shop/f", "completed"), ("billing/f", "completed")]


def test_a_worker_whose_word_on_its_functions_is_no_good_is_ended(simulate: Simulate) -> None:
    simulation = simulate(apps=two(), loading=[Loading.FINE, Loading.IS_OLD, Loading.IS_WRONG])
    simulation.send(event())
    told: list[str] = []
    while len(simulation.entries(What.KILLED)) < 2:
        simulation.run(for_ms=100)
        told += [error.message for error in simulation.engine.load_errors]
    assert list(dict.fromkeys(told)) == [
        f"app `billing`: its environment has fanout 0, and this is {__version__}",
        "app `billing`: its worker has described what can't be: two functions have the id `billing/f`",
    ]
    simulation.run(for_ms=3_000)
    simulation.send(event())
    simulation.run()
    assert states(simulation)[1:] == [("shop/f", "completed"), ("billing/f", "completed")]
    assert len(simulation.pool.workers) == len(two())


def test_when_no_app_can_be_loaded_the_engine_ends(simulate: Simulate) -> None:
    simulation = simulate(apps=two())
    simulation.broken.update({"shop", "billing"})
    simulation.send()
    with pytest.raises(LoadError, match=r"app `\w+`: `m\.py` line 1: it is broken"):
        simulation.run(for_ms=1_000)
    assert states(simulation) == []


def test_the_runs_of_an_app_that_is_removed_wait_until_it_is_back(simulate: Simulate) -> None:
    apps = {**two(), "mail": (function("m", Step("m"), on=["mail"]),)}
    simulation = simulate(apps=apps, slots=1)
    simulation.run()
    simulation.send(*[event("bill")] * 5)
    simulation.run(lambda: len(simulation.states()) == 5)
    simulation.restart(apps={app: functions for app, functions in apps.items() if app != "billing"})
    simulation.send()
    simulation.run()
    waiting = [state for name, state in states(simulation) if name == "billing/f"]
    assert (len(waiting), set(waiting) <= {"completed", "queued"}, "queued" in waiting) == (5, True, True)
    assert simulation.engine.stranded() == {"billing/f"}
    assert states(simulation)[5:] == [("shop/f", "completed")]
    simulation.restart(apps=apps)
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}


def test_the_runs_of_the_app_that_is_left_go_on(simulate: Simulate) -> None:
    """Its ids are the same, whether there are others or not."""
    simulation = simulate(apps={**two(takes_ms=50)}, slots=1, processes=1)
    simulation.send(*[event()] * 3)
    simulation.run(lambda: "completed" in simulation.states().values())
    simulation.restart(apps={"shop": two()["shop"]})
    simulation.run()
    assert {state for name, state in states(simulation) if name == "shop/f"} == {"completed"}
    assert simulation.engine.stranded() <= {"billing/f"}


def test_a_backlog_of_one_app_does_not_hold_up_another(simulate: Simulate) -> None:
    def until_billed(before: int) -> int:
        simulation = simulate(apps=two(takes_ms=20), processes=4, slots=2)
        simulation.run()
        if before:
            simulation.send(*[event()] * before)
            simulation.run(for_ms=300)
            simulation.run(lambda: "queued" not in [state for name, state in states(simulation) if name != "shop/f"])
        done = len(simulation.states())
        began = simulation.clock()
        simulation.send(*[event("bill")] * 12)
        simulation.run(lambda: [*simulation.states().values()][done:] == ["completed"] * 12)
        return simulation.clock() - began

    alone = until_billed(0)
    assert until_billed(400) <= 2 * alone + 20


def test_workers_go_from_an_app_that_has_had_a_backlog_to_one_that_has_one(simulate: Simulate) -> None:
    simulation = simulate(
        apps={
            "shop": (function("f", Step("s", takes_ms=20)),),
            "billing": (function("f", Step("b", takes_ms=20), on=["bill"]),),
        },
        processes=4,
        slots=1,
    )
    simulation.send(*[event()] * 60)
    simulation.run(for_ms=200)
    sizes = {app: simulation.pool.size(app) for app in ("shop", "billing")}
    assert sizes == {"shop": 3, "billing": 1}
    simulation.send(*[event("bill")] * 60)
    simulation.run(for_ms=200)
    sizes = {app: simulation.pool.size(app) for app in ("shop", "billing")}
    assert sizes == {"shop": 2, "billing": 2}
    assert len({worker for worker, message in simulation.pool.sent if isinstance(message, ShutDown)}) == 1
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    # It was no death: nobody was charged.
    assert simulation.rows("SELECT sum(crashes), count(*) FROM run") == [(0, 120)]


def test_suspects_of_several_apps_are_each_alone_in_a_worker_of_their_own_app(simulate: Simulate) -> None:
    simulation = simulate(
        apps={
            "shop": (function("f", Step("s", takes_ms=20, deaths=1)), function("g", Step("t", takes_ms=30))),
            "billing": (function("f", Step("b", takes_ms=20, deaths=2)), function("g", Step("u", takes_ms=30))),
        },
        processes=3,
        slots=3,
    )
    simulation.send(*[event()] * 5)
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    assert len(simulation.entries(What.DEATH)) >= 10


def shut_downs(simulation: Simulation) -> list[int]:
    return [worker for worker, message in simulation.pool.sent if isinstance(message, ShutDown)]


def test_a_worker_that_goes_is_told_once_however_long_it_takes(simulate: Simulate) -> None:
    simulation = simulate(apps=bill_alone(), processes=4, slots=1, lag=lambda: 40)
    simulation.send(*[event()] * 60)
    simulation.run(for_ms=600)
    simulation.send(*[event("bill")] * 60)
    simulation.run()
    told = shut_downs(simulation)
    assert told
    assert len(told) == len(set(told))
    assert {state for _, state in states(simulation)} == {"completed"}


def test_a_worker_that_was_to_go_stays_when_nobody_else_needs_its_place(simulate: Simulate) -> None:
    simulation = simulate(apps=bill_alone(takes_ms=300), processes=4, slots=1)
    simulation.send(*[event()] * 3)
    simulation.run(for_ms=100)
    assert simulation.pool.size("shop") == 3
    simulation.send(*[event("bill")] * 2)
    simulation.run(for_ms=50)
    assert len(simulation.engine._roster._retiring) == 1
    simulation.cancel(5)
    simulation.run()
    simulation.send(*[event()] * 3)
    began = simulation.clock()
    simulation.run()
    assert simulation.clock() - began < 400, "three at once"
    assert shut_downs(simulation) == []


def bill_alone(takes_ms: int = 20) -> Apps:
    return {
        "shop": (function("f", Step("s", takes_ms=takes_ms)),),
        "billing": (function("f", Step("b", takes_ms=takes_ms), on=["bill"]),),
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_suspect_never_starts_in_a_worker_that_goes(simulate: Simulate, seed: int) -> None:
    chance = random.Random(seed)
    apps: Apps = {
        "shop": (function("f", Step("s", takes_ms=20)), function("g", Step("t", takes_ms=30, deaths=1), on=["die"])),
        "billing": (function("f", Step("b", takes_ms=20), on=["bill"]),),
    }
    simulation = simulate(apps=apps, processes=4, slots=2, seed=seed, lag=lambda: chance.randrange(30))
    for _ in range(6):
        simulation.send(*[event(chance.choice(["e", "die", "bill"])) for _ in range(chance.randrange(20))])
        simulation.run(for_ms=chance.randrange(300))
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    told = shut_downs(simulation)
    assert len(told) == len(set(told))


def test_an_app_whose_code_kills_its_worker_does_not_stop_the_others(simulate: Simulate) -> None:
    apps = two()
    simulation = simulate(apps=apps)
    simulation.run()
    simulation.deadly.add("billing")
    simulation.restart()
    simulation.send()
    simulation.run(for_ms=5_000)
    assert states(simulation) == [("shop/f", "completed"), ("billing/f", "queued")]
    (error,) = simulation.engine.load_errors
    assert error.message == "app `billing`: was killed by SIGSEGV while it loaded the modules\nlast\nwords"
    simulation.deadly.clear()
    simulation.run(for_ms=5_000)
    assert {state for _, state in states(simulation)} == {"completed"}
    assert simulation.engine.load_errors == []


def test_when_the_code_of_every_app_kills_its_worker_the_engine_ends(simulate: Simulate) -> None:
    simulation = simulate(apps=two())
    simulation.deadly.add("billing")
    simulation.broken.add("shop")
    simulation.send()
    with pytest.raises(LoadError, match=r"^app `\w+`: "):
        simulation.run(for_ms=3_000)
    assert states(simulation) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_more_apps_than_processes_each_have_a_worker(simulate: Simulate, processes: int) -> None:
    apps: Apps = {app: (function("f", Step("s", takes_ms=20), on=["e", app]),) for app in ("a", "b", "c")}
    simulation = simulate(apps=apps, processes=processes, slots=1)
    simulation.send(*[event("a")] * 200)
    simulation.run(for_ms=100)
    sizes = {app: simulation.pool.size(app) for app in apps}
    assert sizes == {"a": max(1, processes - 2), "b": 1, "c": 1}
    began = simulation.clock()
    simulation.send(event("b"), event("c"))
    simulation.run(lambda: [*simulation.states().values()][200:] == ["completed"] * 2)
    assert simulation.clock() - began <= 60
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    assert simulation.pool.spawned == max(3, processes), "nobody is started and ended in turn"
