from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fanout.engine import queue
from fanout.engine.queue import LEAST_WINDOW, WINDOW, Keyed, Obstacle, ReadyQueue, Until
from fanout.journal.rows import QueuedRun

FUNCTIONS = frozenset({"f", "g"})


def run(key: int, function: str = "f", partition: str = "", rank: int = 0) -> QueuedRun:
    return QueuedRun(key, f"r{key}", function, partition, 1, rank, 0, 0, False)


class FakeJournal:
    """Lists of queued runs. A start is not written down: what was taken is still queued here, until it is noted."""

    def __init__(self, *runs: QueuedRun) -> None:
        self.queued = {each.key: each for each in runs}
        self.fetches: list[tuple[str, str, tuple[int, int], int]] = []
        self.scans: list[tuple[str, str]] = []
        self.taken: set[int] = set()

    def fetch(self, function: str, partition: str, after: tuple[int, int], limit: int) -> list[QueuedRun]:
        self.fetches.append((function, partition, after, limit))
        beyond = [
            each
            for each in self.queued.values()
            if (each.function, each.partition) == (function, partition) and (each.rank, each.key) > after
        ]
        return sorted(beyond, key=lambda each: (each.rank, each.key))[:limit]

    def scan(self, after: tuple[str, str]) -> list[tuple[str, str]]:
        self.scans.append(after)
        names = {(each.function, each.partition) for each in self.queued.values()}
        return sorted(name for name in names if name > after)

    def is_taken(self, run: int) -> bool:
        return run in self.taken

    def loaded(self, functions: frozenset[str] = FUNCTIONS) -> ReadyQueue:
        ready = ReadyQueue(self.fetch, self.scan, self.is_taken)
        ready.load(functions)
        return ready


class Gate:
    """Obstacles in the way of partitions, by name; the others are free."""

    def __init__(self, **obstacles: Obstacle) -> None:
        self.obstacles: dict[str, Obstacle] = obstacles
        self.asked = 0

    def obstacle(self, run: QueuedRun) -> Obstacle | None:
        self.asked += 1
        return self._in_the_way_of(run)

    def shut(self, partition: Keyed) -> Obstacle | None:
        self.asked += 1
        obstacle = self._in_the_way_of(partition)
        return None if isinstance(obstacle, Until) else obstacle

    def _in_the_way_of(self, partition: Keyed) -> Obstacle | None:
        return self.obstacles.get(partition.function + partition.partition)


OPEN = Gate()


def drain(ready: ReadyQueue, gate: Gate = OPEN) -> list[QueuedRun]:
    taken = []
    while (each := ready.take(gate)) is not None:
        taken.append(each)
    return taken


def at_least(ready: ReadyQueue, enough: int) -> int:
    return ready.at_least(enough, "shop", lambda _function: "shop", "a slot")


def held(ready: ReadyQueue) -> dict[tuple[str, str], int]:
    """How many runs are in memory, a partition."""
    return {name: len(partition.runs) for name, partition in ready._partitions.items()}


def test_an_empty_queue_has_nothing() -> None:
    ready = FakeJournal().loaded()
    assert (ready.take(OPEN), ready.has_ready(), at_least(ready, 5), ready.stranded()) == (None, False, 0, set())


def test_runs_of_a_partition_come_in_the_order_of_rank_and_key() -> None:
    runs = [run(4, rank=1), run(1, rank=2), run(2, rank=2), run(3, rank=9)]
    assert drain(FakeJournal(*reversed(runs)).loaded()) == runs


def test_partitions_take_turns_so_that_a_full_one_holds_nobody_up() -> None:
    large = [run(key, partition="large") for key in range(100)]
    small = [run(key, partition="small") for key in range(100, 103)]
    other = [run(key, "g") for key in range(103, 105)]
    taken = drain(FakeJournal(*large, *small, *other).loaded())
    assert [each.key for each in taken[:9]] == [0, 100, 103, 1, 101, 104, 2, 102, 3]
    assert taken[9:] == large[4:]


