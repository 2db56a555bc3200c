"""One execution of one run: what its journal knows, what it waits for, whether it is parked or has to leave."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from itertools import count
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import msgspec

from fanout.codec import encode_output, failure_of
from fanout.core.causes import item_of, root_cause
from fanout.core.event_schemas import EventSchemas, UnfitError
from fanout.errors import InvokeError, OutputError, StepError, UsageError
from fanout.model import Failure, FunctionSpec, StepKind, StepState
from fanout.protocol import (
    Parked,
    RecordedStep,
    RunCompleted,
    RunEvicted,
    RunFailed,
    Start,
    StepRunning,
    ToEngine,
    Unpark,
)
from fanout.worker import capture
from fanout.worker.branches import branch, fingerprint, inside
from fanout.worker.names import Names
from fanout.worker.retrying import is_retriable

if TYPE_CHECKING:
    import asyncio

    from fanout.worker.event_types import EventTypes
    from fanout.worker.tracing import Tracing

MAX_STEP_NAME_CHARS = 256
MOST_REFUSALS = 10

calls = count(1)


class Evicted(BaseException):
    """Leaves the user's function at a step's edge; the run comes back later with its recorded steps."""


class Waiter(Protocol):
    """A thread or task that waits for what the engine says."""

    def wake(self) -> None: ...


class Sender(Protocol):
    """How executions say something to the engine. Any thread may."""

    def post(self, message: ToEngine) -> None:
        """Send it now."""

    def put(self, message: ToEngine) -> None:
        """Leave it for the next flush."""

    def flush(self) -> None: ...


class Desk:
    """What all executions of a worker share: the link, the clock, the calls that are out, the steps that are going."""

    def __init__(self, link: Sender, clock: Callable[[], int] | None = None) -> None:
        self.link = link
        self.clock: Callable[[], int] = clock or now_ms
        """Milliseconds UTC."""
        self.calls: dict[int, Waiter] = {}
        """Results that may not be durable yet, by the number of the call."""
        self.going: dict[tuple[int, str], StepRunning] = {}
        """Steps by claim and key, until they end or have been reported."""
        self.executions: dict[int, Execution] = {}
        self.tracing: Tracing | None = None
        """Where they are in a trace, if there are traces."""
        self.schemas: EventSchemas = EventSchemas()
        """What this worker's functions say of events."""
        self._reporting = threading.Lock()
        self._flushing: asyncio.AbstractEventLoop | None = None

    def flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush when this loop, which calls it, has run what is ready: what one turn says shares a frame."""
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self.link.flush()

    def report_going(self, older_than_ms: int) -> None:
        """Tell the engine of steps that have been going for a while; each is told once."""
        latest = self.clock() - older_than_ms
        for where, step in list(self.going.items()):
            if step.started_at <= latest:
                with self._reporting:
                    if self.going.pop(where, None) is not None:
                        self.link.put(step)
        self.link.flush()

    def has_ended(self, claim: int, key: str) -> None:
        """A step has: whatever is said of it after this call is said after the report that it was going."""
        if self.going.pop((claim, key), None) is None:
            with self._reporting:
                pass


class Reached(msgspec.Struct, frozen=True):
    """The step that a call is."""

    key: str
    branch: str
    position: int


class Execution:
    """The state of one claim. Steps of one execution may run at the same time, in threads or tasks."""

    def __init__(self, start: Start, desk: Desk, spec: FunctionSpec, code: CodeType | None) -> None:
        self.start = start
        self.claim: int = start.claim
        self.desk = desk
        self.spec = spec
        self.recorded: dict[str, RecordedStep] = {step.key: step for step in start.steps}
        self.event_types: EventTypes | None = None
        """What the function has for the data of its events, if that is more than JSON."""
        self.is_evicting: bool = False
        self.has_left: bool = False
        """Evicted was raised: whatever the function does about it, this execution has no result."""
        self.is_left_behind: bool = False
        """The engine was told that it has left, though its code goes on."""
        self.is_parked: bool = False
        """All of it waits, and the engine has been told: no step begins before it says so."""
        self.executing = 0
        """Steps whose own code is running."""
        self.busy = 0 if spec.is_async else 1
        """Threads that don't wait, of a plain function. Of tasks only those that wait for an acknowledgement count:
        nobody can know what else they wait for."""
        self.unrecorded: list[int] = []
        """Calls whose results may not be durable yet: no other step begins before they are."""
        self.waiting: dict[str, tuple[Waiter, bool]] = {}
        """By step: who waits, and whether that is one of the threads that count as busy."""
        self.grants: list[Waiter] = []
        """Who wants a slot again."""
        self.task: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        """Those that the function has started."""
        self.stirs: int = 0
        """How often one of them has begun, ended, been woken or come to a step."""
        self.timers: WeakSet[asyncio.TimerHandle] = WeakSet()
        self.threads = 0
        """What they may wait for between steps."""
        self.is_watched = False
        """Somebody looks whether they all wait; if there is an `alarm`, then."""
        self.alarm: asyncio.TimerHandle | None = None
        self.lock: threading.RLock = threading.RLock()
        self._code = code
        self._names = Names(start.steps)
        self._positions = 0

    # Which step a call is.

    def reach(self, name: str) -> Reached:
        """The step that this call is.

        Raises:
            UsageError: the name is not usable, or the call is inside another step.
        """
        if not isinstance(name, str) or not name or not name.isprintable() or len(name) > MAX_STEP_NAME_CHARS:
            raise UsageError(
                f"a step's name has to be text of 1 to {MAX_STEP_NAME_CHARS} printable characters, not {name!r}"
            )
        self.refuse_inside(f"step `{name}`")
        if "#" in name and re.search(r"#[0-9]+$", name):
            raise UsageError(
                f"the step name `{name}` ends in `#` and a number",
                hint="repeated names are told apart so; leave it out",
            )
        name = str.__str__(name)  # A subclass of str is no message's part.
        here = branch.get()
        path = here.path if here is not None and here.execution is self else ""
        name_of_branch = f"{fingerprint(self._code)}:{path}" if path else ""
        with self.lock:
            self.stirs += 1
            self._positions += 1
            return Reached(self._names.take(name, name_of_branch), name_of_branch, self._positions)

    def refuse_inside(self, what: str) -> None:
        there = inside.get()
        if there is not None and there.claim == self.claim:
            raise UsageError(
                f"{what} is inside step `{there.key}`",
                hint="call it after that step has returned; a step's own code is one piece of work",
            )

    def remembered(self, key: str) -> RecordedStep | None:
        """What is recorded of the step, if anything.

        Raises:
            StepError: it has failed, and there is no other attempt.
        """
        recorded = self.recorded.get(key)
        if recorded is not None and recorded.state is StepState.FAILED:
            raise step_error(recorded)
        return recorded

    # Waiting. The lock is held for each, but not while somebody waits.

    def begin_wait(self, key: str, waiter: Waiter, message: ToEngine | None = None) -> bool:
        """Put the waiter where a change of this step finds it, and send the message. False if it is not to wait."""
        with self.lock:
            if message is not None:
                self.desk.link.put(message)
            elif not self.recorded[key].is_open:
                return False
            if self.is_evicting:
                return False
            is_own = self._is_own_thread()
            self.waiting[key] = waiter, is_own
            self.busy -= is_own
            return True

    def _is_own_thread(self) -> bool:
        """Whether this is a thread of ours; one that the user's code has started does not count."""
        here = branch.get()
        return not self.spec.is_async and here is not None and here.execution is self

    def end_wait(self, key: str) -> None:
        """The waiter was cancelled, and won't be there."""
        with self.lock:
            self.waiting.pop(key, None)

    def changed(self, step: RecordedStep) -> None:
        """The journal has something new on a step."""
        with self.lock:
            self.recorded[step.key] = step
            waiter, is_own = self.waiting.pop(step.key, (None, False))
            if waiter is not None:
                self.stirs += 1
                self.is_parked = False
                self.busy += is_own
                waiter.wake()

    def resumed(self) -> None:
        """It has a slot again."""
        with self.lock:
            self.stirs += 1
            self.is_parked = False
            for waiter in self.grants:
                waiter.wake()
            self.grants.clear()

    def wants_slot(self, waiter: Waiter) -> bool:
        """Ask for a slot if it is parked; the waiter is woken when it has one."""
        with self.lock:
            if not self.is_parked or self.is_evicting:
                return False
            self.grants.append(waiter)
            if len(self.grants) == 1:
                self.desk.link.put(Unpark(self.claim))
            return True

    def rest(self) -> None:
        """Tell the engine if nothing of it does anything but wait."""
        with self.lock:
            if self.may_rest():
                self.is_parked = True
                self.desk.link.put(Parked(self.claim, tuple(self.waiting)))

    def may_rest(self) -> bool:
        """Whether nothing of it is known to do anything but wait, and the engine has not been told."""
        is_idle = self.waiting and not self.executing and not self.busy
        return bool(is_idle and not self.is_parked and not self.is_evicting)

    def next_timer(self) -> float | None:
        """When code between its steps goes on by itself, in the loop's time; a late loop may not have come to it."""
        return min((timer.when() for timer in self.timers if not timer.cancelled()), default=None)

    # Leaving.

    def evict(self) -> None:
        """Leave at the next edge. In the loop's thread, if the function is a task."""
        with self.lock:
            self.is_evicting = True
            if self.task is not None:
                self.cancel_if_idle()
                return
            # Whoever waits, waits no longer: a run that was cancelled is not told any more what was recorded.
            waiters = [*(waiter for waiter, _ in self.waiting.values()), *self.grants]
            waiters += [call for number in self.unrecorded if (call := self.desk.calls.pop(number, None)) is not None]
            self.waiting.clear()
            self.grants.clear()
        for waiter in waiters:
            waiter.wake()

    def cancel_if_idle(self) -> None:
        """A task leaves by being cancelled, but never in the middle of a step's own code."""
        if self.is_evicting and self.executing == 0 and self.task is not None and not self.has_left:
            self.has_left = True
            self.task.cancel()

    def is_stuck(self) -> bool:
        """Whether this branch was made to leave so often, and has caught it each time, that it will go on doing so.

        To the engine it has left then; whoever hears that it is stuck must not let it go on.
        """
        here = branch.get()
        if here is None or here.execution is not self:
            return False
        here.refusals += 1
        if here.refusals < MOST_REFUSALS:
            return False
        with self.lock:
            is_first, self.is_left_behind = not self.is_left_behind, True
        if is_first:
            self.close()
            self.desk.link.post(RunEvicted(self.claim))
        return True

    def close(self) -> None:
        """It is over: forget what nobody will wait for any more."""
        if capture.unfinished:
            capture.finish(self)
        self.desk.executions.pop(self.claim, None)
        for number in self.unrecorded:
            self.desk.calls.pop(number, None)
        for task in tuple(self.tasks):
            task.cancel()
        if self.alarm is not None:
            self.alarm.cancel()

    # How it ends.

    def completed(self, value: object) -> RunCompleted | RunFailed | RunEvicted:
        if self.has_left:
            return RunEvicted(self.claim)
        try:
            output = encode_output(f"function `{self.start.function}`", value)
        except OutputError as error:
            return RunFailed(self.claim, Failure("OutputError", str(error)), False, None)
        return RunCompleted(self.claim, output, self._names.unreached())

    def raised(self, error: BaseException) -> RunFailed | RunEvicted:
        if self.has_left:
            return RunEvicted(self.claim)
        retriable, retry_after_ms = is_retriable(error, self.desk.clock())
        if isinstance(error, StepError):
            failure = Failure(type(error).__name__, str(error), error.traceback)
        elif isinstance(error, UnfitError):
            failure = Failure("EventError", error.message)
        else:
            failure = failure_of(error)
        return RunFailed(self.claim, failure, retriable, retry_after_ms)

    def event(self) -> dict[str, Any]:
        """The event that started the run, as plain data."""
        id_, name, ts, data, user, v = self.start.event
        decode: Callable[[str], Any] = msgspec.json.decode
        said = {"id": id_, "name": name, "ts": ts, "data": decode(data)}
        return {**said, **({} if user is None else {"user": decode(user)}), **({} if v is None else {"v": v})}


def step_error(step: RecordedStep) -> StepError:
    failure = step.failure or Failure("Exception", "")
    if step.kind in (StepKind.INVOKE, StepKind.MAP):
        return invoke_error(step.key, failure, item_of(failure) if step.kind is StepKind.MAP else None)
    return StepError(step.key, failure.message, type=failure.type, traceback=failure.traceback)


def invoke_error(step: str, failure: Failure, item: int | None = None) -> InvokeError:
    """Why a child failed, and not which of its steps has told so."""
    cause = root_cause(failure)
    return InvokeError(step, cause.message, type=cause.type, traceback=cause.traceback, item=item)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
