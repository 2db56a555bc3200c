"""How long an execution whose branches all wait is kept warm in its worker, before it has to leave."""

from __future__ import annotations

from collections import deque

from fanout.engine.roster import Active, Roster
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.protocol import Evict, Parked

PARKED_A_SLOT = 8
"""So many parked executions a slot may be in a worker: each holds a thread or a task, and what its code holds."""


class Parking:
    """A parked run is a waiting run whose execution is kept: the journal does not tell them apart."""

    def __init__(self, roster: Roster, timers: Timers, *, park_ms: int, slots: int) -> None:
        self._roster = roster
        self._timers = timers
        self.have(park_ms=park_ms, slots=slots)
        self._leaving: deque[tuple[int, int, int]] = deque()
        """(when, claim, stint): numbers, for most are gone long before."""

    def have(self, *, park_ms: int, slots: int) -> None:
        """What is parked from now on is kept for so long, and so many a worker."""
        self._park_ms = park_ms
        self._most = slots * PARKED_A_SLOT

    @property
    def next_at(self) -> int | None:
        """When the next one has to leave."""
        return self._leaving[0][0] if self._leaving else None

    def park(self, tick: Tick, active: Active, parked: Parked, now: int) -> None:
        """All branches wait, for these steps. If something has come for one of them meanwhile, they don't."""
        if active.is_leaving or active.is_parked or not all(key in active.waits for key in parked.keys):
            return
        active.is_parked = True
        active.stint += 1
        self._timers.add(active.deadline_at)
        tick.park(active)
        self._roster.park(active)
        if active.run.is_suspect or not self._may_go_on_soon(active, now):
            self.evict(tick, active)
            return
        self._leaving.append((now + self._park_ms, active.claim, active.stint))
        there = self._roster.parked(active.worker)
        if len(there) > self._most:
            longest = next((each for each in there.values() if each.is_parked and not each.is_leaving), active)
            self.evict(tick, longest)

    def _may_go_on_soon(self, active: Active, now: int) -> bool:
        return self._park_ms > 0 and min(active.waits.values(), default=0) <= now + self._park_ms

    def look(self, tick: Tick, now: int) -> None:
        while self._leaving:
            leaves_at, claim, stint = self._leaving[0]
            active = self._roster.active.get(claim)
            if active is None or active.stint != stint or not active.is_parked or active.is_leaving:
                self._leaving.popleft()  # It went on, or had to leave already.
            elif leaves_at <= now:
                self._leaving.popleft()
                self.evict(tick, active)
            else:
                return

    def evict(self, tick: Tick, active: Active) -> None:
        """It leaves; the run comes back later, with its recorded steps."""
        active.is_leaving = True
        tick.tell(active.worker, Evict(active.claim))