def test_what_is_appended_takes_its_turn_too() -> None:
    journal = FakeJournal(*[run(key, partition="large") for key in range(50)])
    ready = journal.loaded()
    assert [each.key for each in (ready.take(OPEN), ready.take(OPEN)) if each] == [0, 1]
    late = run(50, "g")
    journal.queued[50] = late
    ready.append(late)
    assert late in (ready.take(OPEN), ready.take(OPEN))


def test_memory_is_bounded_whatever_waits_in_the_journal() -> None:
    count = 4 * WINDOW + 7
    runs = [run(key) for key in range(count)]
    journal = FakeJournal(*runs)
    ready = journal.loaded()
    taken, most = [], 0
    while (each := ready.take(OPEN)) is not None:
        taken.append(each)
        most = max(most, *held(ready).values(), 0)
    assert taken == runs
    assert most == WINDOW - 1
    assert [(after, limit) for _, _, after, limit in journal.fetches[1:]] == [
        ((0, number * WINDOW - 1), WINDOW) for number in (1, 2, 3, 4)
    ]


def test_memory_is_bounded_whatever_is_appended() -> None:
    journal = FakeJournal()
    ready = journal.loaded()
    runs = [run(key, rank=key) for key in range(3 * WINDOW)]
    for each in runs:
        journal.queued[each.key] = each
        ready.append(each)
        assert held(ready)["f", ""] <= WINDOW
    assert journal.fetches == []
    assert drain(ready) == runs


def test_short_partitions_are_never_asked_for() -> None:
    journal = FakeJournal()
    ready = journal.loaded()
    for key in range(WINDOW):
        ready.append(run(key, rank=key))
    assert len(drain(ready)) == WINDOW
    assert journal.fetches == []
    assert held(ready) == {}


def test_what_comes_back_is_taken_again_exactly_once() -> None:
    """A lost run has its old rank: it lies before what is in memory."""
    journal = FakeJournal(*[run(key, rank=key) for key in range(2 * WINDOW)])
    ready = journal.loaded()
    first = ready.take(OPEN)
    assert first is not None
    ready.append(first)
    taken = drain(ready)
    assert Counter(each.key for each in taken) == Counter(range(2 * WINDOW))


def appended(journal: FakeJournal, ready: ReadyQueue, runs: list[QueuedRun]) -> None:
    for each in runs:
        journal.queued[each.key] = each
        ready.append(each)


def test_what_executes_is_not_taken_again_when_its_emptied_partition_fills_behind_it() -> None:
    """Its start is not written down, so the journal still offers it; here the clock has gone back."""
    journal = FakeJournal()
    ready = journal.loaded()
    appended(journal, ready, [run(1, rank=1_000)])
    assert drain(ready) == [run(1, rank=1_000)]
    journal.taken = {1}
    late = [run(key, rank=500) for key in range(2, WINDOW + 3)]
    appended(journal, ready, late)
    assert drain(ready) == late


def test_what_executes_is_not_taken_again_when_others_of_its_emptied_partition_are_lost() -> None:
    runs = [run(key, rank=key) for key in range(WINDOW + 5)]
    journal = FakeJournal()
    ready = journal.loaded()
    appended(journal, ready, runs)
    assert drain(ready) == runs
    lost = runs[: WINDOW + 1]
    journal.taken = {each.key for each in runs[WINDOW + 1 :]}
    appended(journal, ready, lost)
    assert drain(ready) == lost


def test_a_discarded_run_is_not_taken() -> None:
    journal = FakeJournal(*[run(key) for key in range(5)])
    ready = journal.loaded()
    assert ready.take(OPEN) == run(0)
    del journal.queued[3]
    ready.discard([run(3), run(77), run(9, "g")])
    assert drain(ready) == [run(1), run(2), run(4)]


def test_the_last_run_of_a_partition_can_be_discarded() -> None:
    journal = FakeJournal()
    ready = journal.loaded()
    ready.append(run(1))
    ready.discard([run(1)])
    assert (ready.take(OPEN), ready.has_ready(), held(ready)) == (None, False, {})


