"""One attempt of one step, from its first line to its report."""

from __future__ import annotations

from fanout.codec import failure_of
from fanout.model import StepKind, StepState
from fanout.protocol import RecordedStep, SentEvent, StepCompleted, StepFailed, StepRunning
from fanout.worker import capture
from fanout.worker.branches import Inside, inside
from fanout.worker.execution import Execution, Reached, Waiter, calls
from fanout.worker.retrying import is_retriable

_SOME_TIME = 2**62


class Attempt:
    __slots__ = ("_execution", "_kind", "_reached", "_started_at", "_token", "_traced")

    def __init__(self, execution: Execution, reached: Reached, kind: StepKind = StepKind.RUN) -> None:
        self._execution = execution
        self._reached = reached
        self._kind = kind
        self._started_at = execution.desk.clock()
        self._token = inside.set(Inside(execution.claim, reached.key))
        tracing = execution.desk.tracing
        self._traced = None if tracing is None else tracing.enter(execution.start, reached.key, self._attempts() - 1)
        with execution.lock:
            execution.executing += 1
        running = StepRunning(execution.claim, reached.key, reached.branch, reached.position, self._started_at)
        if execution.spec.timeouts.step_ms is None:
            execution.desk.going[execution.claim, reached.key] = running
        else:
            execution.desk.link.post(running)  # The engine has to know when it began, whatever the code then does.

    def leave(self) -> None:
        """The step's own code has ended, whichever way."""
        inside.reset(self._token)
        execution = self._execution
        if self._traced is not None and execution.desk.tracing is not None:
            execution.desk.tracing.leave(self._traced)
        if capture.unfinished:
            capture.finish(execution, self._reached.key)
        execution.desk.has_ended(execution.claim, self._reached.key)
        with execution.lock:
            execution.executing -= 1

    def _attempts(self) -> int:
        recorded = self._execution.recorded.get(self._reached.key)
        return 1 if recorded is None else recorded.attempts + 1

    def completed(self, output: str, call: Waiter, events: tuple[SentEvent, ...] = ()) -> StepCompleted:
        execution, reached = self._execution, self._reached
        number = next(calls)
        if events and execution.desk.tracing is not None:
            events = execution.desk.tracing.sent(execution.start, reached.key, self._attempts() - 1, events)
        execution.desk.calls[number] = call
        execution.unrecorded.append(number)
        return StepCompleted(
            execution.claim, number, reached.key, reached.branch, reached.position, self._attempts(), output,
            self._started_at, execution.desk.clock(), self._kind, events,
        )  # fmt: skip

    def failed(self, error: BaseException) -> StepFailed:
        """From here on the step waits for what the engine says: another attempt at some time, or none."""
        execution, reached = self._execution, self._reached
        attempts = self._attempts()
        now = execution.desk.clock()
        retriable, retry_after_ms = is_retriable(error, now)
        execution.recorded[reached.key] = RecordedStep(
            reached.key, reached.branch, StepState.RETRYING, attempts, None, None, _SOME_TIME
        )
        return StepFailed(
            execution.claim, reached.key, reached.branch, reached.position, attempts, failure_of(error),
            self._started_at, now, retriable, retry_after_ms, self._kind,
        )  # fmt: skip
