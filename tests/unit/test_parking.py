"""How long parked executions are kept, and how many."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from fanout.engine.parking import PARKED_A_SLOT, Parking
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun
from fanout.model import FunctionSpec, TimeLimits
from fanout.protocol import Evict, Parked

SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)
WORKER = 1


class NothingDue:
    """As much of a journal as timers ask for."""

    def next_due(self) -> int | None:
        return None


class Place:
    """One worker, and what its engine decides on parked executions."""

    def __init__(self, *, park_ms: int = 5_000) -> None:
        self.roster = Roster(slots=1)
        self.roster.join(WORKER, "shop")
        self.timers = Timers(cast(Journal, NothingDue()))
        self.parking = Parking(self.roster, self.timers, park_ms=park_ms, slots=1)

    def start(self, claim: int, now: int, *, is_suspect: bool = False, spec: FunctionSpec = SPEC) -> Active:
        run = QueuedRun(claim, f"r{claim}", "f", "", 1, 0, 0, 0, is_suspect)
        active = Active(claim, run, spec, WORKER, now)
        self.roster.start(active)
        return active

    def park(self, claim: int, now: int) -> tuple[Active, list[int]]:
        """Start and park an execution; which ones are told to leave because of that."""
        active = self.start(claim, now)
        return active, self.park_again(active, now)

    def park_again(self, active: Active, now: int) -> list[int]:
        active.waits["s"] = 0
        tick = Tick()
        self.parking.park(tick, active, Parked(active.claim, ("s",)), now)
        return told_to_leave(tick)

    def resume(self, active: Active) -> None:
        active.is_parked = False
        self.roster.resume_later(active)
        assert self.roster.resume(lambda _active: True) is active

    def look(self, now: int) -> list[int]:
        tick = Tick()
        self.parking.look(tick, now)
        return told_to_leave(tick)


def told_to_leave(tick: Tick) -> list[int]:
    messages = [message for messages in tick.out.values() for message in messages]
    return [message.claim for message in messages if isinstance(message, Evict)]


def test_each_leaves_when_its_own_time_is_over() -> None:
    place = Place()
    place.park(1, now=0)
    place.park(2, now=10)
    assert (place.parking.next_at, place.look(4_999)) == (5_000, [])
    assert (place.look(5_000), place.parking.next_at) == ([1], 5_010)
    assert (place.look(5_010), place.parking.next_at) == ([2], None)


def test_one_that_went_on_and_was_parked_again_has_all_its_time_again() -> None:
    place = Place()
    active, _ = place.park(1, now=0)
    place.resume(active)
    place.park_again(active, now=3_000)
    assert (place.look(5_000), place.look(7_999), place.look(8_000)) == ([], [], [1])


def test_of_too_many_the_longest_leaves() -> None:
    place = Place()
    assert [place.park(claim, now=0)[1] for claim in range(PARKED_A_SLOT)] == [[]] * PARKED_A_SLOT
    assert place.park(PARKED_A_SLOT, now=0)[1] == [0]


def test_what_is_gone_before_its_time_is_not_kept_until_then() -> None:
    place = Place()
    for claim in range(100):
        place.park(claim, now=claim)
        if claim >= PARKED_A_SLOT:
            place.roster.end(place.roster.active[claim - PARKED_A_SLOT])
            place.look(claim)
        assert len(place.parking._leaving) <= PARKED_A_SLOT
    assert place.parking.next_at == 5_000 + 100 - PARKED_A_SLOT


# What is not kept, and what is not parked at all.


def parked(place: Place, active: Active, *keys: str, now: int = 0) -> Tick:
    tick = Tick()
    place.parking.park(tick, active, Parked(active.claim, keys), now)
    return tick


@pytest.mark.parametrize(
    ("waits", "is_kept"),
    [
        ({"a": 0}, True),  # An event may come at any time.
        ({"a": 5_100}, True),
        ({"a": 5_101}, False),
        ({"a": 9_000, "b": 200}, True),
        ({"a": 9_000, "b": 9_000}, False),
    ],
)
def test_only_what_may_go_on_soon_is_kept(waits: dict[str, int], is_kept: bool) -> None:
    place = Place()
    active = place.start(1, now=0)
    active.waits = waits
    tick = parked(place, active, *waits, now=100)
    assert (active.is_parked, active.is_leaving, told_to_leave(tick)) == (True, not is_kept, [] if is_kept else [1])
    assert [each.run for each in tick.writes.parked] == [1]
    assert (place.roster.executing, place.parking.next_at) == (0, 5_100 if is_kept else None)


def test_nothing_is_kept_where_nothing_is_to_be() -> None:
    place = Place(park_ms=0)
    assert (place.park(1, now=0)[1], place.parking.next_at) == ([1], None)


def test_a_suspect_is_not_kept_others_wait_for_its_worker() -> None:
    place = Place()
    suspect = place.start(1, now=0, is_suspect=True)
    assert place.park_again(suspect, now=0) == [1]


def test_an_execution_for_which_something_has_come_meanwhile_keeps_its_slot() -> None:
    place = Place()
    active = place.start(1, now=0)
    active.waits = {"a": 0}
    tick = parked(place, active, "a", "b")
    assert (active.is_parked, place.roster.executing, bool(tick.writes), tick.out) == (False, 1, False, {})


@pytest.mark.parametrize("state", ["is_leaving", "is_parked"])
def test_one_that_is_leaving_or_parked_is_not_parked_again(state: str) -> None:
    place = Place()
    active = place.start(1, now=0)
    active.waits = {"a": 0}
    setattr(active, state, True)
    tick = parked(place, active, "a")
    assert (active.stint, bool(tick.writes), tick.out) == (0, False, {})


def test_what_leaves_already_does_not_count_among_the_longest() -> None:
    place = Place()
    for claim in range(PARKED_A_SLOT):
        place.park(claim, now=0)
    tick = Tick()
    place.parking.evict(tick, place.roster.active[0])
    assert told_to_leave(tick) == [0]
    assert place.park(PARKED_A_SLOT, now=0)[1] == [1]
    assert place.look(5_000) == list(range(2, PARKED_A_SLOT + 1))


def test_the_end_that_a_parked_run_has_to_reach_is_a_time_to_look_at_the_journal() -> None:
    place = Place()
    spec = msgspec.structs.replace(SPEC, timeouts=TimeLimits(finish_ms=700))
    place.park_again(place.start(1, now=100, spec=spec), now=200)
    assert place.timers.earliest == 800