def test_many_are_discarded_at_once_from_all_partitions() -> None:
    journal = FakeJournal(*[run(key, partition=str(key % 3)) for key in range(30)])
    ready = journal.loaded()
    taken = [ready.take(OPEN) for _ in range(3)]
    gone = {key for key in range(3, 30) if key % 4}
    for key in gone:
        del journal.queued[key]
    ready.discard([run(key, partition=str(key % 3)) for key in gone])
    assert [each.key for each in taken if each] == [0, 1, 2]
    assert sorted(each.key for each in drain(ready)) == [4, 8, 12, 16, 20, 24, 28]


def test_what_was_discarded_before_the_window_reached_it_is_not_taken_either() -> None:
    journal = FakeJournal(*[run(key, rank=key) for key in range(2 * WINDOW)])
    ready = journal.loaded()
    assert ready.take(OPEN) == run(0)
    for key in range(1, 2 * WINDOW - 1):
        del journal.queued[key]
    ready.discard([run(key, rank=key) for key in range(1, 2 * WINDOW - 1)])
    assert drain(ready) == [run(2 * WINDOW - 1, rank=2 * WINDOW - 1)]


# Ranks.


def test_a_rank_is_the_time_at_which_something_became_ready() -> None:
    ready = FakeJournal().loaded()
    assert [ready.rank(now) for now in (100, 100, 250)] == [100, 100, 250]


def test_ranks_never_go_back_though_the_clock_does() -> None:
    ready = FakeJournal().loaded()
    assert [ready.rank(now) for now in (100, 40, 99, 101)] == [100, 100, 100, 101]


def test_ranks_go_on_from_the_last_that_the_journal_has() -> None:
    ready = ReadyQueue(FakeJournal().fetch, FakeJournal().scan, FakeJournal().is_taken, 500)
    assert [ready.rank(now) for now in (100, 501)] == [500, 501]


def test_runs_without_code_wait_in_the_journal_and_are_told_of() -> None:
    gone = [run(1, "gone"), run(2, "gone", "k"), run(3, "left")]
    journal = FakeJournal(*gone, run(4))
    ready = journal.loaded()
    assert ready.stranded() == {"gone", "left"}
    assert drain(ready) == [run(4)]
    assert ready.stranded() == {"gone", "left"}
    assert (ready.has_ready(), at_least(ready, 9)) == (False, 0)
    assert {function for function, *_ in journal.fetches} == {"f"}


def test_what_is_appended_without_code_is_told_of_and_not_taken() -> None:
    ready = FakeJournal().loaded()
    ready.append(run(1, "gone"))
    assert (ready.take(OPEN), ready.has_ready(), ready.stranded()) == (None, False, {"gone"})


def test_loading_again_with_the_code_starts_what_was_stranded() -> None:
    journal = FakeJournal(run(1, "gone"))
    ready = journal.loaded()
    assert ready.take(OPEN) is None
    ready.load(frozenset({"gone"}))
    assert (ready.stranded(), drain(ready)) == (set(), [run(1, "gone")])


def test_counting_stops_at_enough() -> None:
    ready = FakeJournal().loaded()
    for key in range(6):
        ready.append(run(key, partition=str(key % 3)))
    assert [at_least(ready, enough) for enough in (1, 3, 5, 100)] == [2, 4, 6, 6]


def test_a_partition_whose_size_is_not_known_counts_as_full() -> None:
    assert at_least(FakeJournal(run(1)).loaded(), 4) == WINDOW


# What stands in the way.


def backlog(*names: str, of: int = 20) -> list[QueuedRun]:
    """So many runs of each partition, named by its function and key."""
    return [
        run(1_000 * number + each, name[0], name[1:], rank=each)
        for number, name in enumerate(names)
        for each in range(of)
    ]


def names_of(runs: list[QueuedRun]) -> list[str]:
    return [each.function + each.partition for each in runs]


