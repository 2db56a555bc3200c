"""Workers that die, and who is charged for it."""

from __future__ import annotations

import pytest

from fanout.errors import LoadError
from fanout.model import Failure, StepState
from fanout.protocol import (
    Parked,
    Start,
    StepFailed,
)
from tests.engine.checker import check, check_history
from tests.engine.conftest import Simulate, every_parking
from tests.engine.scripts import FAIL, FOREVER, OK, Body, Entry, Silent, Step, What, event, function
from tests.engine.simulation import Simulation
from tests.engine.workers import Loading

pytestmark = every_parking


def crashes(simulation: Simulation) -> dict[int, int]:
    return dict(simulation.rows("SELECT key, crashes FROM run ORDER BY key"))


def was_alone(simulation: Simulation, start: Entry) -> bool:
    """Whether this execution never shared its worker."""
    shared = any(
        start.claim in each.companions and each.worker == start.worker
        for each in simulation.log[simulation.log.index(start) :]
        if each.what is What.START
    )
    return not start.companions and not shared


def test_a_worker_that_dies_with_one_run_is_charged_to_it(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one"), Step("two", deaths=1), Step("three")))
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert crashes(simulation) == {1: 1}
    assert simulation.failures(1) == [("", 0, "Crashed")]
    assert simulation.rows("SELECT message, traceback FROM failure") == [("was killed by SIGSEGV", "last\nwords")]
    assert len(simulation.begun("one")) == 1
    check(simulation)


def test_a_run_whose_worker_dies_three_times_fails_as_crashed(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one"), Step("two", deaths=FOREVER), Step("three")))
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT state, reason, crashes, attempt FROM run") == [("failed", "crashed", 3, 0)]
    assert len(simulation.begun("two")) == 3
    assert simulation.steps(1) == {"one": ("completed", 1)}
    check(simulation)


def test_a_death_between_steps_counts_as_well(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one"), Body(deaths=2)), function("b", Body(deaths=3)), slots=1)
    simulation.send()
    simulation.run()
    assert simulation.rows("SELECT state, reason FROM run ORDER BY key") == [
        ("completed", None),
        ("failed", "crashed"),
    ]
    assert crashes(simulation)[2] == 3


def test_deaths_do_not_use_up_attempts(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", (FAIL, OK), deaths=2), retries=1, backoff=(1.0,)), slots=1)
    simulation.send()
    simulation.run()
    assert simulation.states() == {1: "completed"}
    assert simulation.steps(1) == {"s": ("completed", 2)}
    check(simulation)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_of_several_in_a_dead_worker_each_is_next_alone_and_innocents_are_not_charged(
    simulate: Simulate, processes: int
) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=FOREVER)),
        *[function(f"innocent{n}", Step("before"), Step("slow", takes_ms=20 + n), Step("after")) for n in range(5)],
        processes=processes,
        slots=6,
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.entries(What.DEATH) != [])
    first = simulation.entries(What.DEATH)[0]
    suspects = {
        each.run for each in simulation.entries(What.START) if each.worker == first.worker and each.at <= first.at
    }
    assert len(suspects) > 1
    # There is always something else to do.
    for _ in range(20):
        simulation.send()
        simulation.run(for_ms=15)
    simulation.run()
    for run in suspects:
        starts = [each for each in simulation.entries(What.START) if each.run == run]
        assert len(starts) > 1
        assert all(was_alone(simulation, each) for each in starts[1:])
    innocents = simulation.rows("SELECT state, crashes, is_suspect FROM run WHERE function != 'killer'")
    assert innocents == [("completed", 0, 0)] * 5 * 21
    check(simulation)


def test_others_run_while_a_suspect_is_alone(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=1)),
        function("innocent", Step("slow", takes_ms=400)),
        function("other", Step("s", takes_ms=10), on=["f"]),
        processes=2,
        slots=2,
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.entries(What.DEATH) != [])
    simulation.send(*[event("f")] * 20)
    simulation.run(lambda: simulation.state(2) == "completed")
    assert "completed" in [simulation.state(run) for run in range(3, 23)]
    simulation.run()
    check(simulation)


def test_a_pool_of_one_goes_on_after_a_death(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", deaths=FOREVER)),
        function("innocent", Step("s", takes_ms=3)),
        processes=1,
        slots=3,
    )
    simulation.send(*[event()] * 4)
    simulation.run()
    assert [*simulation.states().values()] == ["failed", "completed"] * 4
    check(simulation)


def test_an_engine_whose_only_worker_has_died_is_not_idle(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("one", deaths=1)), processes=1)
    simulation.send()
    simulation.run(until=lambda: bool(simulation.begun("one")))
    simulation.run(until=simulation.engine.is_idle)
    assert simulation.states() == {1: "completed"}


