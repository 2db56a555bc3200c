"""Who holds which place: concurrency by key, slots, paused functions, throttles. What stands in the way of a run.

Places are held by executions that are there, and are gone with them: there is no counter that could leak.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fanout.core import flow
from fanout.core.places import THROTTLE, TICKS, Place, places_of
from fanout.engine.queue import MOST_PARTITIONS, Keyed, Obstacle, Until
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun
from fanout.model import FunctionSpec


class Paused(NamedTuple):
    function: str


class TickBefore(NamedTuple):
    """A run of one of the function's ticks that has begun and is not over, whether it executes or waits."""

    function: str


class Permit(NamedTuple):
    """To start one run more than the journal knew of."""

    function: str
    key: str


class _Grant(NamedTuple):
    """A permit that was not used yet: it is good at this time only, and `tat` is how it was without it.

    From `until` on that makes no difference.
    """

    at: int
    tat: int | None
    until: int


class FreeSlot(NamedTuple):
    """A worker of this app that has one."""

    app: str


class Limits:
    """Knows what is executing, by key. A permit to start is durable before it is used."""

    def __init__(self, journal: Journal, *, has_slot: Callable[[str], bool]) -> None:
        self._journal = journal
        self._has_slot = has_slot
        self._functions: dict[str, FunctionSpec] = {}
        self._held: dict[Place, set[int]] = {}
        self._places: dict[tuple[str, str], tuple[tuple[Place, int], ...]] = {}
        self.paused: set[str] = set(journal.paused())
        self._granted: dict[Permit, _Grant] = {}
        self._asked: dict[Permit, None] = {}
        """In the order in which they were: each is then decided on, and woken, in its turn."""
        self._not_before: dict[Permit, int] = {}
        self._forgotten: list[tuple[int, Permit]] = []
        """When what is known of a permit means nothing any more."""
        self._now = 0

    def look(self, now: int) -> None:
        """It is this time."""
        if now < self._now:
            self._not_before.clear()  # That was said by another clock.
        self._now = now
        while self._forgotten and self._forgotten[0][0] <= now:
            _, permit = heapq.heappop(self._forgotten)
            if self._not_before.get(permit, now + 1) <= now:
                del self._not_before[permit]
            grant = self._granted.get(permit)
            if grant is not None and grant.until <= now:
                del self._granted[permit]

    def learn(self, functions: dict[str, FunctionSpec], executing: Iterable[QueuedRun] = ()) -> None:
        """Which places a run needs may be others than they were, also for those that execute."""
        self._functions = functions
        self._places.clear()
        self._held.clear()
        for run in executing:
            self.hold(run)

    def pause(self, functions: Iterable[str]) -> None:
        """Runs of these that have not begun wait; those that execute go on."""
        self.paused.update(functions)

    def unpause(self, function: str) -> None:
        self.paused.discard(function)

    # Places.

    def _places_of(self, run: Keyed) -> tuple[tuple[Place, int], ...]:
        """The places that the run needs, each with how many there are. One look for each partition."""
        where = run.function, run.partition
        places = self._places.get(where)
        if places is None:
            if len(self._places) >= MOST_PARTITIONS:
                self._places.clear()  # With fewer than the queue has at a time, each look would be in vain.
            spec = self._functions.get(run.function)
            places = self._places[where] = () if spec is None else tuple(places_of(spec, run.partition))
        return places

    def hold(self, run: QueuedRun) -> None:
        """The run executes from now on."""
        for place, _ in self._places_of(run):
            self._held.setdefault(place, set()).add(run.key)

    def release(self, run: QueuedRun) -> Iterator[Place]:
        """It does no longer. The places that others may have now."""
        for place, _ in self._places_of(run):
            holders = self._held.get(place)
            if holders is not None:
                holders.discard(run.key)
                if not holders:
                    del self._held[place]
            yield place

    def full_place(self, run: Keyed) -> Place | None:
        """The first of its places that has no room."""
        for place, limit in self._places_of(run):
            if not self._has_room(place, limit):
                return place
        return None

    def _has_room(self, place: Place, limit: int) -> bool:
        return len(self._held.get(place, ())) < limit

    # The gate of the queue.

    def obstacle(self, run: QueuedRun) -> Obstacle | None:
        shut = self.shut(run)
        if shut is not None or run.started_at is not None:
            return shut
        if flow.is_sequence(run.partition) and self._journal.has_begun(run.function, TICKS):
            return TickBefore(run.function)
        return None if self._functions[run.function].flow.throttle is None else self._throttled(run)

    def shut(self, partition: Keyed) -> Obstacle | None:
        if self.paused and partition.function in self.paused and not flow.is_begun(partition.partition):
            return Paused(partition.function)
        full = self.full_place(partition)
        if full is not None:
            return full
        app = self._functions[partition.function].app
        return None if self._has_slot(app) else FreeSlot(app)

    # Throttles.

    def _permit_of(self, run: Keyed) -> Permit:
        return Permit(run.function, flow.keys_of(run.partition)[1] or "")

    def _throttled(self, run: QueuedRun) -> Obstacle | None:
        permit = self._permit_of(run)
        grant = self._granted.get(permit)
        if grant is not None and grant.at == self._now:
            return None
        at = self._not_before.get(permit)
        if at is not None and at > self._now:
            return Until(at, permit)
        self._asked[permit] = None
        return permit

    def spend(self, run: QueuedRun) -> Permit | None:
        """The run starts. The permit that it has used, if it had one."""
        if run.started_at is not None or not self._granted:
            return None
        permit = self._permit_of(run)
        if permit not in self._granted:
            return None
        del self._granted[permit]
        return permit

    @property
    def has_questions(self) -> bool:
        """Whether a run could start if it had a permit."""
        return bool(self._asked)

    def decide(self, tick: Tick, now: int) -> None:
        """Grant the permits that were asked for, or say when they may be: after the commit they can be used."""
        for permit in self._asked:
            tick.permits.append(permit)
            spec = self._functions.get(permit.function)
            rule = None if spec is None else spec.flow.throttle
            where = permit.function, THROTTLE, permit.key
            self._not_before.pop(permit, None)
            unused = self._granted.pop(permit, None)
            tat = self._journal.limit_value(*where) if unused is None else unused.tat
            if rule is None:
                self._granted[permit] = _Grant(now, tat, now)
                continue
            verdict = flow.throttle(tat, now, rule)
            tick.writes.limits[where] = verdict.tat
            until = now + rule.burst * rule.period_ms if verdict.is_allowed else verdict.allowed_at
            if verdict.is_allowed:
                self._granted[permit] = _Grant(now, tat, until)
            else:
                self._not_before[permit] = until
            heapq.heappush(self._forgotten, (until, permit))
        self._asked.clear()