def test_one_that_may_not_start_does_not_hold_up_the_others_and_comes_back_when_it_is_woken() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "g", of=2)).loaded()
    gate = Gate(f1="lock")
    assert names_of(drain(ready, gate)) == ["f2", "g", "f2", "g"]
    assert (ready.has_ready(), ready.take(gate)) == (False, None)
    ready.wake("another lock")
    assert ready.take(gate) is None
    gate.obstacles.clear()
    assert ready.take(gate) is None  # Nobody has said so.
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["f1", "f1"]


def test_who_waits_costs_nothing() -> None:
    ready = FakeJournal(*[run(key, partition=str(key)) for key in range(500)]).loaded()
    gate = Gate(**{f"f{key}": "lock" for key in range(500)})
    assert ready.take(gate) is None
    gate.asked = 0
    for _ in range(10):
        assert ready.take(gate) is None
    ready.append(run(1_000, "g"))
    assert ready.take(gate) == run(1_000, "g")
    assert gate.asked == 1


def test_the_runs_of_those_that_may_not_start_are_left_in_the_journal() -> None:
    journal = FakeJournal(*backlog("f1", "f2", "g", of=2))
    ready = journal.loaded()
    gate = Gate(f1="lock", f2=Until(100))
    assert names_of(drain(ready, gate)) == ["g", "g"]
    assert held(ready) == {("f", "1"): 0, ("f", "2"): 2}
    assert {(function, partition) for function, partition, *_ in journal.fetches} == {("g", ""), ("f", "2")}
    gate.obstacles.clear()
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["f1", "f1"]


def test_one_of_which_nothing_is_left_in_the_journal_either_wakes_another() -> None:
    journal = FakeJournal(*backlog("f1", "f2", of=1))
    ready = journal.loaded()
    gate = Gate(f1="lock", f2="lock")
    assert drain(ready, gate) == []
    del journal.queued[0]
    gate.obstacles.clear()
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["f2"]
    assert held(ready) == {}


def test_the_one_that_waits_the_longest_is_woken_and_only_one() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "f3", of=1)).loaded()
    gate = Gate(f1="lock", f2="lock", f3="lock")
    assert drain(ready, gate) == []
    gate.obstacles.clear()
    woken = []
    for _ in range(4):
        ready.wake("lock")
        woken += [names_of(drain(ready, gate))]
    assert woken == [["f1"], ["f2"], ["f3"], []]


def test_all_are_woken_in_their_order() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "g", of=1)).loaded()
    gate = Gate(f1="lock", f2="lock", g="other")
    assert drain(ready, gate) == []
    gate.obstacles.clear()
    ready.wake_all("lock")
    assert names_of(drain(ready, gate)) == ["f1", "f2"]
    ready.wake_all("lock")
    assert drain(ready, gate) == []


def test_one_that_waits_for_a_time_starts_then() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "f3", of=1)).loaded()
    gate = Gate(f1=Until(300), f2=Until(100), f3=Until(200))
    assert (drain(ready, gate), ready.next_at) == ([], 100)
    gate.obstacles.clear()
    ready.fire(99)
    assert (drain(ready, gate), ready.next_at) == ([], 100)
    ready.fire(200)
    assert (names_of(drain(ready, gate)), ready.next_at) == (["f2", "f3"], 300)
    ready.fire(1_000)
    assert (names_of(drain(ready, gate)), ready.next_at) == (["f1"], None)


def test_one_that_has_no_use_for_what_it_was_woken_for_wakes_another() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "f3", of=1)).loaded()
    gate = Gate(f1="slot", f2="slot")
    assert names_of(drain(ready, gate)) == ["f3"]
    gate.obstacles = {"f1": "lock"}
    ready.wake("slot")
    assert names_of(drain(ready, gate)) == ["f2"]


def test_one_that_waits_for_something_else_when_its_time_has_come_wakes_another_that_waits_behind_it() -> None:
    ready = FakeJournal(*backlog("f1", "f2", of=1)).loaded()
    gate = Gate(f1=Until(100, "permit"), f2="permit")
    assert drain(ready, gate) == []
    gate.obstacles = {"f1": "pause"}
    ready.fire(100)
    assert names_of(drain(ready, gate)) == ["f2"]