def test_suspicion_and_charges_survive_a_crash_of_the_engine(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=FOREVER)),
        function("innocent", Step("slow", takes_ms=400)),
        processes=1,
        slots=2,
    )
    simulation.send()
    simulation.run(lambda: len(simulation.entries(What.DEATH)) == 2)
    simulation.run(lambda: crashes(simulation) == {1: 1, 2: 0})
    simulation.restart()
    assert simulation.rows("SELECT is_suspect FROM run") == [(1,), (1,)]
    already = len(simulation.log)
    simulation.run()
    starts = [each for each in simulation.log[already:] if each.what is What.START]
    assert all(was_alone(simulation, each) for each in starts)
    assert crashes(simulation) == {1: 3, 2: 0}
    check(simulation)


def test_a_suspect_that_waits_for_an_attempt_is_alone_afterwards_too(simulate: Simulate) -> None:
    simulation = simulate(
        function("killer", Step("boom", takes_ms=5, deaths=1)),
        function("innocent", Step("s", (FAIL, OK), takes_ms=20), backoff=(5.0,)),
        processes=1,
        slots=4,
    )
    simulation.send()
    simulation.run(lambda: simulation.states().get(2) == "waiting")
    simulation.run(for_ms=4_900)
    simulation.send(event(), event())
    simulation.run()
    starts = [each for each in simulation.entries(What.START) if each.run == simulation.run_id(2)]
    assert [was_alone(simulation, each) for each in starts] == [False, True, True]
    check(simulation)


def test_a_suspect_that_becomes_due_among_runs_that_nobody_has_read_yet_starts_once(simulate: Simulate) -> None:
    simulation = simulate(
        *[function(name, Step("long", takes_ms=10_000), on=["long"]) for name in ("a", "b", "c", "d")],
        function("killer", Step("boom", takes_ms=5, deaths=1), on=["e"]),
        function("retried", Step("s", (FAIL, OK), takes_ms=100), backoff=(5.0,), on=["e", "more"]),
        processes=2,
        slots=2,
    )
    simulation.send()
    simulation.run(lambda: simulation.states().get(2) == "waiting" and simulation.state(1) == "completed")
    simulation.send(event("long"))
    simulation.run(for_ms=100)
    simulation.send(event("more"))
    simulation.run(for_ms=100)
    # The next engine finds a queue of `retried`, and has no slot to look into it before the suspect is due.
    simulation.restart()
    simulation.run()
    starts = [each for each in simulation.entries(What.START) if each.run == simulation.run_id(2)]
    assert len(starts) == 3
    check(simulation)


def test_a_suspect_whose_function_has_gone_from_the_code_waits_for_it(simulate: Simulate) -> None:
    killer = function("killer", Step("boom", takes_ms=5, deaths=1))
    innocent = function("innocent", Step("s", (FAIL, OK), takes_ms=20), backoff=(5.0,))
    simulation = simulate(killer, innocent, processes=1)
    simulation.send()
    simulation.run(lambda: simulation.states().get(2) == "waiting")
    simulation.restart(killer)
    simulation.run()
    assert simulation.states() == {1: "completed", 2: "queued"}
    assert simulation.engine.stranded() == {"innocent"}
    simulation.restart(killer, innocent)
    simulation.run()
    check(simulation)


def test_what_a_worker_said_before_it_died_counts(simulate: Simulate) -> None:
    """A step's result, and even the end of a run, in the same frame as the death."""
    simulation = simulate(
        function("a", Step("s"), Step("t", takes_ms=2, deaths=1)), function("b", Step("u")), processes=1
    )
    simulation.run()
    simulation.send()
    simulation.run(lambda: simulation.begun("u") != [])
    simulation.clock.advance(1)
    # Both steps end; the worker dies before the engine has listened.
    simulation.pool._go_on()
    simulation.pool.lose(1)
    simulation.run()
    assert crashes(simulation) == {1: 2, 2: 0}
    assert simulation.states() == {1: "completed", 2: "completed"}
    assert [len(simulation.begun(step)) for step in "stu"] == [1, 2, 1]
    check_history(simulation)


def test_an_idle_worker_may_die(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), processes=1)
    simulation.run()
    simulation.pool.lose(1)
    simulation.run()
    assert list(simulation.pool.workers) == [2]
    simulation.send()
    simulation.run()
    check(simulation)


def test_a_neighbour_that_was_cancelled_is_still_a_suspect(simulate: Simulate) -> None:
    """It was in the worker, so nobody can know that the other did it."""
    simulation = simulate(
        function("killer", Step("boom", takes_ms=100, deaths=1)),
        function("innocent", Step("slow", takes_ms=200)),
        processes=1,
        slots=2,
    )
    simulation.run()
    simulation.send()
    simulation.run(for_ms=50)
    simulation.cancel(1)
    simulation.run()
    assert simulation.states() == {1: "cancelled", 2: "completed"}
    assert crashes(simulation) == {1: 0, 2: 0}


