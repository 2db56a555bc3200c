"""Flow control in the whole engine, whatever dies when: no limit is passed at any instant, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from fanout.core.places import Place
from fanout.engine.limits import Limits
from fanout.events import NewEvent
from fanout.journal.rows import QueuedRun
from fanout.model import (
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowRules,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)
from fanout.protocol import Start
from tests.engine.checker import FINAL, check_history
from tests.engine.conftest import Simulate, every_parking
from tests.engine.executions import Playing
from tests.engine.scripts import FAIL, OK, Body, Faults, Function, Sleep, Step, What, event, function
from tests.engine.simulation import Simulation
from tests.engine.workers import SimPool

K = "event.data.k"
MANY_RUNS = int(os.environ.get("FANOUT_SIMULATED_RUNS", "700"))
"""Of each simulation with crashes, about so many."""
Play = Callable[[Simulation], None]
View = Callable[[Simulation], object]


def rules(**more: object) -> FlowRules:
    return FlowRules(**more)  # type: ignore[arg-type]


def keyed(*keys: str, name: str = "e") -> list[NewEvent]:
    return [event(name, k=key) for key in keys]


def everywhere(simulate: Simulate, made: Function, play: Play, view: View) -> object:
    """What is seen is the same, wherever the engine dies. It is given back."""
    quiet = simulate(made)
    play(quiet)
    expected = view(quiet)
    for where, effects in (
        ("before", quiet.faults.commits),
        ("after", quiet.faults.commits),
        ("sending", quiet.faults.sends),
    ):
        for number in range(1, effects + 1):
            simulation = simulate(made, faults=Faults.at(where, number))
            play(simulation)
            assert view(simulation) == expected, f"a crash {where} {number} of {effects}"
            simulation.close()
    return expected


def states_by_event(simulation: Simulation) -> list[tuple[int, str, str | None]]:
    """(event, state, reason) of all runs."""
    return [*simulation.rows("SELECT event, state, reason FROM run ORDER BY key")]


def made_runs(simulation: Simulation, after: int, state: str | None = None) -> int:
    """How many runs there are beyond this key, in this state."""
    ((number,),) = simulation.rows("SELECT count(*) FROM run WHERE key > ? AND state = ifnull(?, state)", after, state)
    return int(number)


def first_starts(simulation: Simulation) -> dict[str, list[int]]:
    """When the runs of each key began."""
    keys = {
        run: json.loads(data).get("k", "")
        for run, data in simulation.rows("SELECT run.id, data FROM run JOIN event ON event = event.key")
    }
    starts: dict[str, list[int]] = {}
    seen: set[str] = set()
    for entry in simulation.entries(What.START):
        if entry.run not in seen:
            seen.add(entry.run)
            starts.setdefault(keys[entry.run], []).append(entry.at)
    return starts


# Concurrency.


class Watch:
    """Counts, whenever a worker has been told something, what executes: as the workers know it, not the engine."""

    def __init__(self, *limits: tuple[str, bool, int]) -> None:
        self.limits = limits
        """(functions, whether each key has its own, limit)"""
        self.most: Counter[tuple[int, str]] = Counter()
        """(which limit, key) -> at most so many at a time."""
        self.looks = 0

    def __call__(self, pool: SimPool) -> None:
        self.looks += 1
        there = [each for each in pool.executing() if not each.real.is_parked]
        for number, (functions, has_key, limit) in enumerate(self.limits):
            held = Counter(_key(each) if has_key else "" for each in there if each.start.function in functions)
            assert all(found <= limit for found in held.values()), f"passed: {functions} {limit} {held}"
            for key, found in held.items():
                self.most[number, key] = max(self.most[number, key], found)

    def check_reached(self, keys: str) -> None:
        """Each limit was reached by each key that has its own."""
        reached = {
            (number, key): limit
            for number, (_, has_key, limit) in enumerate(self.limits)
            for key in (keys if has_key else [""])
        }
        assert self.most == reached, "lost"


def _key(playing: Playing) -> str:
    return str(json.loads(playing.start.event[3]).get("k", ""))


LIMITED = (
    function(
        "a", Step("s", (FAIL, OK), takes_ms=5), Sleep(300), Step("t", takes_ms=3), backoff=(0.2,),
        flow=rules(concurrency=(ConcurrencyRule(2, K),)),
    ),
    function(
        "b", Step("s", takes_ms=20), is_async=True,
        flow=rules(concurrency=(ConcurrencyRule(3), ConcurrencyRule(1, K, "app"))),
    ),
    function(
        "c", Body((OK, OK), takes_ms=10), Sleep(50), Step("u", (OK, FAIL, OK), takes_ms=2), Step("v", deaths=1),
        backoff=(0.1,), flow=rules(concurrency=(ConcurrencyRule(4, K, "app"),)), on=["f"],
    ),
    function("d", Step("s", takes_ms=7), on=["e", "f"]),
)  # fmt: skip
LIMITS = (("a", True, 2), ("b", False, 3), ("b", True, 1), ("c", True, 4))


def storm(simulate: Simulate, seed: int) -> Simulation:
    """Runs come, workers die, the engine crashes, all by chance. In the end each place is still there for each key."""
    rng = random.Random(seed)
    watch = Watch(*LIMITS)
    crashes = max(5, MANY_RUNS // 150)
    before, after = (rng.sample(range(1, 80 * crashes), crashes) for _ in range(2))
    faults = Faults(before=before, after=after, linger=rng.random() < 0.5)
    simulation = simulate(*LIMITED, processes=3, slots=4, seed=seed, faults=faults, watch=watch)
    rounds = max(30, MANY_RUNS // 50)
    for _ in range(rounds):
        sent = [
            event(rng.choice("eef"), k=rng.choice("xxxxyz"), ts=simulation.clock() + rng.choice([0, 0, 2_000]))
            for _ in range(-(-MANY_RUNS * 3 // (8 * rounds)))
        ]
        simulation.send(*sent)
        simulation.run(for_ms=rng.choice([20, 100, 400]))
        if simulation.pool.workers and rng.random() < 0.3:
            simulation.pool.lose(rng.choice([*simulation.pool.workers]))
        elif rng.random() < 0.1:
            simulation.restart()
    simulation.run()
    assert set(simulation.states().values()) <= FINAL
    assert len(simulation.states()) >= MANY_RUNS
    # Whoever comes now finds every place free.
    simulation.faults = simulation.pool.faults = Faults()
    watch.most.clear()
    for keys in ("x", "y", "z", "xyz"):
        for name in "fe":
            simulation.send(*[event(name, k=key) for key in keys for _ in range(8)])
            simulation.run()
    assert set(simulation.states().values()) <= FINAL
    watch.check_reached("xyz")
    return simulation


@every_parking
@pytest.mark.parametrize("seed", range(3))
def test_no_limit_is_passed_and_no_place_is_lost_whatever_dies(simulate: Simulate, seed: int) -> None:
    simulation = storm(simulate, seed)
    assert simulation.engines > 5
    check_history(simulation)


def test_a_limit_that_is_passed_by_one_is_seen(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    has_room = Limits._has_room
    monkeypatch.setattr(Limits, "_has_room", lambda limits, place, limit: has_room(limits, place, limit + 1))
    with pytest.raises(AssertionError, match="passed"):
        storm(simulate, 0)


def test_a_place_that_is_never_given_back_is_seen(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them, of one key, once in all the time of an engine."""
    release, leaked = Limits.release, set[Limits]()

    def leak(limits: Limits, run: QueuedRun) -> Iterator[Place]:
        place = next((place for place, _ in limits._places_of(run)), None)
        if place == Place("a", "0", '"y"') and limits not in leaked:
            leaked.add(limits)
            limits._held[place].add(-1)
        return release(limits, run)

    monkeypatch.setattr(Limits, "release", leak)
    with pytest.raises(AssertionError, match="lost"):
        storm(simulate, 0)