def test_after_a_step_back_of_the_clock_all_that_wait_for_a_time_are_looked_at_again() -> None:
    ready = FakeJournal(*backlog("f1", "f2", of=1)).loaded()
    gate = Gate(f1=Until(3_000), f2=Until(9_000))
    ready.fire(2_000)
    assert drain(ready, gate) == []
    gate.obstacles = {"f1": Until(1_500), "f2": Until(1_100)}
    ready.fire(1_000)
    assert (drain(ready, gate), ready.next_at) == ([], 1_100)


def test_one_that_has_nothing_left_when_it_is_woken_wakes_another() -> None:
    journal = FakeJournal(*backlog("f1", "f2", of=1))
    ready = journal.loaded()
    gate = Gate(f1="lock", f2="lock")
    assert drain(ready, gate) == []
    ready.discard([journal.queued.pop(0)])
    gate.obstacles.clear()
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["f2"]


def test_one_that_has_nothing_left_at_its_time_wakes_another_that_waits_for_the_same() -> None:
    journal = FakeJournal(*backlog("f1", "f2", of=1))
    ready = journal.loaded()
    gate = Gate(f1=Until(100, "permit"), f2="permit")
    assert drain(ready, gate) == []
    ready.discard([journal.queued.pop(0)])
    gate.obstacles.clear()
    ready.fire(100)
    assert names_of(drain(ready, gate)) == ["f2"]


def test_a_function_with_a_higher_limit_at_a_place_passes_those_with_lower_ones() -> None:
    ready = FakeJournal(*backlog("f1", "f2", "g", of=2)).loaded()
    gate = Gate(f1="lock", f2="lock", g="lock")
    assert drain(ready, gate) == []
    del gate.obstacles["g"]
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["g", "g"]


def test_a_function_with_a_higher_limit_is_found_however_many_wait_before_it() -> None:
    others = [run(key, partition=str(key)) for key in range(100)]
    ready = FakeJournal(*others, run(1_000, "g")).loaded()
    gate = Gate(**{f"f{key}": "lock" for key in range(100)}, g="lock")
    assert drain(ready, gate) == []
    del gate.obstacles["g"]
    ready.wake("lock")
    assert names_of(drain(ready, gate)) == ["g"]


def test_with_one_slot_for_all_every_partition_has_its_turn() -> None:
    """However they are distributed over functions: to be woken in vain costs no turn."""
    names = ["f1", "f2", "f3", "g"]
    ready = FakeJournal(*backlog(*names)).loaded()
    shut = Gate(**dict.fromkeys(names, "slot"))
    taken: list[str] = []
    first = ready.take(OPEN)
    assert first is not None
    while drain(ready, shut) == [] and len(taken) < 40:
        ready.wake("slot")
        found = ready.take(OPEN)
        assert found is not None
        taken += names_of([found])
    assert taken == ["f2", "f3", "g", "f1"] * 10


# Priority.


def test_one_of_higher_priority_goes_before_those_that_came_before_it() -> None:
    ready = FakeJournal().loaded()
    runs = [run(1, rank=100), run(2, rank=100), run(3, rank=40), run(4, rank=100), run(5, rank=40)]
    for each in runs:
        ready.append(each)
    assert [each.key for each in drain(ready)] == [3, 5, 1, 2, 4]


def test_one_of_higher_priority_is_taken_from_a_queue_that_is_longer_than_memory() -> None:
    journal = FakeJournal()
    ready = journal.loaded()
    runs = [run(key, rank=1_000 + key) for key in range(3 * WINDOW)]
    urgent = [run(10_000 + key, rank=500 - key % 5) for key in range(2 * WINDOW)]
    appended(journal, ready, [*runs, *urgent])
    assert held(ready)["f", ""] <= 2 * WINDOW
    assert drain(ready) == [*sorted(urgent, key=lambda each: (each.rank, each.key)), *runs]


# Bounds of memory.


