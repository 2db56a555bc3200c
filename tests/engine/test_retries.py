"""Attempts: how many, and exactly when."""

from __future__ import annotations

import random

import pytest

from fanout.core.retry import TABLE
from fanout.model import Backoff
from tests.engine.checker import check
from tests.engine.conftest import NEVER, Simulate, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    FATAL,
    OK,
    Body,
    Fail,
    Outcome,
    Script,
    Step,
    What,
    function,
    parallel,
)
from tests.engine.simulation import Simulation

pytestmark = every_parking

TWICE: tuple[Outcome, ...] = (FAIL, FAIL, OK)
SCRIPTS: dict[str, Script] = {"step": (Step("s", TWICE),), "body": (Step("s"), Body(TWICE), Step("t"))}


def waits(simulation: Simulation) -> list[int]:
    """From each failure to when the step's code, or the function's if it is that which failed, began again."""
    failed = simulation.rows("SELECT step, at FROM failure ORDER BY rowid")
    return [
        next(
            each.at - at
            for each in simulation.log
            if each.at >= at and each.what is (What.BEGIN if step else What.START) and each.step == step
            if each.attempt == number + 1 + bool(step)
        )
        for number, (step, at) in enumerate(failed)
    ]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Backoff(initial=1, factor=3), [1_000, 3_000]),
        (Backoff(initial=2, factor=10, maximum=5), [2_000, 5_000]),
        ((0.5, 7.25), [500, 7_250]),
        ((4.0,), [4_000, 4_000]),
        ((0.0,), [0, 0]),
    ],
    ids=str,
)
def test_attempts_are_made_exactly_when_the_backoff_says(
    simulate: Simulate, script: Script, backoff: Backoff | tuple[float, ...], expected: list[int]
) -> None:
    simulation = simulate(function("a", *script, backoff=backoff))
    simulation.send()
    simulation.run()
    assert waits(simulation) == expected
    check(simulation)


@pytest.mark.parametrize("part", [Step("s", (*[FAIL] * 12, OK)), Body((*[FAIL] * 12, OK))], ids=["step", "body"])
def test_without_a_backoff_the_table_with_jitter_rules(simulate: Simulate, part: Step | Body) -> None:
    simulation = simulate(function("a", part, retries=12), seed=7)
    simulation.send()
    simulation.run()
    chance = random.Random(7)
    delays = [*TABLE, TABLE[-1], TABLE[-1]]
    assert waits(simulation) == [round((delay + 30 * chance.random()) * 1000) for delay in delays]
    check(simulation)


def test_the_jitter_of_a_backoff_is_its_own(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", TWICE), backoff=Backoff(initial=1, factor=1, jitter=10)), seed=3)
    simulation.send()
    simulation.run()
    chance = random.Random(3)
    assert waits(simulation) == [round((1 + 10 * chance.random()) * 1000) for _ in range(2)]


@pytest.mark.parametrize("part", [Step, lambda _name, outcomes: Body(outcomes)], ids=["step", "body"])
def test_a_wait_that_the_code_asks_for_rules_over_all(simulate: Simulate, part: type[Step]) -> None:
    outcomes = (Fail(retry_after_ms=86_400_000), FAIL, Fail(retry_after_ms=1_000), OK)
    simulation = simulate(function("a", part("s", outcomes), backoff=(3.0,)), retry_delay_ms=40)
    simulation.send()
    simulation.run()
    assert waits(simulation) == [86_400_000, 40, 1_000]
    check(simulation)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_in_development_one_delay_replaces_every_backoff(simulate: Simulate, script: Script) -> None:
    simulation = simulate(function("a", *script, backoff=Backoff()), retry_delay_ms=125)
    simulation.send()
    simulation.run()
    assert waits(simulation) == [125, 125]
    check(simulation)


@pytest.mark.parametrize("outcome", [FATAL, Fail(is_retriable=False, retry_after_ms=5)], ids=["plain", "with a wait"])
def test_what_is_not_retriable_fails_at_once(simulate: Simulate, outcome: Fail) -> None:
    simulation = simulate(function("a", Step("s"), Step("t", (outcome,))), function("b", Step("s"), Body((outcome,))))
    simulation.send()
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "failed", 2: "failed"}
    assert simulation.failures(1) == [("t", 0, "Broken"), ("", 0, "StepError")]
    assert simulation.failures(2) == [("", 0, "Broken")]
    check(simulation)


def test_a_step_that_gave_up_can_be_caught(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", (FAIL,), is_caught=True), Step("compensate"), retries=2, backoff=(1.0,))
    )
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert simulation.steps(1) == {"s": ("failed", 3), "compensate": ("completed", 1)}
    check(simulation)


