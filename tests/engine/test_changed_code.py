"""Code that is another than it was when the run began: what is recorded stays, whatever is around it."""

from __future__ import annotations

import pytest

from tests.engine.checker import check_fan_out, check_history, check_over
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    FAIL,
    OK,
    Await,
    Body,
    Invoke,
    Map,
    Part,
    Script,
    Sleep,
    Step,
    event,
    function,
    items,
    parallel,
)
from tests.engine.simulation import Simulation

pytestmark = every_parking

CHILD = function("child", Sleep(30_000), Step("in child"), on=[])


def changed(
    simulate: Simulate, before: Script, after: Script, *, at_ms: int = 1_000, is_async: bool = False
) -> Simulation:
    """A run that is in the middle of its old code when the new one is there; it has ended."""
    simulation = simulate(function("a", *before, backoff=(10.0,), is_async=is_async), CHILD)
    simulation.send()
    simulation.run(for_ms=at_ms)
    simulation.restart(function("a", *after, backoff=(10.0,), is_async=is_async), CHILD)
    simulation.run()
    assert simulation.state(1) == "completed"
    check_over(simulation)
    check_history(simulation)
    check_fan_out(simulation)
    return simulation


def begun(simulation: Simulation) -> list[str]:
    return [step for name, step in simulation.order() if name == "a"]


def unreached(simulation: Simulation) -> list[str]:
    return [key for (key,) in simulation.rows("SELECT key FROM step WHERE run = 1 AND is_unreached ORDER BY position")]


ONE, TWO, THREE, NEW = Step("one"), Step("two"), Step("three"), Step("new")
NAP = Sleep(20_000)


@both_kinds
@pytest.mark.parametrize(
    ("after", "expected", "gone"),
    [
        ((ONE, TWO, NAP, THREE), ["one", "two", "three"], []),
        ((NEW, ONE, TWO, NAP, THREE), ["one", "two", "new", "three"], []),
        ((TWO, NAP, ONE, THREE), ["one", "two", "three"], []),
        ((TWO, NAP, THREE), ["one", "two", "three"], ["one"]),
        ((Step("renamed"), TWO, NAP, THREE), ["one", "two", "renamed", "three"], ["one"]),
        ((ONE, ONE, TWO, NAP, THREE), ["one", "two", "one#2", "three"], []),
        ((NAP,), ["one", "two"], ["one", "two"]),
        ((parallel((ONE, NAP), TWO), THREE), ["one", "two", "three"], []),
    ],
    ids=["same", "insert", "reorder", "remove", "rename", "repeat", "remove all", "into branches"],
)
def test_recorded_steps_keep_their_values(
    simulate: Simulate, after: Script, expected: list[str], gone: list[str], is_async: bool
) -> None:
    simulation = changed(simulate, (ONE, TWO, NAP, THREE), after, is_async=is_async)
    assert begun(simulation) == expected
    assert unreached(simulation) == gone


@both_kinds
def test_what_ran_in_branches_is_known_outside_of_them(simulate: Simulate, is_async: bool) -> None:
    before = (parallel((ONE, NAP), (TWO, Sleep(10_000, "brief"))), THREE)
    simulation = changed(simulate, before, (ONE, TWO, NAP, Sleep(10_000, "brief"), THREE), is_async=is_async)
    assert begun(simulation) == ["one", "two", "three"]
    assert unreached(simulation) == []


@both_kinds
@pytest.mark.parametrize(
    "waiting",
    [NAP, Await("f", 20_000), Invoke("child"), Map("child", items(of=3), 2)],
    ids=["sleep", "event", "invoke", "map"],
)
@pytest.mark.parametrize("where", ["before it", "after it"])
def test_a_step_that_is_inserted_around_one_that_waits(
    simulate: Simulate, waiting: Part, where: str, is_async: bool
) -> None:
    after = (NEW, waiting, TWO) if where == "before it" else (waiting, NEW, TWO)
    simulation = changed(simulate, (ONE, waiting, TWO), after, is_async=is_async)
    assert begun(simulation) == ["one", "new", "two"]
    assert unreached(simulation) == ["one"]
    children = simulation.rows("SELECT count(*) FROM run WHERE parent = 1")[0][0]
    assert children == {Invoke: 1, Map: 3}.get(type(waiting), 0)


@both_kinds
@pytest.mark.parametrize(
    ("waiting", "renamed"),
    [
        (NAP, Sleep(5_000, "other")),
        (Await("f", 20_000), Await("g", 5_000, name="other")),
        (Invoke("child"), Invoke("child", name="other")),
        (Map("child", items(of=2)), Map("child", items(of=3), name="other")),
    ],
    ids=["sleep", "event", "invoke", "map"],
)
def test_a_step_that_waits_is_renamed(simulate: Simulate, waiting: Part, renamed: Part, is_async: bool) -> None:
    """The run goes on when what it had waited for comes; then it waits for what the code now says."""
    simulation = changed(simulate, (ONE, waiting, TWO), (ONE, renamed, TWO), is_async=is_async)
    assert begun(simulation) == ["one", "two"]
    assert simulation.steps(1)["other"] == ("completed", 1)
    assert len(unreached(simulation)) == 1


