"""`ctx.step` of plain functions: durable steps in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from fanout.codec import encode_output
from fanout.errors import InvokeError
from fanout.model import Event, Sendable, StepKind
from fanout.worker import asking, parallel
from fanout.worker.asking import Duration, Moment, OnError, Target
from fanout.worker.attempt import Attempt
from fanout.worker.execution import Evicted
from fanout.worker.memory import leave_if_out_of_memory
from fanout.worker.returns import decoder_of
from fanout.worker.waiting import ThreadWaiter, Waiting

if TYPE_CHECKING:
    from fanout.worker.signatures import Branch, Function, GivenT, KeysT, LooseT, OutputT, Shape

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
ItemT = TypeVar("ItemT")


class Steps(Waiting):
    """The steps of a plain function. What a call gives is recorded; it is never done again."""

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

    def send_event(self, name: str, events: Sendable | Sequence[Sendable]) -> list[str]:
        """Send one event or many, exactly once: they are stored in the transaction that records this step.

        Each is `{"name": ..., "data": {...}}`, with `id`, `ts`, `user` and `v` if they matter.

        Returns:
            their ids, in order.

        Raises:
            EventError: one of them is no event, or does not fit a function that it would start; none was sent.
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
        function: Function[dict[str, Any], OutputT] | str,
        data: Shape | None = None,
        *,
        timeout: Duration | None = None,
    ) -> OutputT: ...

    @overload
    def invoke(
        self,
        name: str,
        function: Function[GivenT, OutputT],
        data: GivenT,
        *,
        timeout: Duration | None = None,
    ) -> OutputT: ...

    @overload
    def invoke(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        data: dict[str, Any],
        *,
        timeout: Duration | None = None,
    ) -> OutputT: ...

    def invoke(self, name: str, function: Target, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Run another function with this data as its event's, and wait for what it returns.

        Args:
            name: the step's.
            function: a function of fanout's, plain or async, or the id of one.
            data: the data of its event, as its context is annotated: a mapping, a dataclass, a Struct or a model.
            timeout: how long to wait, as for `sleep`; the function itself goes on.

        Returns:
            what it returned, in the type that it is annotated to return; of an id, as JSON values.

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
        function: Function[dict[str, Any], OutputT] | str,
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
        function: Function[GivenT, OutputT],
        items: Iterable[GivenT],
        *,
        key: Callable[[GivenT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    def map(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        items: Iterable[LooseT],
        *,
        key: Callable[[LooseT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["stop"] = "stop",
    ) -> list[OutputT]: ...

    @overload
    def map(
        self,
        name: str,
        function: Function[dict[str, Any], OutputT] | str,
        items: Iterable[ItemT],
        *,
        key: Callable[[ItemT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
    ) -> list[OutputT | InvokeError]: ...

    @overload
    def map(
        self,
        name: str,
        function: Function[GivenT, OutputT],
        items: Iterable[GivenT],
        *,
        key: Callable[[GivenT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
    ) -> list[OutputT | InvokeError]: ...

    @overload
    def map(
        self,
        name: str,
        function: Function[KeysT, OutputT],
        items: Iterable[LooseT],
        *,
        key: Callable[[LooseT], object] | None = None,
        max_in_flight: int | None = None,
        on_error: Literal["collect"],
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
            function: a function of fanout's, plain or async, or the id of one.
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
        """Call the branches, functions without arguments, at the same time: each in a thread, with steps of its own.

        All come to their end, also when one of them raises.

        Returns:
            what they returned, in order.

        Raises:
            BaseException: what the first one that raised has raised.
        """
        return parallel.call(self._execution, branches)
