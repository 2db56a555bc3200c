"""Executions of scripts: each part of one is what a function's code would do."""

from __future__ import annotations

import json
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from fanout import protocol
from fanout.core.paths import value_at
from fanout.engine.loop import NOTE_AFTER_MS
from fanout.errors import StepError
from fanout.model import Failure, StepKind, StepState
from fanout.protocol import (
    EventWait,
    RecordedStep,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    Start,
    StepFailed,
    StepRunning,
)
from fanout.worker.asking import Mapped, room
from fanout.worker.branches import Branch
from fanout.worker.execution import Evicted, Execution, Reached
from fanout.worker.resting import rest_soon
from tests.engine.scripts import (
    FOREVER,
    Await,
    Body,
    Entry,
    Fail,
    Function,
    Hang,
    Invoke,
    Map,
    Obey,
    Outcome,
    Parallel,
    Send,
    Silent,
    Sleep,
    Step,
    What,
    nth,
)
from tests.engine.steps import SteppingStrand
from tests.engine.strands import BrokenError, DiedError, Join, Play, Recorded, Strand, Timer

if TYPE_CHECKING:
    import asyncio

    from tests.engine.workers import SimWorker

_SOME_TIME = 2**62


class Playing:
    """A function being executed."""

    def __init__(self, start: Start, made: Function, worker: SimWorker) -> None:
        self.start = start
        self.claim = start.claim
        self.function = made
        self.worker = worker
        self.is_async = made.spec.is_async
        # Code that is another when the script is.
        self.real = Execution(start, worker.desk, made.spec, compile(repr(repr(made.script)), "m.py", "eval"))
        self.is_over = False
        self.root = Acting(self, made.script, Branch(self.real))
        self.root.go_on()

    def later(self, ms: int, do: Callable[[], None]) -> None:
        """Do it after so long, if this is still going."""

        def do_it() -> None:
            if not self.is_over:
                do()

        self.worker.pool.later(ms, self.worker.number, do_it)

    def is_idle(self) -> bool:
        """Nothing of it does anything but wait for what a step waits for."""
        return bool(self.real.waiting) and not any(each.is_busy for each in self.strands())

    def strands(self) -> list[Strand]:
        return [each for each in self.root.family() if not each.is_over]

    def end(self, error: BaseException | None) -> None:
        """As the slots' `_call`."""
        ending: RunCompleted | RunFailed | RunEvicted
        if error is None:
            ending = self.real.completed(json.loads(self.function.returns(self.start.event[3])))
        elif isinstance(error, BrokenError) and not self.real.has_left:
            failure, fail = Failure("Broken", str(error)), error.fail
            ending = RunFailed(self.claim, failure, fail.is_retriable, fail.retry_after_ms)
        else:
            ending = self.real.raised(error)
        self.is_over = True
        self.real.close()
        del self.worker.executions[self.claim]
        if isinstance(ending, RunEvicted):
            self.worker.note(What.LEFT, self)
        self.worker.post(ending)