def test_functions_of_an_app_share_a_limit_each_as_far_as_its_own_goes(simulate: Simulate) -> None:
    watch = Watch(("s", True, 1), ("sl", True, 3))
    simulation = simulate(
        function("s", Step("s", takes_ms=10), flow=rules(concurrency=(ConcurrencyRule(1, K, "app"),))),
        function("l", Step("s", takes_ms=10), flow=rules(concurrency=(ConcurrencyRule(3, K, "app"),))),
        processes=2,
        slots=8,
        watch=watch,
    )
    simulation.send(*keyed(*"ab" * 20))
    simulation.run()
    assert set(simulation.states().values()) == {"completed"}
    watch.check_reached("ab")


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_a_backlog_of_one_key_does_not_hold_up_another(simulate: Simulate, limit: int) -> None:
    made = function("f", Step("s", takes_ms=10), flow=rules(concurrency=(ConcurrencyRule(limit, K),)))

    def until_b_is_through(before: int) -> int:
        simulation = simulate(made, processes=2, slots=2)
        simulation.run()
        if before:
            simulation.send(*keyed(*["a"] * before))
            simulation.run(lambda: made_runs(simulation, 0) == before)
        began = simulation.clock()
        simulation.send(*keyed(*["b"] * 10))
        simulation.run(lambda: made_runs(simulation, before, "completed") == 10)
        assert made_runs(simulation, 0, "queued") >= before * 0.9
        return simulation.clock() - began

    alone = until_b_is_through(0)
    assert until_b_is_through(10_000) <= 2 * alone


