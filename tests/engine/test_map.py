"""Functions that run another one for each of many items."""

from __future__ import annotations

import pytest

from tests.engine.checker import check, check_fan_out, check_over
from tests.engine.conftest import Simulate, both_kinds, every_parking
from tests.engine.scripts import (
    Function,
    Item,
    Map,
    Obey,
    Sleep,
    Step,
    What,
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
@pytest.mark.parametrize("max_in_flight", [1, 3, 8, 1_000])
@pytest.mark.parametrize("has_keys", [False, True], ids=["numbers", "keys"])
def test_a_map_returns_what_the_runs_returned_in_the_order_of_the_items(
    simulate: Simulate, max_in_flight: int, has_keys: bool, is_async: bool
) -> None:
    given = tuple(Item(number, takes_ms=(number * 7) % 20) for number in range(20))
    simulation = simulate(
        function("a", Map("child", given, max_in_flight, has_keys=has_keys), Step("after"), is_async=is_async),
        CHILD,
        processes=2,
        slots=4,
    )
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["map"] == [f"child is done with {number}" for number in range(20)]
    assert len(simulation.begun("s")) == 20
    assert len(simulation.begun("after")) == 1
    check(simulation)


@both_kinds
@pytest.mark.parametrize("max_in_flight", [1, 4, 7])
def test_never_more_runs_of_a_map_are_there_than_may_be(simulate: Simulate, max_in_flight: int, is_async: bool) -> None:
    simulation = simulate(
        function("a", Map("child", items(of=30, takes_ms=5), max_in_flight), is_async=is_async),
        CHILD,
        processes=2,
        slots=10,
    )
    seen: set[int] = set()

    def look() -> bool:
        ((live,),) = simulation.rows("SELECT count(*) FROM run WHERE parent = 1 AND ended_at IS NULL")
        seen.add(live)
        return simulation.states().get(1) == "completed"

    simulation.send()
    simulation.run(look)
    assert max(seen) == max_in_flight
    check(simulation)


def test_items_are_taken_as_they_are_needed(simulate: Simulate) -> None:
    simulation = simulate(function("a", Map("child", items(of=5_000), 10)), function("child", Sleep(9_000), on=[]))
    simulation.send()
    simulation.run(for_ms=5_000)
    assert len(children(simulation)) == 10
    assert simulation.rows("SELECT taken, ended, is_exhausted FROM map") == [(10, 0, 0)]


def test_many_items(simulate: Simulate) -> None:
    simulation = simulate(function("a", Map("child", items(of=2_000)), Step("s")), CHILD, slots=50)
    simulation.send()
    simulation.run()
    assert simulation.states()[1] == "completed"
    assert len(simulation.outputs(1)["map"]) == 2_000
    # A message has 500 items at most, and the parent is asked for more when half of them are gone.
    assert len(simulation.entries(What.START)) < 2_010


@both_kinds
@pytest.mark.parametrize("is_collecting", [False, True])
def test_a_map_of_nothing_is_an_empty_list(simulate: Simulate, is_collecting: bool, is_async: bool) -> None:
    simulation = simulate(
        function("a", Map("child", (), is_collecting=is_collecting), Step("s"), is_async=is_async), CHILD
    )
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["map"] == []
    assert simulation.states() == {1: "completed"}
    check(simulation)


@both_kinds
@pytest.mark.parametrize("is_caught", [False, True], ids=["uncaught", "caught"])
@pytest.mark.parametrize("max_in_flight", [2, 5, 100])
def test_the_first_item_that_fails_stops_a_map_and_cancels_the_rest(
    simulate: Simulate, max_in_flight: int, is_caught: bool, is_async: bool
) -> None:
    given = tuple(Item(number, takes_ms=30 if number == 4 else 3_000, is_failing=number == 4) for number in range(9))
    simulation = simulate(
        function("a", Map("child", given, max_in_flight, is_caught=is_caught), Step("after"), is_async=is_async),
        CHILD,
        processes=1,
        slots=12,
    )
    simulation.send()
    simulation.run()
    assert simulation.state(1) == ("completed" if is_caught else "failed")
    assert simulation.messages(1)[0] == ("map", "Broken", "item 4: the body broke")
    states = dict(children(simulation))
    assert states[4] == "failed"
    if max_in_flight >= 5:
        assert {states[number] for number in states if number != 4} == {"cancelled"}
        assert simulation.begun("s") == []
    assert len(states) == min(9, max(5, max_in_flight) + (max_in_flight == 2) * 1)
    assert len(simulation.begun("after")) == is_caught
    check(simulation)


@both_kinds
def test_collecting_goes_on_and_says_which_items_failed(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", Map("child", items(1, 4, of=6), 2, is_collecting=True), Step("after"), is_async=is_async), CHILD
    )
    simulation.send()
    simulation.run()
    assert simulation.state(1) == "completed"
    output = simulation.outputs(1)["map"]
    assert output["results"] == [None if number in (1, 4) else f"child is done with {number}" for number in range(6)]
    assert output["errors"] == {
        number: {"type": "Broken", "message": "the body broke", "traceback": ""} for number in ("1", "4")
    }
    check(simulation)


@pytest.mark.parametrize("is_collecting", [False, True], ids=["stop", "collect"])
def test_an_item_that_is_cancelled_is_one_that_failed(simulate: Simulate, is_collecting: bool) -> None:
    simulation = simulate(
        function("a", Map("child", items(of=3, takes_ms=2_000), is_collecting=is_collecting, is_caught=True)),
        CHILD,
        slots=9,
    )
    simulation.send()
    simulation.run(for_ms=500)
    simulation.cancel(3)
    simulation.run()
    states = ["completed", "cancelled", "completed"] if is_collecting else ["cancelled"] * 3
    assert [state for _, state in children(simulation)] == states
    assert simulation.steps(1)["map"][0] == ("completed" if is_collecting else "failed")
    check(simulation, cancelled={3})


def test_a_map_whose_items_take_long_to_make_ends_when_one_of_them_fails(simulate: Simulate) -> None:
    """The failure comes while the function makes more items: nobody takes those any more."""
    given = (Item(0, takes_ms=300, is_failing=True), *(Item(number) for number in range(1, 9)))
    simulation = simulate(function("a", Map("child", given, 4, is_caught=True, item_ms=400), Step("after")), CHILD)
    simulation.send()
    simulation.run()
    assert simulation.state(1) == "completed"
    assert simulation.steps(1)["map"] == ("failed", 1)
    check(simulation)


def test_all_items_failing_at_once_is_one_failure(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Map("child", items(*range(6), of=6), is_caught=True)),
        function("child", Obey(), on=[]),
        slots=12,
    )
    simulation.send()
    simulation.run()
    assert [step for step, _, _ in simulation.failures(1)] == ["map"]
    check(simulation)


