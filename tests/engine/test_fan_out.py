"""Events become runs, and runs take their turns."""

from __future__ import annotations

from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.protocol import Recorded
from tests.engine.checker import check
from tests.engine.conftest import Simulate
from tests.engine.scripts import BEGINNING, Body, Step, event, function
from tests.engine.workers import LOAD_MS


def test_one_event_starts_every_function_that_listens(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("two")),
        function("b", Step("one")),
        function("c"),
        function("d", Body(), Step("same"), Step("same"), is_async=True),
        function("other", Step("one"), on=["f"]),
    )
    simulation.send()
    simulation.run()
    check(simulation)
    assert simulation.rows("SELECT function, state, output FROM run ORDER BY key") == [
        (name, "completed", f'"{name} is done"') for name in "abcd"
    ]
    assert simulation.steps(4) == {"same": ("completed", 1), "same#2": ("completed", 1)}
    assert simulation.engine.is_idle()


def test_several_events_at_once_and_later(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("one"), Step("two"), on=["e", "f"]), function("b", Step("one"), on=["f"]), processes=3
    )
    simulation.send(event("e"), event("f"), event("nobody"), *[event("f")] * 20)
    simulation.run()
    simulation.send(event("e"))
    simulation.run()
    check(simulation)
    assert len(simulation.states()) == 1 + 2 + 2 * 20 + 1


def test_more_events_than_one_tick_takes(simulate: Simulate) -> None:
    simulation = simulate(function("a"), slots=50)
    simulation.send(*[event()] * 600)
    simulation.run()
    check(simulation)