def test_many_keys_and_functions_all_have_their_turn_at_one_slot(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s", takes_ms=5), flow=rules(concurrency=(ConcurrencyRule(1, K),))),
        function("g", Step("s", takes_ms=5), on=["g"]),
        processes=1,
        slots=1,
    )
    simulation.send(*keyed(*"xyz" * 30), *[event("g")] * 30)
    simulation.run(lambda: list(simulation.states().values()).count("completed") == 40)
    found = simulation.rows(
        "SELECT function, data, count(*) FROM run JOIN event ON event = event.key WHERE state = 'completed' "
        "GROUP BY 1, 2"
    )
    assert sorted(number for *_, number in found) == [10, 10, 10, 10], found


def test_a_suspect_keeps_to_its_limits_too(simulate: Simulate) -> None:
    watch = Watch(("f", False, 1))
    simulation = simulate(
        function("f", Step("s", takes_ms=20, deaths=2), flow=rules(concurrency=(ConcurrencyRule(1),))),
        function("g", Step("s", takes_ms=7)),
        processes=2,
        slots=3,
        watch=watch,
    )
    simulation.send(*[event()] * 10)
    simulation.run()
    assert set(simulation.states().values()) == {"completed"}


# Throttles.


@pytest.mark.parametrize("concurrency", [(), (ConcurrencyRule(1, "event.data.account"),)], ids=["alone", "with keys"])
def test_starts_keep_their_distance_whatever_crashes(
    simulate: Simulate, concurrency: tuple[ConcurrencyRule, ...]
) -> None:
    """Also where the engine dies between a permit and its start."""
    throttle = ThrottleRule(2, 1_000, 1, K)
    made = function("f", Step("s", takes_ms=30), flow=rules(throttle=throttle, concurrency=concurrency))

    def play(simulation: Simulation) -> None:
        simulation.send(*[event(k=key, account=number) for number in range(4) for key in "ab"])
        simulation.run()

    def view(simulation: Simulation) -> object:
        for starts in first_starts(simulation).values():
            assert all(later - earlier >= 500 for earlier, later in pairwise(starts))
        return set(simulation.states().values()), {key: len(starts) for key, starts in first_starts(simulation).items()}

    assert everywhere(simulate, made, play, view) == ({"completed"}, {"a": 4, "b": 4})


