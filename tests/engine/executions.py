"""Executions without threads and tasks: the bookkeeping is the worker's own (worker/execution.py, names.py, asking.py).

What a thread or task does between its waits (worker/step.py, async_step.py, parallel.py) is a generator here, which
yields milliseconds to pass, or a waiter.
"""

from __future__ import annotations

import json
from asyncio import CancelledError
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from fanout import protocol
from fanout.core.paths import value_at
from fanout.engine.loop import NOTE_AFTER_MS
from fanout.errors import StepError
from fanout.model import Failure, StepKind, StepState
from fanout.protocol import (
    Awaited,
    EventWait,
    RecordedStep,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    Start,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToEngine,
)
from fanout.worker.asking import Mapped, room
from fanout.worker.branches import Branch, branch
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
    Script,
    Send,
    Silent,
    Sleep,
    Step,
    What,
    nth,
)

if TYPE_CHECKING:
    import asyncio

    from tests.engine.workers import SimPool, SimWorker

_SOME_TIME = 2**62


class Waiter:
    """As ThreadWaiter and TaskWaiter: several may wait for it, and it is woken once."""

    def __init__(self) -> None:
        self.is_woken = False
        self.waiting: list[tuple[Strand, int]] = []

    def wake(self) -> None:
        assert not self.is_woken, "a thread's waiter is woken once"
        self.is_woken = True
        for strand, turn in self.waiting:
            if strand.turn == turn:
                strand.go_on()


class _DiedError(Exception):
    """The worker dies of this code."""


class _BrokenError(Exception):
    """The code between steps raised."""

    def __init__(self, fail: Fail) -> None:
        super().__init__("the body broke")
        self.fail = fail


class _Loop:
    """As much of an event loop as it takes to look whether all of an execution waits."""

    def __init__(self, playing: Playing) -> None:
        self._playing = playing

    def time(self) -> float:
        return self._playing.worker.pool.clock() / 1000

    def call_soon(self, do: Callable[..., None], *arguments: object) -> None:
        self._playing.later(0, partial(do, *arguments))

    def call_at(self, when: float, do: Callable[..., None], *arguments: object) -> Timer:
        self._playing.later(round((when - self.time()) * 1000), partial(do, *arguments))
        return Timer(when)


class Timer:
    """What code between the steps of a task waits for."""

    def __init__(self, when: float) -> None:
        self._when = when

    def when(self) -> float:
        return self._when

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        """To look once more does no harm."""


class _Task:
    """What an execution knows of its task."""

    def __init__(self, strand: Strand) -> None:
        self._strand = strand

    def cancel(self) -> None:
        self._strand.cancel()

    def get_loop(self) -> _Loop:
        return _Loop(self._strand.playing)


class _Join:
    """Branches, until the last of them has ended."""

    def __init__(self, strands: list[Strand]) -> None:
        self.strands = strands
        self.waiter = Waiter()
        self.is_cancelled = False

    def has_ended(self) -> bool:
        return all(each.is_over for each in self.strands)


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
        self.root = Strand(self, made.script, Branch(self.real))
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
        elif isinstance(error, _BrokenError) and not self.real.has_left:
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


Play = Generator["int | Waiter", None, None]
Recorded = Generator["int | Waiter", None, str | None]