@both_kinds
@pytest.mark.parametrize("has_keys", [False, True], ids=["numbers", "keys"])
def test_a_map_goes_on_where_it_was_after_a_crash(simulate: Simulate, has_keys: bool, is_async: bool) -> None:
    simulation = simulate(
        function("a", Map("child", items(of=12, takes_ms=40), 4, has_keys=has_keys), Step("s"), is_async=is_async),
        CHILD,
        slots=2,
    )
    simulation.send()
    for _ in range(6):
        simulation.run(for_ms=70)
        simulation.restart()
    simulation.run()
    assert simulation.outputs(1)["map"] == [f"child is done with {number}" for number in range(12)]
    assert len(children(simulation)) == 12
    check(simulation)


def test_with_keys_an_item_that_has_gone_or_come_does_not_shift_the_others(simulate: Simulate) -> None:
    def mapping(*numbers: int) -> Function:
        return function("a", Step("s"), Map("child", tuple(Item(number) for number in numbers), 2, has_keys=True))

    child = function("child", Obey(), Sleep(1_000), on=[])
    simulation = simulate(mapping(1, 2, 3, 4), child)
    simulation.send()
    simulation.run(for_ms=500)
    assert len(children(simulation)) == 2
    # `1` is a run already, and stays; `9` comes first now; `3` is gone.
    simulation.restart(mapping(9, 1, 2, 4), child)
    simulation.run()
    keys = [key for (key,) in simulation.rows("SELECT item_key FROM run WHERE parent = 1 ORDER BY item")]
    assert keys == ["1", "2", "9", "4"]
    assert simulation.outputs(1)["map"] == [f"child is done with {key}" for key in keys]
    check_over(simulation)
    check_fan_out(simulation)


def test_two_maps_at_once_and_one_in_a_map(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", parallel(Map("b", items(of=5), 2), Map("child", items(2, of=5), 2, is_collecting=True))),
        function("b", Map("child", items(of=4), 2), Step("t"), on=[]),
        CHILD,
        slots=3,
    )
    simulation.send()
    simulation.run()
    assert len(simulation.states()) == 1 + 5 + 5 + 20
    check(simulation)


def test_a_map_is_over_when_its_function_has_gone_from_the_code(simulate: Simulate) -> None:
    parent = function("a", Map("child", items(of=9), 3, is_caught=True), Step("s"))
    simulation = simulate(parent, function("child", Sleep(1_000), on=[]))
    simulation.send()
    simulation.run(for_ms=500)
    simulation.restart(parent)
    simulation.run(for_ms=60_000)
    simulation.restart(parent, function("child", on=[]))
    simulation.run()
    assert simulation.state(1) == "completed"
    check_over(simulation)