def test_a_throttle_lets_as_many_through_as_it_says(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s"), flow=rules(throttle=ThrottleRule(10, 1_000, 3, K))), processes=2, slots=4
    )
    simulation.run()
    began = simulation.clock()
    simulation.send(*keyed(*"a" * 23))
    simulation.run()
    assert [at - began for at in first_starts(simulation)["a"]] == [0, 0, 0, *range(100, 2_001, 100)]


def test_a_second_attempt_is_not_throttled(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s", (FAIL, OK)), Sleep(10), Step("t"), backoff=(0.01,), flow=rules(
            throttle=ThrottleRule(1, 60_000)
        )), park_ms=0,
    )  # fmt: skip
    simulation.send()
    simulation.run()
    began = simulation.clock()
    assert simulation.states() == {1: "completed"}
    assert began - simulation.log[0].at < 1_000


# What is made of events.


def test_a_rate_limit_skips_and_says_why_whatever_crashes(simulate: Simulate) -> None:
    made = function("f", Step("s"), flow=rules(rate_limit=RateLimitRule(2, 3_600_000, K)))

    def play(simulation: Simulation) -> None:
        simulation.send(*keyed(*"aabaa"))
        simulation.run()
        simulation.clock.advance(1_800_000)
        simulation.send(*keyed(*"aab"))
        simulation.run()

    why = 'rate limit 2/h on `event.data.k` "a"'
    expected = everywhere(simulate, made, play, states_by_event)
    done, skipped = "completed", "skipped"
    assert expected == [
        (1, done, None), (2, done, None), (3, done, None), (4, skipped, why), (5, skipped, why),
        (6, done, None), (7, skipped, why), (8, done, None),
    ]  # fmt: skip


def test_a_debounced_run_starts_with_the_newest_event_whatever_crashes(simulate: Simulate) -> None:
    made = function("f", Step("s"), flow=rules(debounce=DebounceRule(10_000, K)))

    def play(simulation: Simulation) -> None:
        now = simulation.clock()
        simulation.send(event(k="a", n=1), event(k="b", n=1))
        simulation.run(for_ms=6_000)
        simulation.send(event(k="a", n=2), event(k="a", n=3, ts=now - 50_000))
        simulation.run(for_ms=9_000)
        assert [*simulation.states().values()] == ["waiting", "completed"]
        simulation.run()
        simulation.send(event(k="a", n=4))
        simulation.run()

    def view(simulation: Simulation) -> object:
        return simulation.rows("SELECT data, state FROM run JOIN event ON event = event.key ORDER BY run.key")

    assert everywhere(simulate, made, play, view) == [
        ('{"k":"a","n":2}', "completed"), ('{"k":"b","n":1}', "completed"), ('{"k":"a","n":4}', "completed"),
    ]  # fmt: skip


