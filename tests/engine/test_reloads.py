"""Code that is saved while an engine runs: new code is loaded beside the old, and no run is lost, failed or charged."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from fanout.engine.apps import LOADS_LONG_MS
from fanout.engine.reloads import Reloaded
from fanout.engine.settings import Settings
from fanout.model import ConcurrencyRule, CronTrigger, FlowRules
from fanout.protocol import ShutDown
from tests.engine.anything import any_faults, any_lag, any_park_ms
from tests.engine.checker import check, check_history, check_over
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import Await, Faults, Function, Part, Sleep, Step, What, event, function
from tests.engine.simulation import Simulation
from tests.engine.workers import Loading, SimPool


@pytest.fixture
def reloading(simulate: Simulate) -> Simulate:
    """A simulation with reloads, in which no worker executes another function than the engine believes."""
    made: list[Simulation] = []

    def watch(pool: SimPool) -> None:
        if not made or made[-1].pool is not pool:
            return
        engine = made[-1].engine
        for worker in pool.workers.values():
            for claim, playing in worker.executions.items():
                active = engine._roster.active.get(claim)
                if active is None or active.is_leaving or active.is_final:
                    continue
                spec = engine.functions[active.run.function]
                assert playing.real.spec == worker.code[spec.local_id].spec
                assert active.spec == spec, "an execution goes on in a worker that has older code"

    def make(*arguments: object, **options: object) -> Simulation:
        made.append(simulate(*arguments, **{"has_reloads": True, "watch": watch, **options}))
        return made[-1]

    return make


def versions(*parts: Part, number: int, **more: object) -> Function:
    """A function whose settings tell which version it is."""
    return function("f", *parts, retries=number, **more)  # type: ignore[arg-type]


def states(simulation: Simulation) -> list[tuple[str, str]]:
    return [*simulation.rows("SELECT function, state FROM run ORDER BY key")]


def said(simulation: Simulation) -> list[tuple[str | None, list[str]]]:
    """(error, changes) of each reload."""
    return [
        (None if each.error is None else each.error.message, [str(change) for change in each.changes])
        for each in simulation.reloaded
    ]


def nobody_was_charged(simulation: Simulation) -> bool:
    return simulation.rows("SELECT count(*) FROM run WHERE crashes > 0 OR is_suspect") == [(0,)]


ONE, TWO = Step("one", takes_ms=50), Step("two", takes_ms=50)


@every_parking
@both_kinds
def test_a_running_step_ends_where_it_is_and_the_run_goes_on_in_new_code(reloading: Simulate, is_async: bool) -> None:
    simulation = reloading(versions(ONE, TWO, number=1, is_async=is_async), processes=1)
    simulation.send()
    simulation.run(for_ms=40)
    simulation.save(versions(ONE, Step("new"), TWO, number=2, is_async=is_async))
    simulation.run()
    assert [step for _, step in simulation.order()] == ["one", "new", "two"]
    assert states(simulation) == [("f", "completed")]
    assert nobody_was_charged(simulation)
    first, second = simulation.entries(What.START)
    assert (first.worker, second.worker) == (1, 2)
    assert [*simulation.pool.workers] == [2]
    assert said(simulation) == [(None, ["~ f (retries 1 to 2)"])]
    check_history(simulation)
    check_over(simulation)


def test_what_is_parked_goes_on_in_new_code(reloading: Simulate) -> None:
    simulation = reloading(versions(Await("go", 60_000), TWO, number=1), processes=1, park_ms=60_000)
    simulation.send(*[event()] * 10)
    simulation.run(for_ms=500)
    assert len(simulation.pool.parked()) == 10
    simulation.save(versions(Await("go", 60_000), Step("new"), TWO, number=2))
    simulation.run(for_ms=100)
    assert simulation.pool.parked() == []
    assert [*simulation.pool.workers] == [2]
    simulation.send(event("go"))
    simulation.run()
    assert len(simulation.begun("new")) == 10
    assert {state for _, state in states(simulation)} == {"completed"}


def test_old_code_serves_while_the_new_one_loads_and_nothing_else_is_started(reloading: Simulate) -> None:
    simulation = reloading(
        versions(ONE, number=1), processes=2, slots=1, loading=[Loading.FINE] * 2 + [Loading.NEVER_ENDS]
    )
    simulation.send(*[event()] * 4)
    simulation.run(lambda: len(simulation.begun()) == 2)
    simulation.save(versions(ONE, number=2))
    simulation.run(for_ms=1_000)
    assert states(simulation) == [("f", "completed")] * 4
    assert sorted(simulation.pool.workers) == [1, 2, 3]
    assert simulation.reloaded == []
    assert simulation.engine.functions["f"].retries == 1


def test_code_that_does_not_end_to_load_is_said_and_the_next_save_ends_it(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1), processes=1, loading=[Loading.FINE, Loading.NEVER_ENDS])
    simulation.run()
    simulation.save(versions(ONE, number=2))
    simulation.run(for_ms=LOADS_LONG_MS + 1_000)
    assert [error for error, _ in said(simulation)] == ["its modules are still loading after 10 s"]
    simulation.send()
    simulation.run(for_ms=1_000)
    assert states(simulation) == [("f", "completed")]
    simulation.save(versions(ONE, number=3))
    simulation.run(for_ms=1_000)
    assert said(simulation)[1:] == [(None, ["~ f (retries 1 to 3)"])]
    assert [*simulation.pool.workers] == [3]


def test_the_first_code_may_never_end_to_load_which_is_said(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1), processes=1, loading=[Loading.NEVER_ENDS])
    simulation.run(for_ms=LOADS_LONG_MS + 1_000)
    assert [error for error, _ in said(simulation)] == ["its modules are still loading after 10 s"]
    simulation.save(versions(ONE, number=2))
    simulation.send()
    simulation.run(for_ms=1_000)
    assert states(simulation) == [("f", "completed")]


@pytest.mark.parametrize("how", ["broken", "deadly"])
def test_broken_code_changes_nothing_and_the_next_save_tries_again(reloading: Simulate, how: str) -> None:
    simulation = reloading(versions(ONE, TWO, number=1))
    simulation.send(*[event()] * 5)
    simulation.run(lambda: simulation.begun("two") != [])
    getattr(simulation, how).add("test")
    simulation.save()
    simulation.run()
    assert states(simulation) == [("f", "completed")] * 5
    assert len(simulation.reloaded) == 1
    (error, changes), *_ = said(simulation)
    assert (error is not None, changes) == (True, [])
    simulation.save()
    simulation.run()
    assert len(simulation.reloaded) == 2, "it is said again for a save that is no better"
    getattr(simulation, how).clear()
    simulation.save(versions(ONE, number=2))
    simulation.send()
    simulation.run()
    assert states(simulation) == [("f", "completed")] * 6
    assert said(simulation)[2:] == [(None, ["~ f (retries 1 to 2)"])]
    assert simulation.engine.load_errors == []
    assert nobody_was_charged(simulation)


def test_runs_wait_when_the_old_workers_are_gone_and_the_code_is_broken(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1), processes=2)
    simulation.send()
    simulation.run()
    simulation.broken.add("test")
    simulation.save()
    simulation.run()
    for worker in [*simulation.pool.workers]:
        simulation.pool.lose(worker)
    simulation.send(*[event()] * 3)
    simulation.run(for_ms=600_000)
    assert states(simulation)[1:] == [("f", "queued")] * 3
    assert len(simulation.reloaded) == 1, "it is said once, however often it is tried"
    assert simulation.pool.spawned < 60, "it is tried less and less often"
    simulation.broken.clear()
    simulation.save()
    simulation.run()
    assert states(simulation) == [("f", "completed")] * 4
    assert nobody_was_charged(simulation)


def test_code_that_is_mended_by_itself_is_adopted_when_a_worker_is_needed(reloading: Simulate) -> None:
    """What it imports was not there, and is now: nothing was saved."""
    simulation = reloading(versions(ONE, number=1), processes=1)
    simulation.run()
    simulation.broken.add("test")
    simulation.save(versions(ONE, number=2))
    simulation.run()
    simulation.broken.clear()
    simulation.pool.lose(1)
    simulation.send()
    simulation.run(for_ms=60_000)
    assert states(simulation) == [("f", "completed")]
    assert said(simulation)[1:] == [(None, ["~ f (retries 1 to 2)"])]


def test_the_newest_of_two_saves_wins(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1), processes=1)
    simulation.run()
    simulation.save(versions(ONE, number=2))
    simulation.run(for_ms=5)
    simulation.save(versions(ONE, number=3))
    simulation.run()
    assert said(simulation) == [(None, ["~ f (retries 1 to 3)"])]
    assert [*simulation.pool.workers] == [3]
    assert [each.worker for each in simulation.entries(What.KILLED)] == [2]


def test_a_save_while_the_first_workers_load(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1), processes=1)
    simulation.send()
    simulation.run(for_ms=5)
    simulation.save(versions(ONE, number=2))
    simulation.run()
    assert states(simulation) == [("f", "completed")]
    assert {each.retries for each in simulation.engine.functions.values()} == {2}


def test_the_first_code_may_be_broken(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1))
    simulation.broken.add("test")
    simulation.send()
    simulation.run(for_ms=5_000)
    assert said(simulation) == [("`m.py` line 1: it is broken", [])]
    simulation.broken.clear()
    simulation.save()
    simulation.run()
    assert states(simulation) == [("f", "completed")]
    assert said(simulation)[1:] == [(None, ["+ f"])]


def test_functions_come_and_go_and_their_queued_runs_wait(reloading: Simulate) -> None:
    f, g = versions(ONE, number=1), function("g", Step("in g", takes_ms=80), TWO)
    simulation = reloading(f, g, processes=1, slots=1)
    simulation.send(*[event()] * 3)
    simulation.run(for_ms=100)
    assert simulation.begun("in g") == [70]
    simulation.save(f)
    simulation.run()
    assert [each for each in states(simulation) if each[0] == "f"] == [("f", "completed")] * 3
    assert [each for each in states(simulation) if each[0] == "g"] == [("g", "queued")] * 3
    assert simulation.engine.stranded() == {"g"}
    simulation.send()
    simulation.run()
    assert len(states(simulation)) == 7, "nobody hears of it any more"
    simulation.save(f, g)
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    assert len(simulation.begun("in g")) == 3
    assert said(simulation) == [(None, ["- g"]), (None, ["+ g"])]
    assert nobody_was_charged(simulation)


def test_crons_of_functions_that_are_gone_stop_and_those_of_new_ones_begin(reloading: Simulate) -> None:
    minutely, hourly = CronTrigger("* * * * *"), CronTrigger("0 * * * *")
    f, g = function("f", on=(), cron=[minutely]), function("g", on=(), cron=[hourly])
    simulation = reloading(f)
    simulation.run(for_ms=180_100)
    assert states(simulation) == [("f", "completed")] * 3
    simulation.save(g)
    simulation.run(for_ms=3_600_000)
    assert states(simulation)[3:] == [("g", "completed")]
    assert said(simulation) == [(None, ["+ g", "- f (cron * * * * * stops)"])]


def test_places_are_those_of_the_new_limits(reloading: Simulate) -> None:
    def limited(limit: int | None) -> Function:
        rules = () if limit is None else (ConcurrencyRule(limit),)
        return function("f", Step("s", takes_ms=100), flow=FlowRules(concurrency=rules))

    simulation = reloading(limited(1), processes=4, slots=4)
    simulation.send(*[event()] * 3)
    simulation.run(lambda: simulation.begun() != [])
    simulation.save(limited(None))  # What executes now lets go of a place that is none any more.
    simulation.run(for_ms=400)
    simulation.save(limited(1))
    simulation.run(for_ms=30)
    simulation.send(*[event()] * 3)
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    late = sorted(simulation.begun())[3:]
    assert all(second - first >= 100 for first, second in pairwise(late))


def test_a_suspect_alone_in_an_old_worker_is_alone_in_a_new_one(reloading: Simulate) -> None:
    f = function("f", Step("s", takes_ms=30, deaths=2), TWO)
    simulation = reloading(f, function("g", Step("t", takes_ms=40)), processes=2)
    simulation.send(*[event()] * 3)
    simulation.run(lambda: len(simulation.entries(What.DEATH)) == 1)
    simulation.run(for_ms=30)
    simulation.save()
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    check(simulation)


def test_a_worker_that_was_started_between_a_save_and_its_reload_gets_nothing_that_it_has_not(
    reloading: Simulate,
) -> None:
    """It has the code that nobody has told the engine of."""
    f, g = versions(ONE, number=1), function("g", ONE)
    simulation = reloading(f, g, processes=2, slots=1)
    simulation.send()
    simulation.run(lambda: len(simulation.begun()) == 1)
    simulation._have({"test": (f,)})
    simulation.pool.have(simulation.code)
    simulation.send(*[event()] * 3)
    simulation.run(for_ms=1_000)
    assert said(simulation) == [(None, ["- g"])]
    assert {state for name, state in states(simulation) if name == "f"} == {"completed"}
    assert {state for name, state in states(simulation) if name == "g"} <= {"completed", "queued"}
    assert simulation.messages(1) == []


def test_settings_take_effect(reloading: Simulate) -> None:
    simulation = reloading(versions(Step("s", takes_ms=200), number=1), processes=1, slots=1)
    simulation.send(*[event()] * 12)
    simulation.run(for_ms=100)
    assert len(simulation.pool.executing()) == 1
    simulation.have_settings(Settings(processes=3, slots=2, has_reloads=True))
    simulation.run(for_ms=100)
    assert len(simulation.pool.executing()) == 6
    simulation.have_settings(Settings(processes=1, slots=1, has_reloads=True))
    simulation.run(for_ms=350)
    assert (len(simulation.pool.executing()), len(simulation.pool.workers)) == (1, 1)
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    assert nobody_was_charged(simulation)
    assert simulation.reloaded == []


# Several apps.


def shop(number: int) -> tuple[Function, ...]:
    return (versions(ONE, TWO, number=number),)


def test_only_the_app_that_was_saved_is_loaded_anew(reloading: Simulate) -> None:
    simulation = reloading(apps={"shop": shop(1), "billing": shop(1)}, processes=2)
    simulation.send()
    simulation.run(for_ms=30)
    simulation.save(apps={"shop": shop(1), "billing": shop(2)}, but={"shop"})
    simulation.run()
    assert [each.app for each in simulation.reloaded] == ["billing"]
    assert said(simulation) == [(None, ["~ billing/f (retries 1 to 2)"])]
    starts = {(each.run, each.worker) for each in simulation.entries(What.START)}
    assert len(starts) == 3, "only the run of the saved app has moved"
    assert {state for _, state in states(simulation)} == {"completed"}


def test_apps_come_and_go(reloading: Simulate) -> None:
    simulation = reloading(apps={"shop": shop(1), "billing": shop(1)}, processes=2)
    simulation.send()
    simulation.run(lambda: len(simulation.begun("one")) == 2)
    simulation.save(apps={"shop": shop(1), "mail": shop(1)}, but={"shop"})
    simulation.run(for_ms=200)
    simulation.send()
    simulation.run()
    assert said(simulation) == [(None, ["- billing/f"]), (None, ["+ mail/f"])]
    assert states(simulation) == [
        ("shop/f", "completed"), ("billing/f", "queued"), ("shop/f", "completed"), ("mail/f", "completed"),
    ]  # fmt: skip
    assert {worker.app for worker in simulation.pool.workers.values()} == {"shop", "mail"}
    simulation.save(apps={"billing": shop(1)})
    simulation.run()
    assert {state for _, state in states(simulation)} == {"completed"}
    assert nobody_was_charged(simulation)


def test_an_app_that_is_new_and_never_ends_to_load_holds_nobody_up(reloading: Simulate) -> None:
    loading = [Loading.FINE, Loading.NEVER_ENDS]
    simulation = reloading(apps={"shop": shop(1)}, processes=1, loading=loading)
    simulation.run()
    simulation.save(apps={"shop": shop(1), "mail": shop(1)}, but={"shop"})
    simulation.run(for_ms=100)
    simulation.save(apps={"shop": shop(2), "mail": shop(1)}, but={"mail"})
    simulation.send()
    simulation.run(for_ms=1_000)
    assert states(simulation) == [("shop/f", "completed")]
    assert simulation.engine.functions["shop/f"].retries == 2


# Any saves at any time.


def edited(rng: random.Random, number: int) -> tuple[Function, ...]:
    """Two functions, the second of which comes and goes; steps between the others come and go as well."""
    parts: list[Part] = [ONE, Sleep(rng.choice([5, 300])), TWO, Await("w", 200), Step("three", takes_ms=5)]
    for _ in range(rng.randint(0, 2)):
        parts.insert(rng.randint(0, len(parts)), Step(rng.choice("xyz"), takes_ms=rng.choice([0, 40])))
    made = function("f", *parts, retries=number, is_async=rng.random() < 0.5)
    beside = function("g", *reversed(parts), is_async=rng.random() < 0.5)
    return (made, beside) if rng.random() < 0.7 else (made,)


def save_anything(simulation: Simulation, rng: random.Random, saves: int) -> None:
    for number in range(saves):
        simulation.send(*[event(rng.choice(["e", "e", "w"])) for _ in range(rng.randint(0, 5))])
        simulation.run(for_ms=rng.choice([0, 3, 15, 25, 100, 700]))
        simulation.broken.clear()
        simulation.deadly.clear()
        if rng.random() < 0.3:
            rng.choice([simulation.broken, simulation.deadly]).add("test")
        if rng.random() < 0.8:
            simulation.save(*edited(rng, number % 20))
        else:
            simulation.save()
    simulation.broken.clear()
    simulation.deadly.clear()
    rest = edited(random.Random(0), 1)
    simulation.save(*(rest if len(rest) == 2 else (*rest, function("g", TWO))))
    simulation.run()


def all_went_well(simulation: Simulation) -> None:
    assert {state for _, state in states(simulation)} == {"completed"}
    assert nobody_was_charged(simulation)
    assert simulation.rows("SELECT step, type, message FROM failure") == []
    check_over(simulation)
    check_history(simulation)
    assert {worker.number for worker in simulation.pool.workers.values()} == set(
        simulation.engine._roster.current_of("test")
    )


@pytest.mark.parametrize("seed", range(60))
def test_any_saves_lose_no_run(reloading: Simulate, seed: int) -> None:
    rng = random.Random(seed)
    simulation = reloading(
        *edited(random.Random(0), 1), processes=rng.randint(1, 3), slots=rng.randint(1, 3), seed=seed,
        park_ms=any_park_ms(rng), lag=any_lag(rng),
    )  # fmt: skip
    save_anything(simulation, rng, 12)
    all_went_well(simulation)


@pytest.mark.parametrize("seed", range(60))
def test_any_saves_lose_no_run_whatever_dies_when(reloading: Simulate, seed: int) -> None:
    rng = random.Random(seed)
    simulation = reloading(
        *edited(random.Random(0), 1), processes=rng.randint(1, 3), slots=rng.randint(1, 3), seed=seed,
        park_ms=any_park_ms(rng), lag=any_lag(rng), faults=any_faults(rng),
    )  # fmt: skip
    save_anything(simulation, rng, 12)
    all_went_well(simulation)


def crash_points() -> list[tuple[str, int]]:
    return [(where, number) for where in ("before", "after", "sending") for number in range(1, 26)]


@pytest.mark.parametrize(("where", "number"), crash_points())
def test_a_crash_between_any_two_effects_of_a_reload(reloading: Simulate, where: str, number: int) -> None:
    simulation = reloading(
        versions(ONE, Sleep(50), TWO, number=1),
        function("g", ONE),
        faults=Faults.at(where, number),
        processes=2,
        slots=1,
    )
    simulation.send(*[event()] * 2)
    simulation.run(for_ms=70)
    simulation.save(versions(ONE, Sleep(50), TWO, number=2))
    simulation.run(for_ms=40)
    simulation.save(versions(ONE, Sleep(50), TWO, number=3), function("g", ONE))
    simulation.run()
    assert simulation.engines <= 2
    all_went_well(simulation)


def test_a_hundred_saves_leave_no_worker_behind(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=0), processes=2, slots=2)
    for number in range(100):
        simulation.send()
        simulation.run(for_ms=30)
        simulation.save(versions(ONE, number=number % 20))
        assert len(simulation.pool.workers) <= 8
    simulation.run()
    assert states(simulation) == [("f", "completed")] * 100
    told = [worker for worker, message in simulation.pool.sent if isinstance(message, ShutDown)]
    assert len(told) == len(set(told))
    assert simulation.engine._apps._apps["test"].loading == set()


def test_long_steps_in_old_code_do_not_fill_the_machine_with_workers(reloading: Simulate) -> None:
    simulation = reloading(versions(Step("s", takes_ms=100_000), number=0), processes=2, slots=1)
    for number in range(20):
        simulation.send(*[event()] * 2)
        simulation.run(for_ms=500)
        simulation.save(versions(Step("s", takes_ms=100_000), number=number % 20))
    # One a save, with the step that it is at: no save waits for the steps of others.
    assert len(simulation.pool.workers) <= 20 + 2 * 2 + 2
    simulation.run()
    assert states(simulation) == [("f", "completed")] * 40


def test_an_outcome_is_told_after_the_commit_of_what_it_says(reloading: Simulate) -> None:
    simulation = reloading(versions(ONE, number=1))
    simulation.run()
    seen: list[int] = []

    def tell(_reloaded: Reloaded) -> None:
        ((spec,),) = simulation.rows("SELECT spec ->> 'retries' FROM function WHERE id = 'f'")
        seen.append(spec)

    simulation.engine.on_reloaded = tell
    simulation.save(versions(ONE, number=2))
    simulation.run()
    assert seen == [2]