def test_a_failed_step_stays_failed_when_the_function_is_entered_again(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", (FATAL,), is_caught=True), Step("t", (FAIL, OK)), Body((FAIL, OK)), backoff=(1.0,))
    )
    simulation.send()
    simulation.run()
    assert len(simulation.begun("s")) == 1
    check(simulation)


def test_attempts_of_the_body_and_of_each_step_are_counted_apart(simulate: Simulate) -> None:
    """Nine failures in a run of three attempts, and yet it completes."""
    simulation = simulate(
        function("a", Step("s", TWICE), Body(TWICE), Step("t", TWICE), Step("t", TWICE), retries=2, backoff=(1.0,))
    )
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert simulation.steps(1) == dict.fromkeys(("s", "t", "t#2"), ("completed", 3))
    assert simulation.failures(1) == [(step, attempt, "Broken") for step in ("s", "", "t", "t#2") for attempt in (0, 1)]
    check(simulation)


def test_no_retries_means_one_attempt(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", (FAIL,)), retries=0), function("b", Body((FAIL,)), retries=0))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "failed", 2: "failed"}
    check(simulation)


def test_completed_steps_of_a_failed_run_are_kept_and_siblings_go_on(simulate: Simulate) -> None:
    simulation = simulate(
        function("bad", Step("one"), Step("two"), Step("three", (FAIL,)), retries=1, backoff=(1.0,)),
        function("good", *[Step("s", takes_ms=700)] * 5),
    )
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "failed", 2: "completed"}
    assert simulation.steps(1) == {"one": ("completed", 1), "two": ("completed", 1), "three": ("failed", 2)}
    check(simulation)


def test_a_slot_is_free_while_a_run_waits(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", (FAIL, OK)), backoff=(100.0,)), function("b", Step("s")), processes=1, slots=1
    )
    simulation.send()
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "waiting", 2: "completed"}
    simulation.run()
    check(simulation)


def test_a_backoff_survives_a_crash(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", (FAIL, OK)), backoff=(100.0,)))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.restart()
    simulation.run()
    assert waits(simulation) == [100_000]
    check(simulation)


def test_a_retry_keeps_its_time_when_the_engine_dies_while_the_run_leaves(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", (FAIL, OK)), backoff=(100.0,)))
    simulation.faults.linger = False
    simulation.send()
    simulation.run(lambda: simulation.failures(1) != [])
    failed_at = simulation.clock() - BEGINNING
    simulation.restart()
    simulation.run()
    assert simulation.begun("s")[1] == failed_at + 100_000


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_of_parallel_steps_that_failed_each_is_tried_at_its_own_time(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function(
            "a",
            parallel(
                Step("left", (FAIL, OK)), Step("middle", (Fail(retry_after_ms=60_000), OK)), Step("right", takes_ms=500)
            ),
            backoff=(10.0,),
            is_async=is_async,
        )
    )
    simulation.send()
    simulation.run()
    failed_at = simulation.begun("left")[0] + 1
    assert simulation.begun("left")[1:] == [failed_at + 10_000]
    assert simulation.begun("middle")[1:] == [failed_at + 60_000]
    assert len(simulation.begun("right")) == 1
    check(simulation)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_step_is_tried_again_in_place_while_the_execution_is_kept(
    simulate: Simulate, park_ms: int, is_async: bool
) -> None:
    """What is due before the parking ends does not leave its worker; what is due later leaves at once."""
    simulation = simulate(
        function("a", Step("one"), Step("s", (FAIL, FAIL, OK)), backoff=(5.0, 5.001), is_async=is_async)
    )
    simulation.send()
    simulation.run()
    assert len(simulation.entries(What.LEFT)) == {0: 2, NEVER: 0}.get(park_ms, 1)
    assert len(simulation.entries(What.START)) == 1 + len(simulation.entries(What.LEFT))
    check(simulation)


def test_a_run_whose_step_is_tried_again_waits_for_the_step(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", (FAIL, OK)), backoff=(100.0,)))
    simulation.send()
    simulation.run(for_ms=1_000)
    failed_at = BEGINNING + simulation.begun("s")[0] + 1
    assert simulation.rows(
        "SELECT run.state, run.due_at, step.state, step.due_at FROM run JOIN step ON run.key = run"
    ) == [("waiting", None, "retrying", failed_at + 100_000)]
    assert simulation.engine.is_idle()
    assert simulation.engine.next_due == failed_at + 100_000
