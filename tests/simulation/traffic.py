"""The workers' side of a world: every message is looked at on its way, and those of broken workers are not theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from fanout import protocol
from fanout.core import flow
from fanout.model import ConcurrencyRule, FunctionSpec
from fanout.protocol import (
    Evict,
    Parked,
    Recorded,
    Resume,
    RunCompleted,
    RunEvicted,
    RunFailed,
    Start,
    ToEngine,
    ToWorker,
)
from tests.engine.gcra import Gcra
from tests.engine.scripts import Entry, What
from tests.engine.workers import SimPool
from tests.simulation.commits import functions_of, key_of
from tests.simulation.model import Model, Row

_ENDS = RunCompleted | RunFailed | RunEvicted


class _Going(NamedTuple):
    worker: int
    run: int


class Traffic:
    """What has been let go to workers: by claim, and for ever by run."""

    def __init__(self, model: Model, *, has_broken_workers: bool, has_jumps: bool) -> None:
        self.model = model
        self.has_broken_workers = has_broken_workers
        self._has_jumps = has_jumps
        self._going: dict[int, _Going] = {}
        self._leaving: set[int] = set()
        """Claims that were told to leave."""
        self._begun: set[int] = set()
        self._throttles: dict[tuple[str, Any], Gcra] = {}

    def forget(self) -> None:
        """The engine, and all of its workers, are gone."""
        self._going.clear()
        self._leaving.clear()

    def clock_was_set(self) -> None:
        """Intervals are counted anew."""
        self._throttles.clear()

    def lost(self, worker: int) -> None:
        self._going = {claim: each for claim, each in self._going.items() if each.worker != worker}

    def said(self, message: ToEngine) -> None:
        if isinstance(message, _ENDS | Parked):
            self._going.pop(message.claim, None)

    def sent(self, pool: SimPool, worker: int, messages: Sequence[ToWorker]) -> None:
        """Before it is delivered: the journal has what it says, and the limits allow it."""
        for message in messages:
            match message:
                case Start():
                    self._check_start(message, pool.clock())
                    if worker in pool.workers:  # It may be gone, and the engine be about to hear of it.
                        self._goes(worker, message.claim, self.model.key_of[message.run_id])
                case Resume(claim):
                    playing = None if worker not in pool.workers else pool.workers[worker].executions.get(claim)
                    if playing is not None:
                        self._goes(worker, claim, self.model.key_of[playing.start.run_id])
                case Evict(claim):
                    self._leaving.add(claim)
                case Recorded(calls):
                    if worker in pool.workers:
                        for call in calls:
                            self._check_recorded(pool.workers[worker].results.get(call))
                case _:
                    pass

    def noted(self, entry: Entry) -> None:
        """A step's code must not begin once the journal has its result, whoever asks for it."""
        if entry.what is What.BEGIN and not self.has_broken_workers:
            run = self.model.key_of[entry.run]
            step = self.model.steps.get((run, entry.step))
            assert step is None or step.state != "completed", f"{step} has a result, and begins again"

    def _check_recorded(self, result: tuple[str, str, str] | None) -> None:
        if result is None:
            assert self.has_broken_workers, "a call is acknowledged twice"
            return
        run, key, output = result
        step = self.model.steps.get((self.model.key_of[run], key))
        is_there = step is not None and (step.state, step.output) == ("completed", output)
        assert is_there or self.has_broken_workers, f"{key} of {run} is acknowledged, and the journal has {step}"

    def _check_start(self, start: Start, now: int) -> None:
        run = self.model.run(self.model.key_of[start.run_id])
        assert run.state in ("queued", "running"), f"{run} is started"
        completed = {key for (of, key), step in self.model.steps.items() if of == run.key and step.state == "completed"}
        told = {step.key for step in start.steps if step.state == "completed"}
        assert completed == told, f"{run} is started without {completed - told}"
        event = self.model.events[run.event,]
        if run.parent is None and run.replay_of is None and not self._has_jumps:
            assert event.ts <= now, f"{run} is started before its time"
        if run.key in self._begun:
            return
        self._begun.add(run.key)
        assert (run.function,) not in self.model.tables["pause"], f"{run} is started while its function is paused"
        spec = functions_of(self.model)[run.function]
        if spec.flow.throttle is not None:
            where = run.function, key_of(spec.flow.throttle.key, event)
            reference = self._throttles.setdefault(where, Gcra.of(spec.flow.throttle))
            assert reference.allows(now), f"{run} is started too soon after others of {where}"

    def _goes(self, worker: int, claim: int, run: int) -> None:
        self._going[claim] = _Going(worker, run)
        if self.has_broken_workers:
            return  # They say that they have ended, and go on.
        specs = functions_of(self.model)
        row = self.model.run(run)
        spec = specs.get(row.function)
        if spec is None:
            assert claim in self._leaving, f"{row} goes on, and its function is gone"
            return  # Its old worker has the code, and no limit is there any more.
        for number, rule in enumerate(spec.flow.concurrency):
            key = self._key(spec, number, row)
            executing = {
                each.run
                for each in self._going.values()
                if self._shares(specs, self.model.run(each.run), row, number, key)
            }
            most = rule.limit if rule.scope == "fn" else max(_limits_of_app(specs, spec.app, rule))
            assert len(executing) <= most, f"{len(executing)} runs execute where {most} may: {executing}"

    def _shares(self, specs: dict[str, FunctionSpec], other: Row, run: Row, number: int, key: Any) -> bool:
        """Whether it is counted by the same limit."""
        spec, rule = specs.get(other.function), specs[run.function].flow.concurrency[number]
        if spec is None:
            return False
        if rule.scope == "fn":
            return bool(other.function == run.function and self._key(spec, number, other) == key)
        return spec.app == specs[run.function].app and any(
            each.scope == "app" and (each.key is None) is (rule.key is None) and self._key(spec, place, other) == key
            for place, each in enumerate(spec.flow.concurrency)
        )

    def _key(self, spec: FunctionSpec, number: int, run: Row) -> str:
        event = self.model.events[run.event,]
        rule = spec.flow.concurrency[number]
        return flow.key_text(key_of(rule.key, event)) if rule.key is not None else "all"


