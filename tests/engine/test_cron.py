"""Schedules: each tick starts one run, whatever the clock and the engine do."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest

from fanout.engine.schedules import MISSED_A_TICK
from fanout.model import Catchup, CronTrigger, Overlap
from tests.engine.conftest import Simulate
from tests.engine.scripts import BEGINNING, FAIL, OK, Faults, Function, Sleep, Step, What, event, function
from tests.engine.simulation import Simulation

MINUTE = 60_000
HOUR = 60 * MINUTE
YEAR = 365 * 24 * HOUR
EACH_MINUTE = CronTrigger("* * * * *")
TIMER = "fanout/scheduled.timer"


def scheduled(
    *script: Step | Sleep,
    trigger: CronTrigger = EACH_MINUTE,
    catchup: Catchup = Catchup.LATEST,
    catchup_limit: int = 100,
    overlap: Overlap = Overlap.SKIP,
) -> Function:
    return function(
        "f", *(script or (Step("s"),)), on=(), cron=(trigger,), catchup=catchup, catchup_limit=catchup_limit,
        overlap=overlap,
    )  # fmt: skip


def go_on(simulation: Simulation, ms: int) -> None:
    """So much time passes, from one thing to the next."""
    end = simulation.clock() + ms
    while simulation.clock() < end:
        simulation.run(for_ms=min(50, end - simulation.clock()))
        times = [simulation.pool.next_at(), simulation.engine.next_due, simulation.engine._schedules.next_at]
        ahead = min((at for at in times if at is not None), default=end)
        simulation.clock.now = min(max(ahead, simulation.clock()), end)
    simulation.run(for_ms=1)


def turn(simulation: Simulation, ms: int) -> None:
    """The clock is set. What goes to workers and comes from them doesn't wait for it."""
    simulation.clock.advance(ms)
    simulation.pool._last.clear()


