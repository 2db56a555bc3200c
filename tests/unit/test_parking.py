"""How long parked executions are kept, and how many."""

from __future__ import annotations

from typing import cast

from fanout.engine.parking import PARKED_A_SLOT, Parking
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal, QueuedRun
from fanout.model import FunctionSpec
from fanout.protocol import Evict, Parked

SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)
WORKER = 1


class NothingDue:
    """As much of a journal as timers ask for."""

    def next_due(self) -> int | None:
        return None


class Place:
    """One worker, and what its engine decides on parked executions."""

    def __init__(self) -> None:
        self.roster = Roster(slots=1)
        self.roster.join(WORKER)
        self.parking = Parking(self.roster, Timers(cast(Journal, NothingDue())), park_ms=5_000, slots=1)

    def park(self, claim: int, now: int) -> tuple[Active, list[int]]:
        """Start and park an execution; which ones are told to leave because of that."""
        active = Active(claim, QueuedRun(claim, f"r{claim}", "f", "", 1, 0, 0, 0, False), SPEC, WORKER, now)
        self.roster.start(active)
        return active, self.park_again(active, now)

    def park_again(self, active: Active, now: int) -> list[int]:
        active.waits["s"] = 0
        tick = Tick()
        self.parking.park(tick, active, Parked(active.claim, ("s",)), now)
        return told_to_leave(tick)

    def resume(self, active: Active) -> None:
        active.is_parked = False
        self.roster.resume_later(active)
        assert self.roster.resume() is active

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
