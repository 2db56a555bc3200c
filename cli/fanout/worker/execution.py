"""One execution of one run: what its journal knows, which calls are out, whether it has to leave."""

from __future__ import annotations

import re
import threading
import time
from contextvars import ContextVar
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Protocol

from fanout.codec import encode_output, failure_of
from fanout.errors import NonRetriableError, OutputError, RetryAfterError, StepError, UsageError
from fanout.model import Failure, StepState
from fanout.protocol import (
    RecordedStep,
    RunCompleted,
    RunEvicted,
    RunFailed,
    Start,
    StepCompleted,
    StepFailed,
    StepRunning,
)
from fanout.worker.link import Link

if TYPE_CHECKING:
    import asyncio

MAX_STEP_NAME_CHARS = 256

_calls = count(1)
_inside: ContextVar[tuple[int, str] | None] = ContextVar("fanout_step", default=None)


class Evicted(BaseException):
    """Leaves the user's function at a step's edge; the run comes back later with its recorded steps."""


class Verdict(Enum):
    RECORDED = "recorded"
    GIVE_UP = "give up"
    EVICT = "evict"


class Call(Protocol):
    """A message whose sender may wait for what the engine says to it."""

    def settle(self, verdict: Verdict) -> None: ...


class Desk:
    """What all executions of a worker share: the link, the calls that are out, the steps that are going."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.calls: dict[int, Call] = {}
        self.going: dict[tuple[int, str], tuple[int, int]] = {}
        """(claim, step) -> (position, started_at), until it ends or has been reported."""
        self.executions: dict[int, Execution] = {}

    def report_going(self, older_than_ms: int) -> None:
        """Tell the engine of steps that have been going for a while; each is told once."""
        latest = now_ms() - older_than_ms
        for (claim, key), (position, started_at) in list(self.going.items()):
            if started_at <= latest and self.going.pop((claim, key), None) is not None:
                self.link.put(StepRunning(claim, key, position, started_at))
        self.link.flush()


class Execution:
    """The state of one claim. Steps of one execution may run at the same time, in threads or tasks."""

    def __init__(self, start: Start, desk: Desk) -> None:
        self.start = start
        self.desk = desk
        self.recorded: dict[str, RecordedStep] = {step.key: step for step in start.steps}
        self.is_evicting = False
        self.has_left = False
        """Evicted was raised: whatever the function does about it, this execution has no result."""
        self.executing = 0
        self.unrecorded: list[int] = []
        """Calls whose results may not be durable yet: no other step begins before they are."""
        self.failed: list[int] = []
        self.task: asyncio.Task[None] | None = None
        self._occurrences: dict[str, int] = {}
        self._positions = 0
        # The user's own threads may call steps too.
        self._reaching = threading.Lock()

    def reach(self, name: str) -> tuple[str, int]:
        """The key and position of the step that this call is.

        Raises:
            UsageError: the name is not usable, or the call is inside another step.
        """
        if not isinstance(name, str) or not name or not name.isprintable() or len(name) > MAX_STEP_NAME_CHARS:
            raise UsageError(
                f"a step's name has to be text of 1 to {MAX_STEP_NAME_CHARS} printable characters, not {name!r}"
            )
        inside = _inside.get()
        if inside is not None and inside[0] == self.start.claim:
            raise UsageError(
                f"step `{name}` is inside step `{inside[1]}`",
                hint="call it after that step has returned; a step's own code is one piece of work",
            )
        if "#" in name and re.search(r"#[0-9]+$", name):
            raise UsageError(
                f"the step name `{name}` ends in `#` and a number",
                hint="repeated names are told apart so; leave it out",
            )
        name = str.__str__(name)  # A subclass of str is no message's part.
        with self._reaching:
            occurrence = self._occurrences.get(name, 0) + 1
            self._occurrences[name] = occurrence
            self._positions += 1
            return (name if occurrence == 1 else f"{name}#{occurrence}"), self._positions

    def remembered(self, key: str) -> RecordedStep | None:
        """The step's record, if it completed.

        Raises:
            StepError: the step is out of attempts.
        """
        recorded = self.recorded.get(key)
        if recorded is None or recorded.state is StepState.COMPLETED:
            return recorded
        if recorded.state is StepState.FAILED:
            raise step_error(key, recorded.failure)
        return None

    def begin(self, key: str, position: int) -> StepCall:
        return StepCall(self, key, position)

    def evict(self) -> None:
        """Leave at the next edge. In the loop's thread, if the function is a task."""
        self.is_evicting = True
        if self.task is not None:
            self.cancel_if_idle()
            return
        # Whoever waits, waits no longer: a run that was cancelled is not told any more what was recorded.
        for number in (*self.failed, *self.unrecorded):
            call = self.desk.calls.pop(number, None)
            if call is not None:
                call.settle(Verdict.EVICT)

    def cancel_if_idle(self) -> None:
        """A task leaves by being cancelled, but never in the middle of a step's own code."""
        if self.is_evicting and self.executing == 0 and self.task is not None and not self.has_left:
            self.has_left = True
            self.task.cancel()

    def close(self) -> None:
        """It is over: forget what nobody will wait for any more."""
        self.desk.executions.pop(self.start.claim, None)
        for number in (*self.unrecorded, *self.failed):
            self.desk.calls.pop(number, None)

    # How it ends.

    def completed(self, value: object) -> RunCompleted | RunFailed | RunEvicted:
        if self.has_left:
            return RunEvicted(self.start.claim)
        try:
            return RunCompleted(self.start.claim, encode_output(f"function `{self.start.function}`", value))
        except OutputError as error:
            return RunFailed(self.start.claim, Failure("OutputError", str(error)), False, None)

    def raised(self, error: BaseException) -> RunFailed | RunEvicted:
        if self.has_left:
            return RunEvicted(self.start.claim)
        retriable, retry_after_ms = is_retriable(error)
        if isinstance(error, StepError):
            failure = Failure("StepError", str(error), error.traceback)
        else:
            failure = failure_of(error)
        return RunFailed(self.start.claim, failure, retriable, retry_after_ms)