def ticks(simulation: Simulation) -> list[int]:
    """Of which minutes since the beginning there are ticks. Each has one run, and one event that says when it was."""
    rows = simulation.rows(
        "SELECT scheduled_at, data FROM tick JOIN run ON run.key = tick.run JOIN event ON event.key = run.event"
    )
    assert Counter(simulation.rows("SELECT name FROM event")) == Counter({(TIMER,): len(rows)} if rows else {})
    assert simulation.rows("SELECT count(*) FROM run") == [(len(rows),)]
    for at, data in rows:
        said = json.loads(data)
        assert sorted(said) == ["cron", "scheduled_at", "timezone"]
        assert at % MINUTE == 0
    return sorted((at - BEGINNING) // MINUTE for at, _ in rows)


def outcomes(simulation: Simulation) -> list[tuple[int, str, str | None]]:
    rows = simulation.rows(
        "SELECT scheduled_at, state, reason FROM tick JOIN run ON run.key = tick.run ORDER BY scheduled_at"
    )
    return [((at - BEGINNING) // MINUTE, state, reason) for at, state, reason in rows]


def test_each_tick_starts_a_run_when_it_is_time(simulate: Simulate) -> None:
    simulation = simulate(scheduled())
    go_on(simulation, 5 * MINUTE + 100)
    assert ticks(simulation) == [1, 2, 3, 4, 5]
    assert simulation.begun("s") == [number * MINUTE for number in range(1, 6)]
    assert set(simulation.states().values()) == {"completed"}


def test_a_new_schedule_has_missed_nothing_and_one_that_goes_and_comes_back_misses_what_was_between(
    simulate: Simulate,
) -> None:
    simulation = simulate(scheduled())
    go_on(simulation, 2 * MINUTE + 100)
    simulation.restart(function("other", Step("s")))
    go_on(simulation, 3 * MINUTE)
    simulation.restart(scheduled())
    go_on(simulation, MINUTE)
    assert ticks(simulation) == [1, 2, 5, 6]


def test_ticks_go_on_through_suspends_and_steps_of_the_clock_and_none_comes_twice(simulate: Simulate) -> None:
    simulation = simulate(scheduled())
    go_on(simulation, 3 * MINUTE + 100)
    # Two hours asleep: of what was missed, the latest.
    turn(simulation, 2 * HOUR)
    go_on(simulation, 2 * MINUTE)
    awake = [1, 2, 3, 123, 124, 125]
    assert ticks(simulation) == awake
    # An hour back: the schedule goes on at once, and what was there already is not again.
    turn(simulation, -HOUR)
    go_on(simulation, 2 * MINUTE)
    assert ticks(simulation) == [*awake[:3], 66, 67, *awake[3:]]
    go_on(simulation, 60 * MINUTE)
    assert ticks(simulation) == [1, 2, 3, *range(66, 128)]
    # A year ahead, and back again.
    turn(simulation, YEAR)
    go_on(simulation, MINUTE)
    ahead = YEAR // MINUTE
    assert ticks(simulation)[-2:] == [ahead + 127, ahead + 128]
    turn(simulation, -YEAR)
    go_on(simulation, 2 * MINUTE)
    simulation.restart()
    go_on(simulation, 2 * MINUTE)
    # It came back just after the 128th, which was a year ahead.
    assert ticks(simulation) == [1, 2, 3, *range(66, 128), *range(129, 133), ahead + 127, ahead + 128]
    assert set(simulation.states().values()) == {"completed"}


def test_the_same_ticks_have_runs_whatever_crashes(simulate: Simulate) -> None:
    """Also where the engine dies between the commit of a tick and the start of its run."""
    quiet = simulate(scheduled(Step("s"), Step("t", takes_ms=500)))
    go_on(quiet, 3 * MINUTE + 1_000)
    assert outcomes(quiet) == [(number, "completed", None) for number in (1, 2, 3)]
    for where, effects in (
        ("before", quiet.faults.commits),
        ("after", quiet.faults.commits),
        ("sending", quiet.faults.sends),
    ):
        for number in range(1, effects + 1):
            simulation = simulate(scheduled(Step("s"), Step("t", takes_ms=500)), faults=Faults.at(where, number))
            go_on(simulation, 3 * MINUTE + 2_000)
            assert outcomes(simulation) == outcomes(quiet), f"a crash {where} {number}"
            assert len(simulation.entries(What.CRASH)) == 1
            simulation.close()


@pytest.mark.parametrize(
    ("catchup", "limit", "expected"),
    [
        (Catchup.LATEST, 100, [12]),
        (Catchup.NONE, 100, [12]),  # Less than a minute late is on time.
        (Catchup.ALL, 100, [*range(3, 13)]),
        (Catchup.ALL, 4, [9, 10, 11, 12]),
    ],
)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["asleep", "not running"])
def test_what_becomes_of_ticks_that_were_missed(
    simulate: Simulate, catchup: Catchup, limit: int, expected: list[int], is_restarted: bool
) -> None:
    made = scheduled(catchup=catchup, catchup_limit=limit, overlap=Overlap.QUEUE)
    simulation = simulate(made)
    go_on(simulation, 2 * MINUTE + 100)
    simulation.clock.advance(10 * MINUTE + 30_000)
    if is_restarted:
        simulation.restart()
    go_on(simulation, 2_000)
    assert ticks(simulation) == [1, 2, *expected]
    go_on(simulation, MINUTE)
    assert ticks(simulation)[-1] == 13
    assert set(simulation.states().values()) == {"completed"}


@pytest.mark.parametrize("crashes_at", [None, 2])
def test_what_was_missed_is_made_up_for_in_slices(simulate: Simulate, crashes_at: int | None) -> None:
    """Others go on in between; a crash on the way loses none and doubles none, nor does what has become due meanwhile."""
    many = 3 * MISSED_A_TICK + 1
    simulation = simulate(
        scheduled(Step("s", takes_ms=1), catchup=Catchup.ALL, catchup_limit=10_000, overlap=Overlap.QUEUE),
        function("other", Step("o"), on=["go"], cron=(EACH_MINUTE,)),
    )
    go_on(simulation, MINUTE + 100)
    simulation.clock.advance(many * MINUTE)
    made: list[int] = []
    sql = "SELECT count(*) FROM run WHERE function = '{}'"
    for number in range(6):
        simulation.engine.tick()
        made.append(simulation.rows(sql.format("f"))[0][0])
        if number == crashes_at:
            simulation.restart()
        if number == 1:
            assert simulation.rows(sql.format("other")) == [(2,)]
            simulation.clock.advance(MINUTE)
    assert max(after - before for before, after in pairwise(made)) <= MISSED_A_TICK
    simulation.run(for_ms=1_000)
    rows = simulation.rows("SELECT scheduled_at FROM tick WHERE function = 'f' ORDER BY run")
    assert [(at - BEGINNING) // MINUTE for (at,) in rows] == [*range(1, many + 3)]


def test_without_catchup_what_is_later_than_a_minute_is_missed(simulate: Simulate) -> None:
    simulation = simulate(scheduled(trigger=CronTrigger("*/10 * * * *"), catchup=Catchup.NONE))
    go_on(simulation, 10 * MINUTE + 100)
    simulation.clock.advance(32 * MINUTE)
    go_on(simulation, 1_000)
    assert ticks(simulation) == [10]
    go_on(simulation, 10 * MINUTE)
    assert ticks(simulation) == [10, 50]


def test_a_tick_is_skipped_while_the_run_of_the_one_before_goes_on(simulate: Simulate) -> None:
    simulation = simulate(scheduled(Step("s", takes_ms=50_000), Sleep(50_000), Step("t")))
    go_on(simulation, 4 * MINUTE + 59_000)
    why = "overlap: the run of the tick before is still going"
    done, skipped = "completed", "skipped"
    assert outcomes(simulation) == [(1, done, None), (2, skipped, why), (3, done, None), (4, skipped, why)]


def test_a_tick_waits_while_the_run_of_the_one_before_executes(simulate: Simulate) -> None:
    simulation = simulate(scheduled(Step("s", takes_ms=90_000), overlap=Overlap.QUEUE), processes=2, slots=4)
    go_on(simulation, 3 * MINUTE + 100)
    assert [(number, state) for number, state, _ in outcomes(simulation)] == [
        (1, "completed"), (2, "running"), (3, "queued"),
    ]  # fmt: skip
    go_on(simulation, 4 * MINUTE)
    assert all(later - earlier == 90_000 for earlier, later in pairwise(simulation.begun("s")))
    assert ticks(simulation) == [*range(1, 8)]


@pytest.mark.parametrize("park_ms", [0, 5 * MINUTE], ids=["evicted", "parked"])
def test_a_tick_waits_while_the_run_of_the_one_before_sleeps(simulate: Simulate, park_ms: int) -> None:
    """Events start runs of the same function meanwhile."""
    script = Step("s"), Sleep(90_000), Step("t")
    made = function("f", *script, on=("go",), cron=(EACH_MINUTE,), overlap=Overlap.QUEUE)
    simulation = simulate(made, processes=2, slots=4, park_ms=park_ms)
    go_on(simulation, 2 * MINUTE + 100)
    assert [(number, state) for number, state, _ in outcomes(simulation)] == [(1, "waiting"), (2, "queued")]
    simulation.send(event("go"))
    go_on(simulation, 1_000)
    assert simulation.states()[3] == "waiting"
    simulation.restart()
    go_on(simulation, 5 * MINUTE)
    begun = simulation.begun("s")
    assert begun.pop(1) == 2 * MINUTE + 101
    # Each with the end of the one before.
    assert begun == [MINUTE + number * 90_002 for number in range(5)]


def test_a_tick_waits_while_the_run_of_the_one_before_is_retried_and_until_it_is_cancelled(simulate: Simulate) -> None:
    simulation = simulate(scheduled(Step("s", (FAIL, OK)), Sleep(10 * MINUTE), overlap=Overlap.QUEUE))
    go_on(simulation, 3 * MINUTE + 100)
    assert [state for _, state, _ in outcomes(simulation)] == ["waiting", "queued", "queued"]
    simulation.cancel(1)
    go_on(simulation, 1_000)
    assert [state for _, state, _ in outcomes(simulation)] == ["cancelled", "waiting", "queued"]


def test_ticks_wait_for_one_another_whatever_crashes(simulate: Simulate) -> None:
    made = scheduled(Step("s"), Sleep(70_000), Step("t"), overlap=Overlap.QUEUE)
    quiet = simulate(made, park_ms=0)
    go_on(quiet, 3 * MINUTE + 1_000)
    for where, effects in (
        ("before", quiet.faults.commits),
        ("after", quiet.faults.commits),
        ("sending", quiet.faults.sends),
    ):
        for number in range(1, effects + 1):
            simulation = simulate(made, faults=Faults.at(where, number), park_ms=0)
            go_on(simulation, 8 * MINUTE)
            spans = simulation.rows(
                "SELECT started_at, ended_at FROM tick JOIN run ON run.key = tick.run WHERE started_at NOT NULL ORDER BY 1"
            )
            assert len(simulation.entries(What.CRASH)) == 1
            assert len(spans) > 5, f"a crash {where} {number}"
            assert all(ended <= begins for (_, ended), (begins, _) in pairwise(spans)), f"a crash {where} {number}"
            simulation.close()


def test_a_tick_cancels_the_run_of_the_one_before(simulate: Simulate) -> None:
    simulation = simulate(scheduled(Step("s"), Sleep(90_000), Step("t"), overlap=Overlap.CANCEL))
    go_on(simulation, 3 * MINUTE + 100)
    assert outcomes(simulation) == [(1, "cancelled", None), (2, "cancelled", None), (3, "waiting", None)]
    simulation.restart(scheduled(Step("s"), Sleep(90_000), Step("t"), trigger=CronTrigger("0 0 1 1 *")))
    go_on(simulation, 2 * MINUTE)
    assert outcomes(simulation)[-1] == (3, "completed", None)


def test_with_jitter_runs_start_up_to_so_much_later_and_always_as_much(simulate: Simulate) -> None:
    def starts() -> list[int]:
        simulation = simulate(scheduled(trigger=CronTrigger("* * * * *", "UTC", 30_000), overlap=Overlap.QUEUE))
        go_on(simulation, 10 * MINUTE + 31_000)
        assert ticks(simulation) == [*range(1, 11)]
        return simulation.begun("s")

    first = starts()
    delays = [at - number * MINUTE for number, at in enumerate(first, 1)]
    assert all(0 <= each <= 30_000 for each in delays)
    assert len(set(delays)) > 5
    assert starts() == first


def test_a_tick_that_somebody_asks_for_runs_now_and_only_once(simulate: Simulate) -> None:
    simulation = simulate(scheduled(trigger=CronTrigger("0 0 1 1 *", "UTC", HOUR)))
    simulation.run()
    for _ in range(2):
        simulation.request("tick", function="f", at=BEGINNING - MINUTE)
        go_on(simulation, 1_000)
    assert outcomes(simulation) == [(-1, "completed", None)]
    assert simulation.rows("SELECT run FROM request ORDER BY key") == [(1,), (None,)]


def test_two_schedules_of_a_function_share_a_tick_that_is_at_the_same_time(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s"), on=(), cron=(CronTrigger("*/2 * * * *"), CronTrigger("*/3 * * * *")))
    )
    go_on(simulation, 6 * MINUTE + 100)
    assert ticks(simulation) == [2, 3, 4, 6]