def test_memory_is_bounded_over_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_RUNS", 64)
    journal = FakeJournal()
    ready = journal.loaded()
    runs = [run(key, partition=str(key % 10), rank=key) for key in range(400)]
    appended(journal, ready, runs)
    assert sum(held(ready).values()) <= 64
    taken, most = [], 0
    while (each := ready.take(OPEN)) is not None:
        taken.append(each.key)
        most = max(most, sum(held(ready).values()))
    assert (sorted(taken), most <= 10 * LEAST_WINDOW) == ([*range(400)], True)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_PARTITIONS", 10)
    monkeypatch.setattr(queue, "LOOKED_AT", 3)


def drained(journal: FakeJournal, ready: ReadyQueue, gate: Gate = OPEN, most: int = 13) -> list[int]:
    """The keys of all that may start. In memory are no more partitions than `most`."""
    taken = []
    while True:
        each = ready.take(gate)
        assert len(held(ready)) <= most
        if each is not None:
            journal.taken.add(each.key)
            taken.append(each.key)
        elif not ready.has_ready():
            return taken


@pytest.mark.usefixtures("few")
def test_partitions_beyond_the_bound_are_read_when_others_are_through() -> None:
    journal = FakeJournal(*[run(key, partition=f"{key % 50:02}", rank=key) for key in range(100)])
    ready = journal.loaded()
    late = [run(200 + key, partition=f"late {key}", rank=200) for key in range(5)]
    appended(journal, ready, late)
    assert sorted(drained(journal, ready)) == [*range(100), *range(200, 205)]


@pytest.mark.usefixtures("few")
def test_partitions_that_come_all_at_once_are_none_of_them_forgotten() -> None:
    journal = FakeJournal()
    ready = journal.loaded()
    held_up = [run(key, "f", f"{key:02}") for key in range(4)]
    appended(journal, ready, [*held_up, *[run(key, "g", f"{key:02}") for key in range(100, 200)]])
    gate = Gate(**{f"f{key:02}": "lock" for key in range(4)})
    assert sorted(drained(journal, ready, gate)) == [*range(100, 200)]
    ready.wake_all("lock")
    assert sorted(drained(journal, ready)) == [*range(4)]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("obstacle", ["lock", Until(1_000), Until(1_000, "permit")])
def test_however_many_may_not_start_another_function_is_not_held_up(obstacle: Obstacle) -> None:
    journal = FakeJournal(*[run(key, "f", f"{key:02}") for key in range(60)])
    ready = journal.loaded()
    gate = Gate(**{f"f{key:02}": obstacle for key in range(60)})
    assert drained(journal, ready, gate) == []
    appended(journal, ready, [run(100, "g")])
    assert drained(journal, ready, gate) == [100]
    gate.obstacles.clear()
    if isinstance(obstacle, Until):
        ready.fire(1_000)
    else:
        ready.wake_all(obstacle)
    assert sorted(drained(journal, ready)) == [*range(60)]
    assert ready.next_at is None


@pytest.mark.usefixtures("few")
def test_all_partitions_have_their_turn_though_those_in_memory_always_have_more() -> None:
    journal = FakeJournal(*[run(1_000 * key + each, "f", f"{key:02}") for key in range(40) for each in range(20)])
    ready = journal.loaded()
    shut = Gate(**{f"f{key:02}": "slot" for key in range(40)})
    drained(journal, ready, shut)
    started: Counter[str] = Counter()
    for _ in range(400):
        ready.wake("slot")
        found = ready.take(OPEN)
        while found is None:
            found = ready.take(OPEN)
        journal.taken.add(found.key)
        started[found.partition] += 1
        drained(journal, ready, shut)
    assert (len(started), min(started.values()) >= 5) == (40, True)


@pytest.mark.usefixtures("few")
def test_functions_without_code_cost_one_look_each_however_many_partitions_they_have() -> None:
    gone = [run(key, "gone", f"{key:03}") for key in range(200)]
    journal = FakeJournal(*gone, run(500, "later"))
    ready = journal.loaded(frozenset({"later"}))
    assert (drained(journal, ready), len(journal.scans), ready.stranded()) == ([500], 2, {"gone"})


