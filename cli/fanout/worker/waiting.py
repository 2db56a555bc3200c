"""What the steps of plain functions have in common: what is recorded of them, waiting for more, and leaving."""

from __future__ import annotations

import threading
from contextlib import suppress

from fanout.errors import StepError
from fanout.model import StepKind, StepState
from fanout.protocol import Awaited, SentEvent, Sleep, ToEngine
from fanout.worker import asking
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Evicted, Execution, Reached


class ThreadWaiter:
    """A thread that waits, or several for the same thing."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        with self._lock:  # given back at once: several threads may wait for one call
            pass


class Waiting:
    """Of the steps of one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def _now(self) -> int:
        return self._execution.desk.clock()

    # What is known of a step, and what is asked.

    def _recorded(self, reached: Reached, cause: BaseException | None = None) -> str | None:
        """The step's output; None if it is to be executed or asked for now. What waits is waited for.

        Raises:
            StepError: it has failed, for good; from `cause`, if it has just been executed.
        """
        execution = self._execution
        if execution.has_left:
            self._leave_again()
        while True:
            try:
                recorded = execution.remembered(reached.key)
            except StepError as error:
                raise error from cause
            if recorded is None or recorded.progress is not None:
                return None
            if recorded.state is StepState.COMPLETED:
                return recorded.output or "null"
            if not recorded.is_open:
                return None
            self._wait(reached.key)

    def _sleep(self, reached: Reached, due_at: int) -> None:
        if due_at > self._now():
            self._ask(reached, Sleep(due_at))
        else:
            self._done(reached, StepKind.SLEEP, "null")

    def _ask(self, reached: Reached, awaited: Awaited) -> str:
        """Let the engine have the step, and wait for its output."""
        self._wait(reached.key, asking.waits(self._execution, reached, awaited))
        return self._recorded(reached) or "null"

    def _feed(self, reached: Reached, mapped: asking.Mapped) -> str:
        """Give the engine items as long as it has room for them, and wait for the output."""
        execution, key = self._execution, reached.key
        known = execution.recorded.get(key)
        if known is None or known.progress is None:
            room = mapped.request.max_in_flight
            execution.desk.link.post(asking.waits(execution, reached, mapped.request))
        else:
            taken, room = known.progress
            mapped.skip(taken)
        while True:
            items = mapped.next_items(execution.claim, room) if room > 0 else None
            self._wait(key, items)
            output = self._recorded(reached)
            if output is not None:
                return output
            room = asking.room(execution.recorded[key])

    def _done(self, reached: Reached, kind: StepKind, output: str, events: tuple[SentEvent, ...] = ()) -> None:
        """A step whose whole work is to be recorded."""
        self._settle()
        attempt = Attempt(self._execution, reached, kind)
        attempt.leave()
        self._execution.desk.link.post(attempt.completed(output, ThreadWaiter(), events))

    # Waiting and leaving.

    def _wait(self, key: str, message: ToEngine | None = None) -> None:
        """Until the journal has something new on this step."""
        execution = self._execution
        waiter = ThreadWaiter()
        if execution.begin_wait(key, waiter, message):
            execution.rest()
            execution.desk.link.flush()
            waiter.wait()
        else:
            execution.desk.link.flush()
        self._leave_if_evicted()

    def _settle(self) -> None:
        """A step begins only when all before it are durable, with a slot, and not when the execution has to leave."""
        execution = self._execution
        for number in tuple(execution.unrecorded):
            if execution.is_evicting:
                break
            # It stays in the list while this waits, so that an eviction finds it.
            call = execution.desk.calls.get(number)
            if isinstance(call, ThreadWaiter):
                call.wait()
            with suppress(ValueError):
                execution.unrecorded.remove(number)
        if execution.is_parked:
            waiter = ThreadWaiter()
            if execution.wants_slot(waiter):
                execution.desk.link.flush()
                waiter.wait()
        self._leave_if_evicted()

    def _leave_if_evicted(self) -> None:
        if self._execution.is_evicting:
            self._execution.has_left = True
            raise Evicted

    def _leave_again(self) -> None:
        """The code has caught what makes it leave."""
        if self._execution.is_stuck():
            threading.Event().wait()  # for ever: it would only come back
        raise Evicted