def _limits_of_app(specs: dict[str, FunctionSpec], app: str, like: ConcurrencyRule) -> Iterator[int]:
    """Functions may give the same place different limits: then who has the higher one may start when another may not."""
    for spec in specs.values():
        for rule in spec.flow.concurrency:
            if spec.app == app and rule.scope == "app" and (rule.key is None) is (like.key is None):
                yield rule.limit


class Mischief:
    """What broken workers say: things that were said before, things in the wrong order, things about others."""

    def __init__(self, rng: Random, often: float) -> None:
        self._rng = rng
        self._often = often
        self._said: list[ToEngine] = []
        self._kept: ToEngine | None = None

    def instead_of(self, message: ToEngine) -> list[ToEngine]:
        rng = self._rng
        self._said.append(message)
        if rng.random() > self._often:
            kept, self._kept = self._kept, None
            return [message] if kept is None else [message, kept]
        match rng.randint(0, 4):
            case 0:
                return [message, message]
            case 1 if self._kept is None:
                self._kept = message
                return []
            case 2:
                return [message, rng.choice(self._said[-20:])]
            case 3:
                return [rng.choice(self._said), message]
            case _:
                return [self._forged(message), message]

    def _forged(self, message: ToEngine) -> ToEngine:
        """It says it of another execution, or of another step."""
        rng = self._rng
        given: dict[str, object] = {}
        if hasattr(message, "claim"):
            given["claim"] = rng.choice([message.claim, message.claim + 1, max(1, message.claim - 1), 10**6])
        if hasattr(message, "key") and rng.random() < 0.5:
            given["key"] = rng.choice(["s", "t", "sleep", "await", "invoke", "nothing"])
        if isinstance(message, protocol.StepCompleted) and rng.random() < 0.5:
            given["output"] = '"forged"'
        forged: ToEngine = msgspec.structs.replace(message, **given)
        return forged


class WatchedPool(SimPool):
    """A pool whose messages are looked at."""

    traffic: Traffic
    mischief: Mischief | None = None

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        self.traffic.sent(self, worker, messages)
        super().send(worker, messages)

    def post(self, worker: int, message: ToEngine) -> None:
        self.traffic.said(message)
        if self.mischief is None or isinstance(message, protocol.Described | protocol.LoadFailed):
            super().post(worker, message)
            return
        for each in self.mischief.instead_of(message):
            super().post(worker, each)

    def lose(self, worker: int, reason: str = "was killed by SIGSEGV") -> None:
        self.traffic.lost(worker)
        super().lose(worker, reason)

    def _exit(self, worker: int) -> None:
        if self.traffic.has_broken_workers:
            self.lose(worker, "exited with code 0")  # As below.
        else:
            super()._exit(worker)

    def note(self, entry: Entry) -> None:
        self.traffic.noted(entry)
        super().note(entry)

    def started(self, entry: Entry) -> None:
        if self.traffic.has_broken_workers:
            self.note(entry)  # It may go on in a worker that has said that it doesn't.
        else:
            super().started(entry)