class StepCall:
    """One attempt of one step, from its first line to its report."""

    __slots__ = ("_execution", "_key", "_position", "_started_at", "_token")

    def __init__(self, execution: Execution, key: str, position: int) -> None:
        self._execution = execution
        self._key = key
        self._position = position
        self._started_at = now_ms()
        self._token = _inside.set((execution.start.claim, key))
        execution.executing += 1
        execution.desk.going[execution.start.claim, key] = (position, self._started_at)

    def leave(self) -> None:
        """The step's own code has ended, whichever way."""
        _inside.reset(self._token)
        execution = self._execution
        execution.desk.going.pop((execution.start.claim, self._key), None)
        execution.executing -= 1

    def _attempts(self) -> int:
        recorded = self._execution.recorded.get(self._key)
        return 1 if recorded is None else recorded.attempts + 1

    def completed(self, output: str, call: Call) -> StepCompleted:
        execution = self._execution
        number = next(_calls)
        execution.desk.calls[number] = call
        execution.unrecorded.append(number)
        return StepCompleted(
            execution.start.claim, number, self._key, self._position, self._attempts(), output,
            self._started_at, now_ms(),
        )  # fmt: skip

    def failed(self, error: BaseException, call: Call) -> StepFailed:
        execution = self._execution
        number = next(_calls)
        execution.desk.calls[number] = call
        execution.failed.append(number)
        retriable, retry_after_ms = is_retriable(error)
        return StepFailed(
            execution.start.claim, number, self._key, self._position, self._attempts(), failure_of(error),
            self._started_at, now_ms(), retriable, retry_after_ms,
        )  # fmt: skip


def is_retriable(error: BaseException) -> tuple[bool, int | None]:
    """Whether another attempt makes sense, and the wait that the code asked for, in milliseconds."""
    if isinstance(error, BaseExceptionGroup):
        answers = [is_retriable(each) for each in error.exceptions]
        waits = [wait for _, wait in answers if wait is not None]
        return any(can for can, _ in answers), max(waits, default=None)
    if isinstance(error, RetryAfterError):
        try:
            return True, error.delay_ms()
        except Exception:  # noqa: BLE001 - boundary: whatever the user gave as a time
            return True, None
    return not isinstance(error, NonRetriableError | OutputError | UsageError | StepError), None


def step_error(name: str, failure: Failure | None) -> StepError:
    if failure is None:
        return StepError(name, "", type="Exception")
    return StepError(name, failure.message, type=failure.type, traceback=failure.traceback)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
