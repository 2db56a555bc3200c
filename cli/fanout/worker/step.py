"""`ctx.step` of plain functions: durable steps in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from fanout.codec import encode_output
from fanout.errors import InvokeError, StepError
from fanout.model import Event, StepKind, StepState
from fanout.protocol import Awaited, SentEvent, Sleep, ToEngine
from fanout.worker import asking, parallel
from fanout.worker.asking import Duration, Events, Moment, OnError, Target
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Evicted, Execution, Reached
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.returns import decoder_of

if TYPE_CHECKING:
    from fanout.worker.signatures import Branch, Function, GivenT, OutputT

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
ItemT = TypeVar("ItemT")


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


class Steps:
    """The steps of a plain function."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(*args, **kwargs)` once and remember its result for ever.

        The value returned is the one that was recorded as JSON, now and at every replay, made into what `fn` is
        annotated to return; a tuple without such an annotation comes back as a list. A step that raises is tried
        again after a while, as the function's `retries` say.

        Raises:
            StepError: the step is out of attempts.
            UsageError: the name is not usable, or this is inside another step.
        """
        execution = self._execution
        reached = execution.reach(name)
        output = self._recorded(reached)
        while output is None:
            self._settle()
            attempt = Attempt(execution, reached)
            try:
                try:
                    value = fn(*args, **kwargs)
                finally:
                    attempt.leave()
                output = encode_output(f"step `{reached.key}`", value)
            except Evicted:
                raise
            except BaseException as error:  # noqa: BLE001 - boundary: the user's code, sys.exit() included
                leave_if_out_of_memory(error)
                self._wait(reached.key, attempt.failed(error))
                output = self._recorded(reached, error)
            else:
                execution.desk.link.post(attempt.completed(output, ThreadWaiter()))
        rebuilt: T = decoder_of(fn)(output)
        return rebuilt

    def sleep(self, name: str, duration: Duration) -> None:
        """Wait for `duration`: seconds, a timedelta, or text such as `1h30m`; up to 366 days. It costs no slot.

        Raises:
            UsageError: the name or the duration is not usable.
        """
        reached = self._execution.reach(name)
        if self._recorded(reached) is None:
            self._sleep(reached, asking.after(f"step `{reached.key}`: the duration", duration, self._now()))

    def sleep_until(self, name: str, when: Moment) -> None:
        """Wait until `when`: a datetime, or text in ISO 8601; local time if it has no zone. A past one is no wait.

        Raises:
            UsageError: the name or the time is not usable.
        """
        reached = self._execution.reach(name)
        if self._recorded(reached) is None:
            self._sleep(reached, asking.at(f"step `{reached.key}`: the time", when, self._now()))

    def wait_for_event(
        self, name: str, *, event: str, timeout: Duration, match: str | None = None, if_: str | None = None
    ) -> Event | None:
        """Wait for an event by this name, at most for `timeout`. It counts if it comes after this wait is recorded.

        Args:
            name: the step's.
            event: the name of the event.
            timeout: as for `sleep`.
            match: a path such as `data.user_id`, at which it has to equal the event that started this run. However
                many runs wait, finding the right ones is one look-up.
            if_: a CEL expression over `event` (which started this run) and `async` (which has come).

        Returns:
            the event, or None if it did not come in time.

        Raises:
            UsageError: the name, the event, the timeout or `match` is not usable.
            ExpressionError: `if_` is not CEL.
        """
        execution = self._execution
        reached = execution.reach(name)
        output = self._recorded(reached)
        if output is None:
            awaited = asking.event_wait(execution, reached.key, event, timeout, match, if_)
            output = self._ask(reached, awaited)
        return asking.awaited_event(output)

    def send_event(self, name: str, events: Events) -> list[str]:
        """Send one event or many, exactly once: they are stored in the transaction that records this step.

        Each is `{"name": ..., "data": {...}}`, with `id`, `ts`, `user` and `v` if they matter.

        Returns:
            their ids, in order.

        Raises:
            EventError: one of them is no event; none was sent.
        """
        reached = self._execution.reach(name)
        output = self._recorded(reached)
        if output is None:
            sent = asking.sent_events(reached.key, events, self._now(), self._execution.desk.schemas)
            output = encode_output(f"step `{reached.key}`", [event.id for event in sent])
            self._done(reached, StepKind.SEND, output, sent)
        return asking.ids(output)

    @overload
    def invoke(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: Duration | None = None,
    ) -> OutputT: ...

    @overload
    def invoke(
        self,
        name: str,
        function: Function[GivenT, OutputT] | str,
        data: GivenT,
        *,
        timeout: Duration | None = None,
    ) -> OutputT: ...

    def invoke(self, name: str, function: Target, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Run another function with this data as its event's, and wait for what it returns.

        Args:
            name: the step's.
            function: a function of fanout's, or the id of one.
            data: the data of its event: a mapping, or what the function's context has as its data.
            timeout: how long to wait, as for `sleep`; the function itself goes on.

        Raises:
            InvokeError: it failed, was cancelled, or took too long.
        """
        reached = self._execution.reach(name)
        output = self._recorded(reached)
        if output is None:
            output = self._ask(reached, asking.invoke(reached.key, function, data, timeout, self._now()))
        return asking.returned(function, output)

    @overload
    def map(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    def map(
        self,
        name: str,
        function: Function[Any, OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: OnError,
    ) -> list[OutputT | InvokeError]: ...

    def map(
        self,
        name: str,
        function: Target,
        items: Iterable[Any],
        *,
        key: Callable[[Any], object] | None = None,
        max_in_flight: int | None = None,
        on_error: OnError = "stop",
    ) -> list[Any]:
        """Run another function once for each item, across all workers, and wait for all that they return.

        An item is the data of its run's event; one that is not an object is in one, as `item`. Items are taken as
        they are needed, so they may come from a generator. When the function is entered again, as many are passed
        over as have become runs already; with a `key`, those whose keys have.

        Args:
            name: the step's.
            function: a function of fanout's, or the id of one.
            items: any number of them.
            key: gives each item a text or number of its own.
            max_in_flight: how many of its runs may be there at a time; 1,000 if left out.
            on_error: `stop`: the first failure fails the step, and cancels the other runs. `collect`: an InvokeError
                is in the place of what failed.

        Returns:
            what the runs returned, in the order of the items.

        Raises:
            InvokeError: an item failed, and `on_error` is `stop`.
        """
        reached = self._execution.reach(name)
        mapped = asking.Mapped(reached.key, function, items, key=key, max_in_flight=max_in_flight, on_error=on_error)
        output = self._recorded(reached)
        if output is None:
            output = self._feed(reached, mapped)
        return mapped.results(output)

    @overload
    def parallel(self, a: Branch[T1], /) -> tuple[T1]: ...

    @overload
    def parallel(self, a: Branch[T1], b: Branch[T2], /) -> tuple[T1, T2]: ...

    @overload
    def parallel(self, a: Branch[T1], b: Branch[T2], c: Branch[T3], /) -> tuple[T1, T2, T3]: ...

    @overload
    def parallel(self, a: Branch[T1], b: Branch[T2], c: Branch[T3], d: Branch[T4], /) -> tuple[T1, T2, T3, T4]: ...

    @overload
    def parallel(
        self, a: Branch[T1], b: Branch[T2], c: Branch[T3], d: Branch[T4], e: Branch[T5], /
    ) -> tuple[T1, T2, T3, T4, T5]: ...

    @overload
    def parallel(self, *branches: Branch[T]) -> tuple[T, ...]: ...

    def parallel(self, *branches: Callable[[], Any]) -> tuple[Any, ...]:
        """Call the branches at the same time, each in a thread, with steps of their own.

        All come to their end, also when one of them raises.

        Returns:
            what they returned, in order.

        Raises:
            BaseException: what the first one that raised has raised.
        """
        return parallel.call(self._execution, branches)

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
