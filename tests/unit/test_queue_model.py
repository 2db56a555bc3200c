"""The queue with its real gate and tiny bounds, against a look at every run: nothing that may start is left."""

from __future__ import annotations

import random
from typing import cast

import msgspec
import pytest

from fanout.core import flow
from fanout.engine import queue
from fanout.engine.limits import FreeSlot, Limits, Paused, Permit
from fanout.engine.queue import ReadyQueue
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun
from fanout.model import ConcurrencyRule, FlowRules, FunctionSpec, ThrottleRule
from tests.unit.test_limits import KeptLimits, spec
from tests.unit.test_queue import FakeJournal

SHARED, KEY = "event.data.shared", "event.data.k"
RULES = {
    "plain": FlowRules(),
    "key": FlowRules(concurrency=(ConcurrencyRule(1, KEY),)),
    "both": FlowRules(concurrency=(ConcurrencyRule(1, KEY), ConcurrencyRule(2))),
    "low": FlowRules(concurrency=(ConcurrencyRule(1, SHARED, "app"), ConcurrencyRule(1, KEY))),
    "high": FlowRules(concurrency=(ConcurrencyRule(2, SHARED, "app"), ConcurrencyRule(2, KEY))),
    "slow": FlowRules(concurrency=(ConcurrencyRule(1, KEY),), throttle=ThrottleRule(1, 50)),
    "slow by key": FlowRules(concurrency=(ConcurrencyRule(1, KEY),), throttle=ThrottleRule(2, 70, 2, SHARED)),
}
SLOTS = {"left": 5, "right": 3}


