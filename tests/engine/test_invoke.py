"""Functions that run another function, and wait for what it returns."""

from __future__ import annotations

import json

import pytest

from tests.engine.checker import check
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    BEGINNING,
    FAIL,
    FATAL,
    FOREVER,
    OK,
    Body,
    Function,
    Invoke,
    Map,
    Obey,
    Sleep,
    Step,
    event,
    function,
    items,
    parallel,
)
from tests.engine.simulation import Simulation

pytestmark = every_parking

CHILD = function("child", Obey(), Step("s"), on=[])


def children(simulation: Simulation) -> list[tuple[int, str]]:
    return [*simulation.rows("SELECT item, state FROM run WHERE parent IS NOT NULL ORDER BY parent, item")]


@both_kinds
def test_what_a_function_returns_is_what_invoking_it_returns(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Step("before"), Invoke("child", '{"item":7}'), Step("after"), is_async=is_async), CHILD
    )
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["invoke"] == "child is done with 7"
    assert simulation.order() == [("a", "before"), ("child", "s"), ("a", "after")]
    ((name, data, origin, function_id),) = simulation.rows(
        "SELECT name, data, origin, function FROM event JOIN run ON event = event.key WHERE event.key < 0"
    )
    assert (name, data, origin, function_id) == ("fanout/function.invoked", '{"item":7}', 1, "child")
    assert simulation.rows("SELECT parent, parent_step, item FROM run WHERE parent > 0") == [(1, "invoke", None)]
    check(simulation)


def test_an_invoke_shows_what_it_waits_for(simulate: Simulate) -> None:
    simulation = simulate(function("a", Invoke("child")), function("child", Sleep(60_000), on=[]))
    simulation.send()
    simulation.run(for_ms=1_000)
    assert simulation.rows("SELECT run.state, kind, step.state, step.due_at FROM run JOIN step ON run = run.key") == [
        ("waiting", "invoke", "waiting", None),
        ("waiting", "sleep", "waiting", BEGINNING + 20 + 60_000),
    ]
    assert simulation.engine.is_idle()


@both_kinds
@pytest.mark.parametrize("is_caught", [False, True], ids=["uncaught", "caught"])
@pytest.mark.parametrize(
    ("child", "reason"),
    [((Step("s", (FAIL,)),), None), ((Body((FAIL,)),), None), ((Step("s", deaths=FOREVER),), "crashed")],
    ids=["step", "body", "crash"],
)
def test_a_child_that_fails_fails_the_step(
    simulate: Simulate, child: tuple[Step | Body, ...], reason: str | None, is_caught: bool, is_async: bool
) -> None:
    simulation = simulate(
        function("a", Invoke("child", is_caught=is_caught), Step("after"), is_async=is_async),
        function("child", *child, on=[], retries=1, backoff=(1.0,)),
    )
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT state, reason FROM run ORDER BY key") == [
        ("completed" if is_caught else "failed", None),
        ("failed", reason),
    ]
    assert simulation.steps(1)["invoke"] == ("failed", 1)
    (_, type_, message), *_ = simulation.messages(1)
    assert (type_, message) == simulation.messages(2)[-1][1:]
    check(simulation)


def test_a_child_that_is_cancelled_fails_the_step(simulate: Simulate) -> None:
    simulation = simulate(function("a", Invoke("child", is_caught=True), Step("s")), function("child", Sleep(9_000)))
    simulation.send(event("nobody"))
    simulation.send()
    simulation.run(for_ms=1_000)
    ((child, id_),) = simulation.rows("SELECT key, id FROM run WHERE parent = 1")
    simulation.cancel(child)
    simulation.run()
    assert simulation.messages(1) == [("invoke", "Cancelled", f"the run `{id_}` was cancelled")]
    check(simulation, cancelled={child})


@both_kinds
@pytest.mark.parametrize("timeout_ms", [3_000, 30_000])
def test_an_invoke_that_takes_too_long_fails_on_time_and_the_function_goes_on(
    simulate: Simulate, timeout_ms: int, is_async: bool
) -> None:
    simulation = simulate(
        function("a", Invoke("child", timeout_ms=timeout_ms, is_caught=True), Step("after"), is_async=is_async),
        function("child", Sleep(60_000), Step("s"), on=[]),
    )
    simulation.run()
    simulation.send()
    simulation.run()
    assert simulation.begun("after") == [20 + timeout_ms]
    assert simulation.messages(1) == [("invoke", "TimeoutError", "the function did not end in time")]
    assert simulation.states() == {1: "completed", 2: "completed"}
    assert simulation.begun("s") == [20 + 60_000]
    check(simulation)


def test_a_child_that_ends_in_the_tick_of_the_timeout_counts_once(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Invoke("child", timeout_ms=500, is_caught=True), Step("after")),
        function("child", Step("s", takes_ms=500), on=[]),
    )
    simulation.send()
    simulation.run()
    assert simulation.steps(1)["invoke"][0] in ("completed", "failed")
    check(simulation)


def test_what_the_code_does_not_have_can_not_be_invoked(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Invoke("nothing", is_caught=True), Map("none", items(of=3), is_caught=True), Step("s"))
    )
    simulation.send()
    simulation.run()
    assert simulation.messages(1) == [
        ("invoke", "LookupError", "there is no function `nothing`"),
        ("map", "LookupError", "there is no function `none`"),
    ]
    assert simulation.states() == {1: "completed"}
    check(simulation)


def test_a_map_of_what_the_code_does_not_have_ends_also_when_its_items_take_long(simulate: Simulate) -> None:
    simulation = simulate(function("a", Map("none", items(of=3), is_caught=True, item_ms=200), Step("s")))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    check(simulation)


def test_a_function_may_invoke_itself(simulate: Simulate) -> None:
    def descend(depth: int) -> Function:
        return function("a", Step("s"), *([Invoke("b")] if depth else []), on=["e"])

    simulation = simulate(descend(1), function("b", Step("s"), Invoke("c"), on=[]), function("c", Step("s"), on=[]))
    simulation.send(*[event()] * 5)
    simulation.run()
    assert len(simulation.states()) == 15
    check(simulation)


@both_kinds
def test_several_at_once(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function(
            "a",
            parallel(*(Invoke("child", f'{{"item":{number},"takes_ms":{50 - number}}}') for number in range(10))),
            Step("after"),
            is_async=is_async,
        ),
        CHILD,
        slots=3,
    )
    simulation.send()
    simulation.run()
    assert [*simulation.outputs(1).values()][:10] == [f"child is done with {number}" for number in range(10)]
    check(simulation)


@pytest.mark.parametrize("failing", [FATAL, OK], ids=["failing", "fine"])
def test_the_end_of_the_last_child_and_what_it_means_are_one_commit(simulate: Simulate, failing: None) -> None:
    simulation = simulate(
        function("a", Invoke("child", is_caught=True), Map("child", items(of=2), is_caught=True), Step("after")),
        function("child", Step("s", (failing,), takes_ms=50), on=[]),
    )
    simulation.send()

    def nothing_is_between() -> bool:
        for run, step in simulation.rows(
            "SELECT run, key FROM step WHERE kind IN ('invoke', 'map') AND state = 'waiting'"
        ):
            live = "SELECT count(*) FROM run WHERE parent = ? AND parent_step = ? AND ended_at IS NULL"
            assert simulation.rows(live, run, step) != [(0,)]
        return False

    simulation.run(nothing_is_between, for_ms=1_000)
    assert simulation.state(1) == "completed"
    assert json.loads(simulation.rows("SELECT output FROM run WHERE key = 1")[0][0]) == "a is done"
    check(simulation)
