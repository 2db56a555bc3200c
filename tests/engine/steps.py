"""What a thread or task does when its code comes to a step, as worker/step.py and async_step.py do it.

The bookkeeping is the worker's own (worker/execution.py, names.py, resting.py).
"""

from __future__ import annotations

from asyncio import CancelledError

from fanout.model import StepKind, StepState
from fanout.protocol import Awaited, SentEvent, StepCompleted, StepWaits, ToEngine
from fanout.worker.execution import Evicted, Reached
from fanout.worker.resting import rest_soon
from tests.engine.strands import Play, Recorded, Strand, Waiter


class SteppingStrand(Strand):
    """As Steps and AsyncSteps."""

    def attempts(self, key: str) -> int:
        recorded = self.real.recorded.get(key)
        return 1 if recorded is None else recorded.attempts + 1

    def complete(
        self, reached: Reached, kind: StepKind, output: str, started_at: int, events: tuple[SentEvent, ...] = ()
    ) -> None:
        number = next(self.pool.calls)
        self.worker.call(number, self.playing, reached.key, output, Waiter())
        self.real.unrecorded.append(number)
        self.worker.post(StepCompleted(
            self.real.claim, number, reached.key, reached.branch, reached.position, self.attempts(reached.key),
            output, started_at, self.pool.clock(), kind, events,
        ))  # fmt: skip

    def recorded(self, reached: Reached) -> Recorded:
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
            yield from self.wait(reached.key)

    def ask(self, reached: Reached, awaited: Awaited) -> Play:
        yield from self.wait(reached.key, self.waits(reached, awaited))
        yield from self.recorded(reached)

    def waits(self, reached: Reached, awaited: Awaited) -> StepWaits:
        now = self.pool.clock()
        return StepWaits(self.real.claim, reached.key, reached.branch, reached.position, now, awaited)

    def say_waits(self, reached: Reached, awaited: Awaited) -> None:
        self.worker.post(self.waits(reached, awaited))

    def done(self, reached: Reached, kind: StepKind, output: str, events: tuple[SentEvent, ...] = ()) -> Play:
        yield from self.settle()
        self.complete(reached, kind, output, self.pool.clock(), events)

    def wait(self, key: str, message: ToEngine | None = None) -> Play:
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
        yield from self.leave_if_evicted()

    def settle(self) -> Play:
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
        yield from self.leave_if_evicted()

    def leave_if_evicted(self) -> Play:
        real = self.real
        if not real.is_evicting:
            return
        if not self.is_async:
            real.has_left = True
            raise Evicted
        if real.has_left:
            raise CancelledError
        yield Waiter()