@both_kinds
@pytest.mark.parametrize(
    "waiting",
    [NAP, Await("f", 20_000), Invoke("child"), Map("child", items(of=3), 2)],
    ids=["sleep", "event", "invoke", "map"],
)
def test_a_step_that_waits_is_removed(simulate: Simulate, waiting: Part, is_async: bool) -> None:
    simulation = changed(simulate, (ONE, waiting, TWO), (ONE, TWO), is_async=is_async)
    assert begun(simulation) == ["one", "two"]
    assert len(unreached(simulation)) == 1


@both_kinds
@pytest.mark.parametrize(
    "waiting",
    [Sleep(60_000), Await("f", 60_000), Invoke("child"), Map("child", items(of=3), 2)],
    ids=["sleep", "event", "invoke", "map"],
)
def test_a_branch_that_waits_is_removed_and_the_run_ends_before_what_it_waited_for(
    simulate: Simulate, waiting: Part, is_async: bool
) -> None:
    simulation = changed(
        simulate, (parallel(waiting, (Sleep(5_000, "brief"), ONE)), TWO), (Sleep(5_000, "brief"), ONE, TWO),
        is_async=is_async,
    )  # fmt: skip
    assert begun(simulation) == ["one", "two"]
    assert len(unreached(simulation)) == 1


RETRIED = Step("s", (FAIL, OK))


@both_kinds
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((ONE, NEW, RETRIED, TWO), ["one", "s", "new", "s", "two"]),
        ((ONE, TWO, RETRIED), ["one", "s", "two", "s"]),
        ((ONE, Step("renamed"), TWO), ["one", "s", "renamed", "two"]),
        ((ONE, TWO), ["one", "s", "two"]),
        ((ONE, Sleep(1_000, "s"), TWO), ["one", "s", "two"]),
        ((ONE, parallel(RETRIED, NEW), TWO), ["one", "s", "new", "s", "two"]),
    ],
    ids=["insert", "reorder", "rename", "remove", "another kind", "into a branch"],
)
def test_a_step_that_is_tried_again_in_other_code(
    simulate: Simulate, after: Script, expected: list[str], is_async: bool
) -> None:
    simulation = changed(simulate, (ONE, RETRIED, TWO), after, is_async=is_async)
    assert sorted(begun(simulation)) == sorted(expected)
    if "s" in [getattr(part, "name", None) for part in after] and isinstance(after[1], Step):
        assert simulation.steps(1)["s"] == ("completed", 2)


def test_a_step_that_waited_is_now_one_of_its_own_code(simulate: Simulate) -> None:
    simulation = changed(simulate, (ONE, Sleep(20_000, "s"), TWO), (ONE, Step("s"), TWO))
    assert begun(simulation) == ["one", "two"]
    assert simulation.outputs(1)["s"] is None


def test_a_step_that_had_failed_and_was_caught_stays_failed_when_the_code_is_mended(simulate: Simulate) -> None:
    bad = Step("s", (FAIL, FAIL), is_caught=True)
    simulation = simulate(function("a", bad, NAP, TWO, retries=1, backoff=(0.0,)))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.restart(function("a", Step("s", is_caught=True), NAP, TWO))
    simulation.run()
    assert simulation.steps(1)["s"] == ("failed", 2)
    assert len(simulation.begun("s")) == 2


def test_code_that_is_mended_while_the_body_is_tried_again(simulate: Simulate) -> None:
    simulation = changed(simulate, (ONE, Body((FAIL,)), TWO), (NEW, ONE, TWO))
    assert begun(simulation) == ["one", "new", "two"]
    assert simulation.begun("new") == [20 + 1 + 10_000]


def test_a_function_that_was_plain_is_a_task_now(simulate: Simulate) -> None:
    simulation = simulate(function("a", parallel((ONE, NAP), TWO), THREE))
    simulation.send()
    simulation.run(for_ms=1_000)
    simulation.restart(function("a", parallel((ONE, NAP), TWO), THREE, is_async=True))
    simulation.run()
    assert simulation.state(1) == "completed"
    check_over(simulation)
    # The branches are numbered in another way, and which was which can't be known.
    assert len(simulation.begun("three")) == 1


def test_code_that_changes_again_and_again(simulate: Simulate) -> None:
    script: tuple[Part, ...] = (Sleep(40_000, "long"), Step("end"))
    simulation = simulate(function("a", *script))
    simulation.send(event())
    simulation.run(for_ms=500)
    for number in range(5):
        script = (Step(f"s{number}"), Sleep(1_000, f"nap{number}"), *script)
        simulation.restart(function("a", *script))
        simulation.run(for_ms=7_000)
    simulation.run()
    assert [len(simulation.begun(f"s{number}")) for number in range(5)] == [1] * 5
    assert simulation.begun("end")[0] >= 40_000
    check_over(simulation)