def test_events_sent_before_the_first_engine_are_routed(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")))
    simulation.send()
    simulation.restart()
    simulation.run()
    check(simulation)


def test_an_event_without_a_nudge_is_seen_within_a_tenth_of_a_second(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")))
    simulation.run()
    simulation.send()
    simulation.bell.is_rung = False
    simulation.run(for_ms=101)
    assert simulation.states() == {1: "completed"}


def test_the_last_step_and_the_end_share_a_commit_and_need_no_acknowledgement(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one"), Step("two")))
    simulation.run()
    simulation.send()
    commits = simulation.faults.commits
    simulation.run()
    # The run; the first step; the second with the end.
    assert simulation.faults.commits - commits == 3
    assert len([message for _, message in simulation.pool.sent if isinstance(message, Recorded)]) == 1


def test_a_long_queue_of_one_function_does_not_hold_up_another(simulate: Simulate) -> None:
    """With 1,000 runs of A before them, 5 runs of B take at most twice as long as one each in turn would."""
    simulation = simulate(
        function("a", Step("a"), on=["many"]), function("b", Step("b"), on=["few"]), processes=2, slots=4
    )
    simulation.send(*[event("many")] * 1_000)
    simulation.run(lambda: simulation.states().get(1_000) is not None)
    already = len(simulation.order())
    simulation.send(*[event("few")] * 5)
    simulation.run(lambda: [*simulation.states().values()][1_000:] == ["completed"] * 5)
    last = max(place for place, (name, _) in enumerate(simulation.order()) if name == "b")
    assert last - already <= 2 * (2 * 5) + 2 * 4
    assert simulation.states()[1_000] == "queued"


def test_functions_with_unequal_queues_take_turns(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s"), on=["a"]),
        function("b", Step("s"), on=["b"]),
        function("c", Step("s"), on=["c"]),
        processes=1,
        slots=1,
    )
    simulation.send(*[event("a")] * 6, *[event("b")] * 2, event("c"))
    simulation.run()
    assert "".join(name for name, _ in simulation.order()) == "abcabaaaa"
    check(simulation)


def test_a_future_ts_delays_the_run_to_the_millisecond(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")), function("b", Step("one")))
    simulation.run()
    simulation.send(event(ts=BEGINNING + 3_600_000), event(ts=BEGINNING - 5))
    simulation.run(for_ms=1_000)
    assert simulation.states() == {1: "waiting", 2: "waiting", 3: "completed", 4: "completed"}
    assert simulation.engine.is_idle()
    assert simulation.engine.next_due == BEGINNING + 3_600_000
    simulation.run()
    assert simulation.begun("one")[2:] == [3_600_000] * 2
    check(simulation)


def test_a_delayed_run_survives_a_crash(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")))
    simulation.send(event(ts=BEGINNING + 10_000))
    simulation.run(for_ms=1_000)
    simulation.restart()
    simulation.run()
    assert simulation.begun() == [10_000]
    check(simulation)


def test_a_delay_that_ended_while_no_engine_ran_is_over_at_once(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")))
    simulation.send(event(ts=BEGINNING + 10_000))
    simulation.run(for_ms=1_000)
    simulation.clock.advance(3_600_000)
    simulation.restart()
    simulation.run()
    assert simulation.begun() == [3_601_000 + LOAD_MS]


def test_a_given_id_runs_each_function_once_in_a_day(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one")), function("b", Step("one"), on=["e", "f"]))
    accepted = simulation.send(event(id="x"), event(id="x"), event(id="y"))
    assert [each.is_duplicate for each in accepted] == [False, True, False]
    simulation.run()
    simulation.send(event(id="x"))
    simulation.run()
    runs = "SELECT event, function FROM run ORDER BY key"
    first = [(1, "a"), (1, "b"), (3, "a"), (3, "b")]
    assert simulation.rows(runs) == first
    simulation.clock.advance(DUPLICATE_WINDOW_MS)
    assert not simulation.send(event(id="x"))[0].is_duplicate
    simulation.run()
    assert simulation.rows(runs) == [*first, (5, "a"), (5, "b")]


def test_a_given_id_counts_for_each_function_by_itself(simulate: Simulate) -> None:
    simulation = simulate(function("a"), function("b", on=["e", "f"]), function("c", on=["f"]))
    simulation.send(event(id="x"))
    simulation.run()
    simulation.send(event("f", id="x"))
    simulation.run()
    assert simulation.rows("SELECT event, function FROM run ORDER BY key") == [(1, "a"), (1, "b"), (2, "c")]


def test_a_given_id_is_known_after_a_crash(simulate: Simulate) -> None:
    simulation = simulate(function("a"))
    simulation.send(event(id="x"))
    simulation.run()
    simulation.send(event(id="x"))
    simulation.restart()
    simulation.run()
    assert simulation.rows("SELECT event FROM run") == [(1,)]


def test_the_day_of_a_given_id_counts_between_events_however_late_they_are_routed(simulate: Simulate) -> None:
    """The sender was told that it is a duplicate: that no engine ran for a while must not change it."""
    simulation = simulate(function("a"))
    simulation.send(event(id="x"))
    simulation.run()
    simulation.clock.advance(DUPLICATE_WINDOW_MS - 3_600_000)
    assert simulation.send(event(id="x"))[0].is_duplicate
    simulation.clock.advance(7_200_000)
    simulation.restart()
    simulation.run()
    assert simulation.rows("SELECT event FROM run") == [(1,)]


def test_events_of_one_id_that_are_days_apart_both_run_even_if_routed_together(simulate: Simulate) -> None:
    simulation = simulate(function("a"))
    simulation.send(event(id="x"))
    simulation.clock.advance(2 * DUPLICATE_WINDOW_MS)
    assert not simulation.send(event(id="x"))[0].is_duplicate
    simulation.run()
    assert simulation.rows("SELECT event FROM run") == [(1,), (2,)]


def test_long_runs_and_steps_are_shown_and_short_ones_never_written_so(simulate: Simulate) -> None:
    simulation = simulate(
        function("long", Step("brief"), Step("slow", takes_ms=1_000)), function("short", Step("one", takes_ms=249))
    )
    seen: set[tuple[str, str, str | None, str | None]] = set()

    def look() -> bool:
        seen.update(
            simulation.rows(
                """SELECT function, run.state, step.key, step.state FROM run
                   LEFT JOIN step ON run = run.key AND step.state = 'running'"""
            )
        )
        return False

    simulation.run()
    simulation.send()
    simulation.run(look, for_ms=2_000)
    assert seen == {
        ("long", "queued", None, None),
        ("long", "running", None, None),
        ("long", "running", "slow", "running"),
        ("long", "completed", None, None),
        ("short", "queued", None, None),
        ("short", "completed", None, None),
    }
    assert simulation.steps(1) == {"brief": ("completed", 1), "slow": ("completed", 1)}
    assert simulation.rows("SELECT started_at, ended_at FROM run WHERE key = 1") == [
        (BEGINNING + LOAD_MS, BEGINNING + LOAD_MS + 1_001)
    ]


def test_runs_that_were_shown_as_running_go_on_after_a_crash(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one"), Step("slow", takes_ms=1_000)))
    simulation.send()
    simulation.run(for_ms=600)
    assert simulation.rows("SELECT run.state, step.state FROM run JOIN step ON run = run.key ORDER BY position") == [
        ("running", "completed"),
        ("running", "running"),
    ]
    simulation.restart()
    assert simulation.states() == {1: "queued"}
    simulation.run()
    check(simulation)
    assert simulation.steps(1)["slow"] == ("completed", 1)


def test_runs_of_a_function_that_is_not_in_the_code_wait_until_it_comes_back(simulate: Simulate) -> None:
    a, b = function("a", Step("one")), function("b", Step("one"))
    simulation = simulate(a, b, processes=1, slots=1)
    simulation.send(*[event()] * 3)
    simulation.run(lambda: len(simulation.states()) == 6)
    simulation.restart(a)
    simulation.run()
    assert simulation.engine.is_idle()
    assert simulation.engine.stranded() == {"b"}
    assert [simulation.state(run) for run in (2, 4, 6)] == ["queued"] * 3
    simulation.restart(a, b)
    simulation.run()
    assert simulation.engine.stranded() == set()
    check(simulation)


def test_a_run_that_becomes_due_without_its_code_waits_too(simulate: Simulate) -> None:
    a, b = function("a", Step("one")), function("b", Step("one"), on=["f"])
    simulation = simulate(a, b)
    simulation.send(event("f", ts=BEGINNING + 5_000))
    simulation.run(for_ms=1_000)
    simulation.restart(a)
    simulation.run(for_ms=60_000)
    assert simulation.states() == {1: "queued"}
    assert simulation.engine.is_idle()
    assert simulation.engine.stranded() == {"b"}
    simulation.restart(a, b)
    simulation.run()
    check(simulation)