class Strand:
    """A thread, or a task."""

    def __init__(self, playing: Playing, script: Script, here: Branch, parent: Strand | None = None) -> None:
        self.playing = playing
        self.real = playing.real
        self.worker: SimWorker = playing.worker
        self.pool: SimPool = playing.worker.pool
        self.is_async = playing.is_async
        self.script = script
        self.here = here
        self.parent = parent
        self.join: _Join | None = None
        self.turn = 0
        self.is_over = False
        self.is_busy = True
        """It does something, or waits for the disk or for a slot."""
        self.error: BaseException | None = None
        self._must_cancel = False
        self._is_new = True
        self._play = self._play_script()

    def family(self) -> list[Strand]:
        below = [] if self.join is None else self.join.strands
        return [self, *(each for strand in below for each in strand.family())]

    # Turns.

    def go_on(self, ms: int = 0) -> None:
        """A thread may get its turn late; tasks have theirs in order."""
        self.turn += 1
        if not self.is_async:
            ms += self.pool.lag()
        self.is_busy = True
        self.pool.later(ms, self.worker.number, partial(self._take_turn, self.turn))

    def cancel(self) -> None:
        """As Task.cancel(): raised where it waits; a gather first ends its tasks."""
        if self.join is not None and not self.join.has_ended():
            self.join.is_cancelled = True
            for each in self.join.strands:
                if not each.is_over:
                    each.cancel()
        else:
            self._must_cancel = True
            self.go_on()

    def _take_turn(self, turn: int) -> None:
        if turn != self.turn or self.is_over:
            return
        token = branch.set(self.here)
        try:
            wait = self._next()
        except _DiedError:
            self.pool.lose(self.worker.number)
        except StopIteration:
            self._end(None)
        except (_BrokenError, StepError, CancelledError, Evicted) as error:
            self._end(error)
        else:
            self._suspend(wait)
        finally:
            branch.reset(token)

    def _next(self) -> int | Waiter:
        if self.is_async and self._is_new and self.parent is None:
            self.real.task = cast("asyncio.Task[None]", _Task(self))
            self.real.cancel_if_idle()
        elif self._must_cancel:
            self._must_cancel = False
            return self._play.throw(CancelledError())
        self._is_new = False
        return next(self._play)

    def _suspend(self, wait: int | Waiter) -> None:
        if self._must_cancel:
            self.go_on()
        elif isinstance(wait, int):
            self.go_on(wait)
        elif wait.is_woken:
            self.go_on()
        else:
            self.is_busy = wait not in [each for each, _ in self.real.waiting.values()] and (
                self.join is None or wait is not self.join.waiter
            )
            self.turn += 1
            wait.waiting.append((self, self.turn))

    def _end(self, error: BaseException | None) -> None:
        self.is_over = True
        self.error = error
        parent = self.parent
        if parent is None:
            self.playing.end(error)
            return
        assert parent.join is not None
        has_ended = parent.join.has_ended()
        if not self.is_async:
            self.real.busy += has_ended - 1
        if has_ended:
            parent.join.waiter.wake()
        if not self.is_async:
            self.real.rest()
        else:
            self.real.stirs += 1

    # The parts of a script.

    def _play_script(self) -> Play:  # noqa: C901, PLR0912 - one case a part
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
                        raise _BrokenError(outcome)
                case Silent():
                    yield FOREVER
                case Obey():
                    orders = json.loads(self.playing.start.event[3])
                    yield from self._spend(orders.get("takes_ms", 0))
                    if orders.get("is_failing"):
                        raise _BrokenError(Fail(is_retriable=False))
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
        timer = Timer((self.pool.clock() + ms) / 1000)
        if self.is_async and not is_hidden:
            self.real.timers.add(cast("asyncio.TimerHandle", timer))
        yield ms
        self.real.timers.discard(cast("asyncio.TimerHandle", timer))

    def _sleep(self, part: Sleep) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self._recorded(reached)) is None:
            if part.ms > 0:
                yield from self._ask(reached, protocol.Sleep(self.pool.clock() + part.ms))
            else:
                yield from self._done(reached, StepKind.SLEEP, "null")

    def _await(self, part: Await) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self._recorded(reached)) is None:
            match = None if part.match is None else (part.match, value_at(self.real.event(), part.match) or "")
            yield from self._ask(reached, EventWait(part.event, self.pool.clock() + part.timeout_ms, match, part.if_))

    def _send(self, part: Send) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self._recorded(reached)) is None:
            sent = tuple(
                SentEvent(
                    each.id or f"sent-{next(self.pool.serials)}", each.id is not None, each.name, each.ts, each.data,
                    each.user, each.v,
                )
                for each in part.events
            )  # fmt: skip
            yield from self._done(reached, StepKind.SEND, json.dumps([each.id for each in sent]), sent)

    def _invoke(self, part: Invoke) -> Play:
        reached = self.real.reach(part.name)
        if (yield from self._recorded(reached)) is None:
            due_at = None if part.timeout_ms is None else self.pool.clock() + part.timeout_ms
            yield from self._ask(reached, protocol.Invoke(part.function, part.data, due_at))

    def _map(self, part: Map) -> Play:
        real = self.real
        reached = real.reach(part.name)
        key = reached.key
        mapped = Mapped(
            key, part.function, [each.as_data() for each in part.items], key=_number if part.has_keys else None,
            max_in_flight=part.max_in_flight, on_error="collect" if part.is_collecting else "stop",
        )  # fmt: skip
        if (yield from self._recorded(reached)) is not None:
            return
        known = real.recorded.get(key)
        if known is None or known.progress is None:
            free = part.max_in_flight
            self._say_waits(reached, mapped.request)
        else:
            taken, free = known.progress
            mapped.skip(taken)
        while True:
            items = mapped.next_items(real.claim, free) if free > 0 else None
            if items is not None and part.item_ms:
                yield from self._spend(part.item_ms * len(items.items))
            yield from self._wait(key, items)
            if (yield from self._recorded(reached)) is not None:
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
        join = _Join([Strand(self.playing, each, fork, self) for each, fork in zip(part.branches, forks, strict=True)])
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
        output = yield from self._recorded(reached)
        while output is None:
            yield from self._settle()
            output = yield from self._attempt(step, reached)

    def _attempt(self, step: Step, reached: Reached) -> Recorded:
        real, pool, key = self.real, self.pool, reached.key
        started_at, attempts = pool.clock(), self._attempts(key)
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
            self._complete(reached, StepKind.RUN, output, started_at)
            if self.is_async:
                real.cancel_if_idle()
            return output
        real.recorded[key] = RecordedStep(
            key, reached.branch, StepState.RETRYING, attempts, None, None, _SOME_TIME
        )  # fmt: skip
        yield from self._wait(key, StepFailed(
            real.claim, key, reached.branch, reached.position, attempts, failure, started_at, self.pool.clock(),
            outcome.is_retriable, outcome.retry_after_ms,
        ))  # fmt: skip
        return (yield from self._recorded(reached))

    def _attempts(self, key: str) -> int:
        recorded = self.real.recorded.get(key)
        return 1 if recorded is None else recorded.attempts + 1

    def _complete(
        self, reached: Reached, kind: StepKind, output: str, started_at: int, events: tuple[SentEvent, ...] = ()
    ) -> None:
        number = next(self.pool.calls)
        self.worker.call(number, self.playing, reached.key, output, Waiter())
        self.real.unrecorded.append(number)
        self.worker.post(StepCompleted(
            self.real.claim, number, reached.key, reached.branch, reached.position, self._attempts(reached.key),
            output, started_at, self.pool.clock(), kind, events,
        ))  # fmt: skip

    def _die(self, deaths: int, key: str) -> None:
        if self.pool.deaths[self.real.start.run_id, key] < deaths:
            self.pool.deaths[self.real.start.run_id, key] += 1
            self.worker.note(What.DEATH, self.playing, key)
            raise _DiedError

    # As Steps and AsyncSteps.

    def _recorded(self, reached: Reached) -> Recorded:
        if self.real.has_left:
            raise CancelledError if self.is_async else Evicted
        while True:
            recorded = self.real.remembered(reached.key)
            if recorded is None or recorded.progress is not None:
                return None
            if recorded.state is StepState.COMPLETED:
                return recorded.output or "null"
            if not recorded.is_open:
                return None
            yield from self._wait(reached.key)

    def _ask(self, reached: Reached, awaited: Awaited) -> Play:
        yield from self._wait(reached.key, self._waits(reached, awaited))
        yield from self._recorded(reached)

    def _waits(self, reached: Reached, awaited: Awaited) -> StepWaits:
        now = self.pool.clock()
        return StepWaits(self.real.claim, reached.key, reached.branch, reached.position, now, awaited)

    def _say_waits(self, reached: Reached, awaited: Awaited) -> None:
        self.worker.post(self._waits(reached, awaited))

    def _done(self, reached: Reached, kind: StepKind, output: str, events: tuple[SentEvent, ...] = ()) -> Play:
        yield from self._settle()
        self._complete(reached, kind, output, self.pool.clock(), events)

    def _wait(self, key: str, message: ToEngine | None = None) -> Play:
        real, waiter = self.real, Waiter()
        is_waiting = real.begin_wait(key, waiter, message)
        if not self.is_async:
            if is_waiting:
                real.rest()
                yield waiter
        else:
            real.cancel_if_idle()
            if is_waiting:
                rest_soon(real)
                try:
                    yield waiter
                except CancelledError:
                    real.end_wait(key)
                    rest_soon(real)
                    raise
        yield from self._leave_if_evicted()

    def _settle(self) -> Play:
        real = self.real
        real.busy += self.is_async
        try:
            for number in tuple(real.unrecorded):
                if real.is_evicting and not self.is_async:
                    break
                call = real.desk.calls.get(number)
                if isinstance(call, Waiter):
                    yield call
                if number in real.unrecorded:
                    real.unrecorded.remove(number)
            waiter = Waiter()
            if real.wants_slot(waiter):
                yield waiter
        finally:
            if self.is_async:
                real.busy -= 1
                rest_soon(real)
        yield from self._leave_if_evicted()

    def _leave_if_evicted(self) -> Play:
        real = self.real
        if not real.is_evicting:
            return
        if not self.is_async:
            real.has_left = True
            raise Evicted
        if real.has_left:
            raise CancelledError
        yield Waiter()


def _caught(play: Play, *, is_caught: bool) -> Play:
    try:
        yield from play
    except StepError:
        if not is_caught:
            raise


def _number(data: dict[str, object]) -> object:
    return data["item"]
