"""Who holds which place: concurrency by key, slots, paused functions, throttles. What stands in the way of a run.

Places are held by executions that are there, and are gone with them: there is no counter that could leak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fanout.core import flow
from fanout.engine.queue import Obstacle, Until
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun
from fanout.model import CronTrigger, FunctionSpec, Overlap

THROTTLE = "throttle"


class Place(NamedTuple):
    """What executions with the same key share. `function` is empty where a whole app shares it."""

    function: str
    rule: str
    key: str


class Paused(NamedTuple):
    function: str


class Permit(NamedTuple):
    """To start one run more than the journal knew of."""

    function: str
    key: str


class _Grant(NamedTuple):
    """A permit that was not used yet: it is good at this time only, and `tat` is how it was without it."""

    at: int
    tat: int | None


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
        self._asked: set[Permit] = set()
        self._not_before: dict[Permit, int] = {}
        self.now = 0
        """The time of this tick."""

    def learn(self, functions: dict[str, FunctionSpec]) -> None:
        self._functions = functions
        self._places.clear()

    def pause(self, functions: Iterable[str]) -> None:
        """Runs of these that have not begun wait; those that execute go on."""
        self.paused.update(functions)

    def unpause(self, function: str) -> None:
        self.paused.discard(function)

    # Places.

    def _places_of(self, run: QueuedRun) -> tuple[tuple[Place, int], ...]:
        """The places that the run needs, each with how many there are. One look for each partition."""
        where = run.function, run.partition
        places = self._places.get(where)
        if places is None:
            if len(self._places) > 4 * 1024:
                self._places.clear()
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

    def full_place(self, run: QueuedRun) -> Place | None:
        """The first of its places that has no room."""
        return next((place for place, limit in self._places_of(run) if not self._has_room(place, limit)), None)

    def _has_room(self, place: Place, limit: int) -> bool:
        return len(self._held.get(place, ())) < limit

    # The gate of the queue.

    def obstacle(self, run: QueuedRun) -> Obstacle | None:
        spec = self._functions[run.function]
        if run.function in self.paused:
            return Paused(run.function)
        full = self.full_place(run)
        if full is not None:
            return full
        if not self._has_slot(spec.app):
            return FreeSlot(spec.app)
        if spec.flow.throttle is None or run.started_at is not None:
            return None
        return self._throttled(run)

    def with_room(self, run: QueuedRun) -> Iterable[Obstacle]:
        spec = self._functions[run.function]
        places = self._places_of(run)
        free: list[Obstacle] = [place for place, limit in places if self._has_room(place, limit)]
        if self._has_slot(spec.app):
            free.append(FreeSlot(spec.app))
        yield from free
        if len(free) <= len(places) and spec.flow.throttle is not None:
            yield self._permit_of(run)  # It is not the one that asks for it.

    # Throttles.

    def _permit_of(self, run: QueuedRun) -> Permit:
        return Permit(run.function, flow.keys_of(run.partition)[1] or "")

    def _throttled(self, run: QueuedRun) -> Obstacle | None:
        permit = self._permit_of(run)
        grant = self._granted.get(permit)
        if grant is not None and grant.at == self.now:
            return None
        at = self._not_before.get(permit)
        if at is not None and at > self.now:
            return Until(at, permit)
        self._asked.add(permit)
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
                self._granted[permit] = _Grant(now, tat)
                continue
            verdict = flow.throttle(tat, now, rule)
            tick.writes.limits[where] = verdict.tat
            if verdict.is_allowed:
                self._granted[permit] = _Grant(now, tat)
            else:
                self._not_before[permit] = verdict.allowed_at
        self._asked.clear()


def places_of(spec: FunctionSpec, partition: str) -> Iterator[tuple[Place, int]]:
    """The places that the function's runs of this partition need, each with how many there are."""
    keys, _ = flow.keys_of(partition)
    for number, (rule, key) in enumerate(zip(spec.flow.concurrency, keys, strict=False)):
        if rule.scope == "app":
            # By the key's value; those without a key are counted together.
            yield Place("", f"{spec.app}:{'all' if rule.key is None else 'key'}", key), rule.limit
        else:
            yield Place(spec.id, str(number), key), rule.limit
    if spec.overlap is Overlap.QUEUE and any(isinstance(trigger, CronTrigger) for trigger in spec.triggers):
        yield Place(spec.id, "cron", ""), 1