def test_a_debounce_waits_no_longer_than_it_may(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s"), flow=rules(debounce=DebounceRule(1_000, None, 2_500))))
    simulation.run()
    began = simulation.clock()
    for number in range(8):
        simulation.send(event(n=number))
        simulation.run(for_ms=500)
    simulation.run()
    assert [(at - began) for at in first_starts(simulation)[""]] == [2_500, 4_500]
    assert simulation.rows("SELECT data FROM run JOIN event ON event = event.key") == [('{"n":4}',), ('{"n":7}',)]


def test_a_batch_has_each_event_once_whatever_crashes(simulate: Simulate) -> None:
    made = function("f", Step("s"), flow=rules(batch=BatchRule(3, 5_000, K, "event.data.k != 'now'")))

    def play(simulation: Simulation) -> None:
        simulation.send(*keyed("a", "a", "b"))
        simulation.run(for_ms=1_000)
        simulation.send(*keyed("a", "now", "a", "b"))
        simulation.run(for_ms=1_000)
        simulation.run()

    def view(simulation: Simulation) -> object:
        rows = simulation.rows("SELECT run, event FROM run_event ORDER BY run, position")
        batches: dict[int, list[int]] = {}
        for run, each in rows:
            batches.setdefault(run, []).append(each)
        return sorted(batches.values()), sorted(simulation.rows("SELECT event, state FROM run"))

    assert everywhere(simulate, made, play, view) == (
        [[1, 2, 4], [3, 7], [6]],
        [(1, "completed"), (3, "completed"), (5, "completed"), (6, "completed")],
    )


def test_a_full_batch_starts_at_once_and_one_that_is_not_when_its_time_is_over(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s"), flow=rules(batch=BatchRule(2, 5_000))))
    simulation.run()
    began = simulation.clock()
    simulation.send(event(n=1), event(n=2), event(n=3))
    simulation.run()
    assert [at - began for at in first_starts(simulation)[""]] == [0, 5_000]
    starts = [message for _, message in simulation.pool.sent if isinstance(message, Start)]
    assert [[each[3] for each in start.batch] for start in starts] == [
        ['{"n":1}', '{"n":2}'],
        ['{"n":3}'],
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (
            "skip",
            [
                (1, "completed", None),
                (2, "skipped", 'singleton on `event.data.k` "a"'),
                (3, "completed", None),
                (4, "completed", None),
            ],
        ),
        (
            "cancel",
            [(1, "cancelled", None), (2, "completed", None), (3, "completed", None), (4, "completed", None)],
        ),
    ],
)
def test_there_is_one_live_run_of_a_key_whatever_crashes(simulate: Simulate, mode: str, expected: object) -> None:
    singleton = SingletonRule(K, mode)  # type: ignore[arg-type]
    made = function("f", Step("s"), Sleep(60_000), Step("t"), flow=rules(singleton=singleton))

    def play(simulation: Simulation) -> None:
        simulation.send(*keyed("a"))
        simulation.run(for_ms=10_000)
        simulation.send(*keyed("a", "b"))
        simulation.run()
        simulation.send(*keyed("a"))
        simulation.run()

    assert everywhere(simulate, made, play, states_by_event) == expected


def test_a_key_counts_once_in_a_day_whatever_crashes(simulate: Simulate) -> None:
    made = function("f", Step("s"), flow=rules(idempotency=K))
    why = 'idempotency on `event.data.k` "a"'

    def play(simulation: Simulation) -> None:
        simulation.send(*keyed("a", "a", "b"))
        simulation.run()
        simulation.clock.advance(23 * 3_600_000)
        simulation.send(*keyed("a"))
        simulation.run()
        simulation.clock.advance(2 * 3_600_000)
        simulation.send(*keyed("a"))
        simulation.run()

    assert everywhere(simulate, made, play, states_by_event) == [
        (1, "completed", None), (2, "skipped", why), (3, "completed", None), (4, "skipped", why),
        (5, "completed", None),
    ]  # fmt: skip


# Pauses.


def test_a_paused_function_makes_runs_that_wait_and_goes_on_when_it_is_resumed(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s", takes_ms=500), Step("t")), function("g", Step("u")), processes=1, slots=2
    )
    simulation.send()
    simulation.run(for_ms=100)
    simulation.request("pause", functions=["f"])
    simulation.send(*[event()] * 3)
    simulation.run()
    assert [*simulation.states().values()] == ["completed"] * 2 + ["queued", "completed"] * 3
    simulation.restart()
    simulation.send()
    simulation.run()
    assert list(simulation.states().values()).count("queued") == 4
    simulation.request("resume", functions=["f"])
    simulation.run()
    assert set(simulation.states().values()) == {"completed"}
    assert simulation.rows("SELECT * FROM pause") == []


def test_a_pause_is_kept_whatever_crashes(simulate: Simulate) -> None:
    made = function("f", Step("s"))

    def play(simulation: Simulation) -> None:
        simulation.run()
        simulation.request("pause", functions=["f"])
        simulation.run()
        simulation.send(*[event()] * 2)
        simulation.run()
        assert [*simulation.states().values()] == ["queued"] * 2
        simulation.request("resume", functions=["f"])
        simulation.run()

    assert everywhere(simulate, made, play, states_by_event) == [(1, "completed", None), (2, "completed", None)]