class Interleavings(RuleBasedStateMachine):
    """Everything that the engine does to the queue, in any order, against a journal that is always right.

    The window is small, so that all that happens at its edges happens often.
    """

    patch: pytest.MonkeyPatch

    @initialize(before=st.integers(0, 12), window=st.integers(1, 12))
    def begin(self, before: int, window: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(queue, "WINDOW", window)
        self.window = window
        self.now = 0
        self.journal = FakeJournal()
        self.executing: dict[int, QueuedRun] = {}
        self.waiting: list[QueuedRun] = []
        for _ in range(before):
            self._new("f", "")
        self.ready = self.journal.loaded()

    def teardown(self) -> None:
        if hasattr(self, "ready"):
            expected = set(self.journal.queued) - set(self.executing)
            taken = [each.key for each in drain(self.ready)]
            self.patch.undo()
            assert sorted(taken) == sorted(expected)

    def _new(self, function: str, partition: str) -> QueuedRun:
        self.now += 1
        made = run(self.now, function, partition, rank=self.now // 3)
        self.journal.queued[made.key] = made
        return made

    @rule(function=st.sampled_from(["f", "g"]), partition=st.sampled_from(["", "k"]), count=st.integers(1, 7))
    def route(self, function: str, partition: str, count: int) -> None:
        for made in [self._new(function, partition) for _ in range(count)]:
            self.ready.append(made)

    @rule(count=st.integers(1, 7))
    def take(self, count: int) -> None:
        for _ in range(count):
            taken = self.ready.take(OPEN)
            if taken is None:
                assert set(self.journal.queued) == set(self.executing) & set(self.journal.queued)
                return
            assert taken.key in self.journal.queued
            assert taken.key not in self.executing
            self.executing[taken.key] = taken
            self.journal.taken.add(taken.key)

    def _pick(self, chance: random.Random) -> QueuedRun:
        return self.executing[chance.choice(sorted(self.executing))]

    def _pop(self, chance: random.Random) -> QueuedRun:
        gone = self.executing.pop(self._pick(chance).key)
        self.journal.taken.remove(gone.key)
        return gone

    @precondition(lambda self: self.executing)
    @rule(chance=st.randoms(use_true_random=False))
    def note(self, chance: random.Random) -> None:
        self.journal.queued.pop(self._pick(chance).key, None)

    @precondition(lambda self: self.executing)
    @rule(chance=st.randoms(use_true_random=False))
    def end(self, chance: random.Random) -> None:
        ended = self._pop(chance)
        self.journal.queued.pop(ended.key, None)

    @precondition(lambda self: self.executing)
    @rule(chance=st.randoms(use_true_random=False))
    def retry(self, chance: random.Random) -> None:
        waits = self._pop(chance)
        self.journal.queued.pop(waits.key, None)
        self.waiting.append(waits)

    @precondition(lambda self: self.waiting)
    @rule()
    def come_due(self) -> None:
        due, self.waiting = self.waiting, []
        self.now += 3
        again = [each._replace(rank=self.now // 3) for each in due]
        self.journal.queued.update({each.key: each for each in again})
        for each in again:
            self.ready.append(each)

    @precondition(lambda self: self.executing)
    @rule(chance=st.randoms(use_true_random=False))
    def lose(self, chance: random.Random) -> None:
        lost = self._pop(chance)
        self.journal.queued[lost.key] = lost
        self.ready.append(lost)

    @precondition(lambda self: bool(set(self.journal.queued) - set(self.executing)))
    @rule(chance=st.randoms(use_true_random=False))
    def cancel(self, chance: random.Random) -> None:
        key = chance.choice(sorted(set(self.journal.queued) - set(self.executing)))
        self.ready.discard([self.journal.queued.pop(key)])

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "ready"):
            assert max(held(self.ready).values(), default=0) <= max(LEAST_WINDOW, 2 * self.window)
            assert self.ready._held == sum(held(self.ready).values())


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestNoRunIsLostOrDoubled = Interleavings.TestCase