def test_a_retry_keeps_its_time_when_the_worker_dies_while_the_run_leaves(simulate: Simulate) -> None:
    simulation = simulate(function("a", Silent(), backoff=(100.0,)))
    simulation.send()
    simulation.run(lambda: simulation.pool.executing() != [])
    claim = simulation.pool.executing()[0].claim
    now = simulation.clock()
    simulation.pool.post(1, StepFailed(claim, "s", "", 1, 1, Failure("Broken", ""), now, now, True, None))
    simulation.pool.post(1, Parked(claim, ("s",)))
    simulation.run(lambda: simulation.failures(1) != [])
    simulation.pool.lose(1)
    simulation.run(for_ms=1_000)
    assert simulation.rows("SELECT run.state, crashes, step.due_at FROM run JOIN step ON run = run.key") == [
        ("waiting", 0, now + 100_000)
    ]


def test_a_step_that_was_running_in_a_dead_worker_is_an_attempt_again(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=600, deaths=1)))
    simulation.send()
    simulation.run(lambda: simulation.entries(What.DEATH) != [])
    simulation.run(lambda: len(simulation.entries(What.START)) == 2)
    _, start = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    assert [(each.key, each.state, each.attempts) for each in start.steps] == [("s", StepState.RUNNING, 0)]
    simulation.run()
    assert simulation.steps(1) == {"s": ("completed", 1)}
    check(simulation)


# Loading.


def test_a_worker_that_dies_while_it_loads_is_replaced_once(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), loading=[Loading.DIES], processes=1)
    simulation.send()
    simulation.run()
    check(simulation)


def test_workers_that_always_die_while_they_load_end_the_engine(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), loading=[Loading.DIES] * 9, processes=1)
    simulation.send()
    with pytest.raises(LoadError, match=r"was killed by SIGSEGV while it loaded the modules\nlast\nwords"):
        simulation.run()
    assert simulation.pool.spawned == 2


def test_workers_that_die_while_they_load_do_not_end_an_engine_that_has_had_the_code(simulate: Simulate) -> None:
    """Somebody has killed them all, or the system has for want of memory: that passes."""
    loading = [Loading.FINE, *[Loading.DIES] * 5]
    simulation = simulate(function("a", Step("s", takes_ms=50, deaths=1)), loading=loading, processes=1)
    simulation.send()
    simulation.run(lambda: simulation.engine.load_errors != [])
    (error,) = simulation.engine.load_errors
    assert (error.message, error.hint) == (
        "was killed by SIGSEGV while it loaded the modules\nlast\nwords", "it is tried again",
    )  # fmt: skip
    simulation.run(for_ms=10_000)
    assert (simulation.states(), simulation.engine.load_errors) == ({1: "completed"}, [])
    check(simulation)


def test_code_that_can_not_be_loaded_ends_the_engine(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s")), loading=[Loading.FAILS] * 9)
    simulation.send()
    with pytest.raises(LoadError, match=r"`m\.py` line 1: it is broken") as raised:
        simulation.run()
    assert raised.value.hint == "mend it"
    # Nothing has happened to the event.
    assert simulation.states() == {}


def test_a_new_worker_that_can_not_load_does_not_stop_the_others(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=50)), loading=[Loading.FINE, Loading.FAILS], processes=2)
    simulation.run()
    simulation.send(*[event()] * 10)
    simulation.run()
    assert simulation.pool.spawned == 2
    assert [error.message for error in simulation.engine.load_errors] == ["`m.py` line 1: it is broken"]
    check(simulation)


def test_when_the_last_worker_is_gone_and_no_other_can_load_the_engine_ends(simulate: Simulate) -> None:
    simulation = simulate(
        function("a", Step("s", takes_ms=50, deaths=1)), loading=[Loading.FINE, *[Loading.FAILS] * 9], processes=2
    )
    simulation.run()
    simulation.send(*[event()] * 10)
    with pytest.raises(LoadError, match=r"`m\.py` line 1: it is broken"):
        simulation.run()


def test_no_more_workers_are_started_than_there_is_work_for(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=50)), processes=8, slots=4)
    simulation.run()
    assert len(simulation.pool.workers) == 1
    simulation.send(*[event()] * 3)
    simulation.run()
    assert len(simulation.pool.workers) <= 3
    simulation.send(*[event()] * 100)
    simulation.run()
    assert len(simulation.pool.workers) == 8


def test_a_worker_never_gets_more_than_its_slots(simulate: Simulate) -> None:
    simulation = simulate(function("a", Step("s", takes_ms=5)), processes=2, slots=3)
    simulation.send(*[event()] * 50)
    simulation.run()
    assert max(len(each.companions) for each in simulation.entries(What.START)) == 2