class Acting(SteppingStrand):
    """A thread or task that acts out a script."""

    def play(self) -> Play:  # noqa: C901, PLR0912 - one case a part
        for part in self.script:
            match part:
                case Step():
                    yield from _caught(self._step(part), is_caught=part.is_caught)
                case Body():
                    yield from self._spend(part.takes_ms, is_hidden=part.is_hidden)
                    self._die(part.deaths, "")
                    outcome = nth(part.outcomes, self.playing.start.attempt)
                    if isinstance(outcome, Hang):
                        yield from self._spend(FOREVER)
                    elif outcome is not None:
                        raise BrokenError(outcome)
                case Silent():
                    yield FOREVER
                case Obey():
                    orders = json.loads(self.playing.start.event[3])
                    yield from self._spend(orders.get("takes_ms", 0))
                    if orders.get("is_failing"):
                        raise BrokenError(Fail(is_retriable=False))
                case Sleep():
                    yield from self._sleep(part)
                case Await():
                    yield from self._await(part)
                case Send():
                    yield from self._send(part)
                case Invoke():
                    yield from _caught(self._invoke(part), is_caught=part.is_caught)
                case Map():
                    yield from _caught(self._map(part), is_caught=part.is_caught)
                case Parallel():
                    yield from self._parallel(part)

    def _spend(self, ms: int, *, is_hidden: bool = False) -> Play:
        """In a task it awaits a timer; a thread is busy."""
        timer = Timer((self.pool.elapsed() + ms) / 1000)
        if self.is_async and not is_hidden:
            self.real.timers.add(cast("asyncio.TimerHandle", timer))
        yield ms
        self.real.timers.discard(cast("asyncio.TimerHandle", timer))

    def _sleep(self, part: Sleep) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self.recorded(reached)) is None:
            if part.ms > 0:
                yield from self.ask(reached, protocol.Sleep(self.pool.clock() + part.ms))
            else:
                yield from self.done(reached, StepKind.SLEEP, "null")

    def _await(self, part: Await) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self.recorded(reached)) is None:
            match = None if part.match is None else (part.match, value_at(self.real.event(), part.match) or "")
            yield from self.ask(reached, EventWait(part.event, self.pool.clock() + part.timeout_ms, match, part.if_))

    def _send(self, part: Send) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self.recorded(reached)) is None:
            sent = tuple(
                SentEvent(
                    each.id or f"sent-{next(self.pool.serials)}", each.id is not None, each.name, each.ts, each.data,
                    each.user, each.v,
                )
                for each in part.events
            )  # fmt: skip
            yield from self.done(reached, StepKind.SEND, json.dumps([each.id for each in sent]), sent)

    def _invoke(self, part: Invoke) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self.recorded(reached)) is None:
            due_at = None if part.timeout_ms is None else self.pool.clock() + part.timeout_ms
            yield from self.ask(reached, protocol.Invoke(part.function, part.data, due_at))

    def _map(self, part: Map) -> Play:
        real = self.real
        reached = real.reach(part.name)
        key = reached.key
        mapped = Mapped(
            key, part.function, [each.as_data() for each in part.items], key=_number if part.has_keys else None,
            max_in_flight=part.max_in_flight, on_error="collect" if part.is_collecting else "stop",
        )  # fmt: skip
        if (yield from self.recorded(reached)) is not None:
            return
        known = real.recorded.get(key)
        if known is None or known.progress is None:
            free = part.max_in_flight
            self.say_waits(reached, mapped.request)
        else:
            taken, free = known.progress
            mapped.skip(taken)
        while True:
            items = mapped.next_items(real.claim, free) if free > 0 else None
            if items is not None and part.item_ms:
                yield from self._spend(part.item_ms * len(items.items))
            yield from self.wait(key, items)
            if (yield from self.recorded(reached)) is not None:
                return
            free = room(real.recorded[key])

    def _parallel(self, part: Parallel) -> Play:
        if not part.branches:
            return
        real = self.real
        if self.is_async:
            forks = [self.here.fork() for _ in part.branches]
            real.stirs += len(forks)
        else:
            group = self.here.fork()
            forks = [group.fork() for _ in part.branches]
            real.busy += len(part.branches) - 1
        join = Join([Acting(self.playing, each, fork, self) for each, fork in zip(part.branches, forks, strict=True)])
        self.join = join
        for strand in join.strands:
            strand.go_on()
        yield join.waiter
        if join.is_cancelled:
            raise CancelledError
        errors = [each.error for each in join.strands]
        raised: Sequence[BaseException | None] = [each for each in errors if isinstance(each, Evicted)] or errors
        for error in raised:
            if error is not None:
                raise error

    # A step of the function's own code.

    def _step(self, step: Step) -> Play:
        reached = self.real.reach(step.name)
        output = yield from self.recorded(reached)
        while output is None:
            yield from self.settle()
            output = yield from self._attempt(step, reached)

    def _attempt(self, step: Step, reached: Reached) -> Recorded:
        real, pool, key = self.real, self.pool, reached.key
        started_at, attempts = pool.clock(), self.attempts(key)
        output = json.dumps(f"{key} {next(pool.serials)}")
        pool.note(
            Entry(What.BEGIN, started_at, real.start.run_id, key, attempts, output, self.worker.number, real.claim)
        )
        real.executing += 1
        self.worker.check_slots()
        outcome = nth(step.outcomes, attempts - 1)
        takes_ms = FOREVER if isinstance(outcome, Hang) else step.takes_ms
        limit_ms = real.spec.timeouts.step_ms
        running = StepRunning(real.claim, key, reached.branch, reached.position, started_at)
        failure = Failure("Broken", f"attempt {attempts} of {key}")
        if limit_ms is not None:
            self.worker.post(running)
            if takes_ms > limit_ms and self.is_async and not step.is_stubborn:
                takes_ms, outcome = limit_ms, Fail()
                failure = Failure("TimeoutError", f"step `{key}` did not end within {limit_ms / 1000:g} s")
        elif takes_ms >= NOTE_AFTER_MS:
            yield NOTE_AFTER_MS
            self.worker.post(running)
            takes_ms -= NOTE_AFTER_MS
        yield takes_ms
        real.executing -= 1
        if self.is_async:
            rest_soon(real)
        self._die(step.deaths, key)
        return (yield from self._report(reached, outcome, failure, attempts, output, started_at))

    def _report(
        self, reached: Reached, outcome: Outcome, failure: Failure, attempts: int, output: str, started_at: int
    ) -> Recorded:
        real, key = self.real, reached.key
        if not isinstance(outcome, Fail):
            self.complete(reached, StepKind.RUN, output, started_at)
            if self.is_async:
                real.cancel_if_idle()
            return output
        real.recorded[key] = RecordedStep(
            key, reached.branch, StepState.RETRYING, attempts, None, None, _SOME_TIME
        )  # fmt: skip
        yield from self.wait(key, StepFailed(
            real.claim, key, reached.branch, reached.position, attempts, failure, started_at, self.pool.clock(),
            outcome.is_retriable, outcome.retry_after_ms,
        ))  # fmt: skip
        return (yield from self.recorded(reached))

    def _die(self, deaths: int, key: str) -> None:
        if self.pool.deaths[self.real.start.run_id, key] < deaths:
            self.pool.deaths[self.real.start.run_id, key] += 1
            self.worker.note(What.DEATH, self.playing, key)
            raise DiedError


def _caught(play: Play, *, is_caught: bool) -> Play:
    try:
        yield from play
    except StepError:
        if not is_caught:
            raise


def _number(data: dict[str, object]) -> object:
    return data["item"]