class World:
    """Runs that come and go, in two apps. A start is not written down, as in the engine."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.specs: dict[str, FunctionSpec] = {
            f"{app} {name}": msgspec.structs.replace(spec(f"{app} {name}", rules), app=app)
            for app in SLOTS
            for name, rules in RULES.items()
        }
        self.now = 1_000
        self.last = 0
        self.journal = FakeJournal()
        self.kept = KeptLimits()
        self.executing: dict[int, QueuedRun] = {}
        self.set_aside: list[QueuedRun] = []
        self.limits = Limits(cast(Journal, self.kept), has_slot=self._has_slot)
        self.limits.learn(self.specs)
        self.queue = ReadyQueue(self.journal.fetch, self.journal.scan, self.journal.is_taken)
        self.queue.load(frozenset(self.specs))

    def _has_slot(self, app: str) -> bool:
        return sum(self.specs[each.function].app == app for each in self.executing.values()) < SLOTS[app]

    # What happens.

    def route(self) -> None:
        for _ in range(self.chance.choice([1, 1, 3, 12])):
            self.last += 1
            made = self.specs[self.chance.choice([*self.specs])]
            keys = [str(self.chance.randrange(2 if rule.key == SHARED else 8)) for rule in made.flow.concurrency]
            throttle = made.flow.throttle
            shared = None if throttle is None else "0" if throttle.key is None else str(self.chance.randrange(2))
            partition, rank = flow.partition(keys, shared), self.now - self.chance.choice([0, 0, 600])
            self._queue(QueuedRun(self.last, "r", made.id, partition, 1, rank, 0, 0, False))

    def _queue(self, run: QueuedRun) -> None:
        self.journal.queued[run.key] = run
        self.queue.append(run)

    def end(self) -> None:
        for key in self.chance.sample([*self.executing], min(2, len(self.executing))):
            run = self.executing.pop(key)
            self.journal.taken.discard(key)
            self.journal.queued.pop(key)
            self._pass_on(run)
            if self.chance.random() < 0.3:  # Its worker was lost, or it is tried again.
                is_suspect = self.chance.random() < 0.4
                self._queue(run._replace(partition=flow.begun(run.partition), started_at=1, is_suspect=is_suspect))

    def _pass_on(self, run: QueuedRun) -> None:
        self.queue.wake(FreeSlot(self.specs[run.function].app))
        for place in self.limits.release(run):
            self.queue.wake(place)

    def cancel(self) -> None:
        waiting = [key for key in self.journal.queued if key not in self.journal.taken]
        chosen = self.chance.sample(waiting, min(len(waiting), self.chance.choice([1, 2, 9])))
        self.queue.discard([self.journal.queued.pop(key) for key in chosen])

    def pause(self) -> None:
        self.limits.pause(self.chance.sample([*self.specs], 2))

    def resume(self) -> None:
        for function in sorted(self.limits.paused)[:3]:
            self.limits.unpause(function)
            self.queue.wake_all(Paused(function))

    def wait(self) -> None:
        self.now += self.chance.choice([1, 20, 60, 200, -100])

    # A tick of the engine.

    def settle(self) -> None:
        for _ in range(2_000):
            self.queue.fire(self.now)
            tick = Tick()
            self.limits.decide(tick, self.now)
            self.kept.values.update(tick.writes.limits)
            for permit in tick.permits:
                self.queue.wake(permit)
            self.limits.look(self.now)
            while (run := self.queue.take(self.limits)) is not None:
                self._start(run)
            self._start_suspects()
            if not (self.limits.has_questions or self.queue.has_ready()):
                return
        raise AssertionError("it never comes to an end")

    def _start(self, run: QueuedRun) -> None:
        assert run.key in self.journal.queued
        assert run.key not in self.journal.taken
        assert self.limits.full_place(run) is None
        assert self._has_slot(self.specs[run.function].app)
        self.journal.taken.add(run.key)
        if run.is_suspect:
            self.set_aside.append(run)
            self._pass_on(run)
            return
        self.executing[run.key] = run
        self.limits.hold(run)
        spent = self.limits.spend(run)
        if spent is not None:
            self.queue.wake(spent)

    def _start_suspects(self) -> None:
        """Each when nothing else executes in its app."""
        for run in self.set_aside:
            app = self.specs[run.function].app
            is_alone = not any(self.specs[each.function].app == app for each in self.executing.values())
            if is_alone and self.limits.full_place(run) is None:
                self.executing[run.key] = run
                self.limits.hold(run)
        self.set_aside = [each for each in self.set_aside if each.key not in self.executing]

    def check(self) -> None:
        """The first of each partition, in the journal, may not start; what waits for a time is woken then."""
        firsts: dict[tuple[str, str], QueuedRun] = {}
        for run in sorted(self.journal.queued.values(), key=lambda each: (each.rank, each.key)):
            if run.key not in self.journal.taken:
                firsts.setdefault((run.function, run.partition), run)
        for run in firsts.values():
            obstacle = self.limits.obstacle(run)
            assert obstacle is not None, f"lost: {run}"
            assert not isinstance(obstacle, Permit), f"lost: {run} has only to ask"
            if isinstance(obstacle, queue.Until):
                assert self.queue.next_at is not None, f"lost: {run} until {obstacle}"
                assert self.queue.next_at <= obstacle.at, f"too late: {run} until {obstacle}"
        assert self.queue._held == sum(len(each.runs) for each in self.queue._partitions.values())

    def finish(self) -> None:
        """All runs start in the end."""
        for _ in range(2_000):
            if not self.journal.queued:
                return
            self.resume()
            self.end()
            self.now += 60
            self.settle()
            self.check()
        raise AssertionError(f"left: {self.journal.queued}")


def _live(seed: int, chance: random.Random) -> None:
    world = World(seed)
    happens = [
        *[world.route] * chance.choice([2, 5]), *[world.end] * 4, world.cancel, world.pause, world.resume, world.wait, world.wait,
    ]  # fmt: skip
    for _ in range(120):
        for happening in chance.choices(happens, k=chance.choice([1, 1, 3])):
            happening()
        world.settle()
        world.check()
    world.finish()


def _bound(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    for name, value in bounds.items():
        monkeypatch.setattr(queue, name, value)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_left_that_may_start(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    partitions, looked_at = chance.choice([1, 4, 16]), chance.choice([1, 3, 40])
    window, runs = chance.choice([1, 4]), chance.choice([4, 30])
    _bound(monkeypatch, MOST_PARTITIONS=partitions, LOOKED_AT=looked_at, WINDOW=window, MOST_RUNS=runs)
    _live(seed, chance)


@pytest.mark.parametrize("seed", [876, 3020, 3120, 3294])
def test_no_more_is_looked_for_than_there_is_room_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left in the journal again, and looked for again, without end."""
    _bound(monkeypatch, MOST_PARTITIONS=16, LOOKED_AT=40, WINDOW=1, MOST_RUNS=30)
    _live(seed, random.Random(seed))
