"""Events that steps send: exactly once, whatever dies when."""

from __future__ import annotations

import pytest

from tests.engine.checker import check
from tests.engine.conftest import Simulate, both_kinds
from tests.engine.scripts import FAIL, OK, Body, Faults, Function, Send, Sleep, Step, event, function, parallel


def functions(*, is_async: bool = False) -> tuple[Function, ...]:
    return (
        function(
            "a", Step("one"), Send((event("f", n=1), event("g"))), Step("two"), Send((event("f", n=2),)),
            is_async=is_async,
        ),
        function("b", Step("s"), on=["f"]),
        function("c", Body((FAIL, OK)), Send((event("h"),)), on=["g"], backoff=(1.0,)),
        function("d", Step("t"), on=["h"]),
    )  # fmt: skip


@both_kinds
def test_events_are_sent_with_their_step_and_routed_like_others(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(*functions(is_async=is_async))
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT name, data, origin FROM event ORDER BY key") == [
        ("e", "{}", None),
        ("f", '{"n":1}', 1),
        ("g", "{}", 1),
        ("f", '{"n":2}', 1),
        ("h", "{}", 3),
    ]
    ids = [id_ for (id_,) in simulation.rows("SELECT id FROM event ORDER BY key")]
    assert [simulation.outputs(1)[key] for key in ("send", "send#2")] == [ids[1:3], ids[3:4]]
    assert {*simulation.rows("SELECT function, state FROM run")} == {(name, "completed") for name in "abcd"}
    check(simulation)


@both_kinds
@pytest.mark.parametrize("where", ["before", "after", "sending"])
def test_a_crash_at_any_effect_sends_nothing_twice_and_loses_nothing(
    simulate: Simulate, where: str, is_async: bool
) -> None:
    quiet = simulate(*functions(is_async=is_async))
    quiet.send()
    quiet.run()
    sent = quiet.rows("SELECT name, data, origin FROM event ORDER BY key")
    effects = quiet.faults.sends if where == "sending" else quiet.faults.commits
    assert effects >= 8
    for number in range(1, effects + 1):
        simulation = simulate(*functions(is_async=is_async), faults=Faults.at(where, number))
        simulation.send()
        simulation.run()
        assert sorted(simulation.rows("SELECT name, data, origin FROM event ORDER BY key")) == sorted(sent), number
        check(simulation)


def test_nothing_to_send_is_a_step_too(simulate: Simulate) -> None:
    simulation = simulate(function("a", Send(()), Step("s")))
    simulation.send()
    simulation.run()
    assert simulation.outputs(1)["send"] == []
    check(simulation)


def test_a_given_id_that_a_step_sends_is_a_duplicate_for_the_same_function(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Send((event("f", id="x"), event("f", id="x"), event("f", id="y")))), function("b", on=["f"])
    )
    simulation.send(event("f", id="y"), event("e"))
    simulation.run()
    assert simulation.rows("SELECT event.id FROM run JOIN event ON event = event.key WHERE function = 'b'") == [
        ("y",),
        ("x",),
    ]


def test_an_event_with_a_future_ts_delays_its_run(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), function("b", Step("t"), on=["f"]))
    at = simulation.clock() + 60_000
    simulation.restart(function("a", Send((event("f", ts=at),))), function("b", Step("t"), on=["f"]))
    simulation.send()
    simulation.run()
    assert simulation.begun("t") == [60_000]
    check(simulation)


@both_kinds
def test_what_parallel_branches_send_is_sent_by_each(simulate: Simulate, is_async: bool) -> None:
    simulation = simulate(
        function("a", parallel(*((Sleep(number), Send((event("f"),))) for number in range(20))), is_async=is_async),
        function("b", on=["f"]),
    )
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT count(*) FROM run WHERE function = 'b'") == [(20,)]
    check(simulation)


def test_what_a_cancelled_run_was_about_to_send_is_not_sent(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=10), Send((event("f"),))), function("b", on=["f"]))
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun() != [])
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled"}
    check(simulation, cancelled={1})
