"""What steps ask of the engine, as plain functions and tasks alike put it: the messages, and the answers as values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

import msgspec

from fanout.attached import spec_of
from fanout.codec import decode_json, encode_output, is_text
from fanout.core.event_schemas import EventSchemas
from fanout.core.paths import value_at
from fanout.durations import parse_duration
from fanout.errors import UsageError
from fanout.events import Limits, parse
from fanout.ids import UlidFactory
from fanout.model import MAX_SPAN_S, RESERVED_PREFIX, Event, Failure
from fanout.protocol import Awaited, EventWait, Invoke, Map, MapItems, RecordedStep, SentEvent, StepWaits
from fanout.worker.execution import Execution, Reached, invoke_error, now_ms
from fanout.worker.returns import decoder_of, list_decoder_of

Duration = float | str | timedelta
Moment = datetime | str
Events = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Target = Callable[..., Any] | str
OnError = Literal["stop", "collect"]

MAX_IN_FLIGHT = 1_000
"""Runs of a map that are there at a time, unless it says otherwise."""
_MOST_ITEMS = 2**31
"""More than any map has."""
ITEMS_A_MESSAGE = 500
_MAX_SENT_BYTES = 64 * 1024 * 1024
_LIMITS = Limits(request_events=50_000)
"""A request from outside may have fewer events: what a step sends is made by the code, and bounded by its bytes."""

_decode_event = msgspec.json.Decoder(Event[dict[str, Any]] | None).decode
_new_id = UlidFactory()


# Times.


def seconds_of(what: str, duration: Duration) -> float:
    """Seconds from a number of them, a timedelta, or text such as `1h30m`."""
    try:
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else parse_duration(duration)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None
    if not 0 <= seconds <= MAX_SPAN_S:
        raise UsageError(f"{what} is {seconds:,.0f} s, and has to be from 0 to 366 days")
    return seconds


def after(what: str, duration: Duration, now: int | None = None) -> int:
    """The time after `duration`, in milliseconds UTC; never earlier than it says."""
    return (now_ms() if now is None else now) + math.ceil(seconds_of(what, duration) * 1000)


def at(what: str, moment: Moment, now: int | None = None) -> int:
    """The time in milliseconds UTC. Without a zone it is local time."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise UsageError(f"{what} is {moment!r}, not a time such as `2027-01-31T09:00:00+01:00`") from None
    if not isinstance(moment, datetime):
        raise UsageError(f"{what} has to be a datetime, or text such as `2027-01-31T09:00`, not {moment!r}")
    try:
        due_at = math.ceil(moment.astimezone(UTC).timestamp() * 1000)
    except (OverflowError, ValueError):  # Python's first or last day, in another zone
        raise UsageError(f"{what} is {moment.isoformat()}, which is no time in UTC") from None
    if due_at > (now_ms() if now is None else now) + MAX_SPAN_S * 1000:
        raise UsageError(f"{what} is {moment.isoformat()}, more than 366 days from now")
    return due_at


# Events.


def event_wait(
    execution: Execution, step: str, event: str, timeout: Duration, match: str | None, if_: str | None
) -> EventWait:
    """What to wait for, checked."""
    if not isinstance(event, str) or not event or not event.isprintable() or "*" in event:
        raise UsageError(f"step `{step}`: `event` has to be the name of an event, not {event!r}")
    if event.startswith(RESERVED_PREFIX):
        raise UsageError(f"step `{step}`: events that begin with `{RESERVED_PREFIX}` can't be awaited")
    if match is not None and (not isinstance(match, str) or not match):
        raise UsageError(f"step `{step}`: `match` has to be a path such as `data.user_id`, not {match!r}")
    if if_ is not None:
        if not isinstance(if_, str):
            raise UsageError(f"step `{step}`: `if_` has to be the text of an expression, not {if_!r}")
        from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

        expressions.parse(if_, variables=expressions.IN_WAITS)
    due_at = after(f"step `{step}`: `timeout`", timeout, execution.desk.clock())
    if match is None:
        return EventWait(event, due_at, None, if_)
    value = value_at(execution.event(), match)
    # Nothing equals what is not there. It still waits, as it would for an event that does not come.
    return EventWait(event, due_at, (match, "" if value is None else value), if_)


def awaited_event(output: str) -> Event | None:
    event: Event | None = _decode_event(output)
    return event


def sent_events(
    step: str, events: Events, now: int | None = None, schemas: EventSchemas | None = None
) -> tuple[SentEvent, ...]:
    """The events, checked, each with its id.

    Raises:
        EventError: one of them is no event, or does not fit a function that it would start; none is sent.
    """
    listed = [events] if isinstance(events, Mapping) else list(events)
    if not listed:
        return ()
    text = encode_output(f"step `{step}`", listed, verb="sends", most=_MAX_SENT_BYTES)
    now = now_ms() if now is None else now
    parsed = parse(text.encode(), f"step {step}", _LIMITS)
    if schemas is not None:
        schemas.check(parsed, f"step {step}")
    return tuple(
        SentEvent(new.id or _new_id(now), new.id is not None, new.name, new.ts, new.data, new.user, new.v)
        for new in parsed
    )


def ids(output: str) -> list[str]:
    return msgspec.json.decode(output, type=list[str])


# Other functions.


def function_id(step: str, function: Target) -> str:
    if isinstance(function, str) and function and function.isprintable():
        return function
    spec = spec_of(function)
    if spec is None:
        raise UsageError(
            f"step `{step}`: {function!r} is no function of fanout",
            hint="give a function that has `@fanout.function(...)`, or the id of one",
        )
    return spec.id


def invoke(
    step: str,
    function: Target,
    data: object,
    timeout: Duration | None,
    now: int | None = None,
) -> Invoke:
    text = encode_output(f"the data of step `{step}`", {} if data is None else data, verb="has")
    if not text.startswith("{"):
        raise UsageError(f"step `{step}`: `data` has to be an object, not `{text[:60]}`")
    due_at = None if timeout is None else after(f"step `{step}`: `timeout`", timeout, now)
    return Invoke(function_id(step, function), text, due_at)


def returned(function: Target, output: str) -> Any:
    """What the invoked function returned, in the types that it says."""
    return decode_json(output) if isinstance(function, str) else decoder_of(function)(output)


class Mapped:
    """A map on the side of the function: takes the items as they are needed, and reads the results."""

    def __init__(
        self,
        step: str,
        function: Target,
        items: Iterable[Any],
        *,
        key: Callable[[Any], object] | None,
        max_in_flight: int | None,
        on_error: OnError,
    ) -> None:
        most = MAX_IN_FLIGHT if max_in_flight is None else max_in_flight
        if type(most) is not int or most < 1:
            raise UsageError(f"step `{step}`: `max_in_flight` is {most!r}, not a whole number from 1")
        if on_error not in ("stop", "collect"):
            raise UsageError(f'step `{step}`: `on_error` is {on_error!r}, not "stop" or "collect"')
        self._step = step
        self._function = function
        self._items: Iterator[Any] = iter(items)
        self._key = key
        self._seen: set[str] = set()
        self._sent = 0
        self._is_exhausted = False
        self.request = Map(function_id(step, function), min(most, _MOST_ITEMS), on_error == "collect")

    def skip(self, taken: int) -> None:
        """So many items are runs already; with keys that is told by those, since items may have come and gone."""
        if self._key is None:
            self._sent = sum(1 for _ in islice(self._items, taken))

    def next_items(self, claim: int, room: int) -> MapItems | None:
        """As many items as there is room for, or None if it has been said that no more come."""
        if self._is_exhausted:
            return None
        first = self._sent
        items: list[tuple[str, str | None]] = []
        while len(items) < min(room, ITEMS_A_MESSAGE) and (item := self._next()) is not None:
            items.append(item)
        return MapItems(claim, self._step, first, tuple(items), self._is_exhausted)

    def _next(self) -> tuple[str, str | None] | None:
        try:
            item = next(self._items)
        except StopIteration:
            self._is_exhausted = True
            return None
        number, self._sent = self._sent, self._sent + 1
        text = encode_output(f"item {number} of step `{self._step}`", item, verb="has")
        # An event's data is an object; whatever else an item is, it is in one.
        return text if text.startswith("{") else f'{{"item":{text}}}', self._key_of(item, number)

    def _key_of(self, item: Any, number: int) -> str | None:
        if self._key is None:
            return None
        key = str(self._key(item))
        if not is_text(key):
            raise UsageError(f"step `{self._step}`: item {number} has the key {key!r}, which is no text")
        if key in self._seen:
            raise UsageError(f"step `{self._step}`: item {number} has the key `{key}`, like one before it")
        self._seen.add(key)
        return key

    def results(self, output: str) -> list[Any]:
        """In the order of the items; with `on_error="collect"` an InvokeError stands for an item that failed."""
        errors: dict[str, dict[str, str]] = {}
        if output.startswith("{"):
            collected = msgspec.json.decode(output, type=dict[str, msgspec.Raw])
            errors = msgspec.json.decode(collected["errors"])
            output = bytes(collected["results"]).decode()
        decode = decode_json if isinstance(self._function, str) else list_decoder_of(self._function)
        results: list[Any] = decode(output)
        for number, error in errors.items():
            failure = Failure(error["type"], f"item {number}: {error['message']}", error["traceback"])
            results[int(number)] = invoke_error(self._step, failure, int(number))
        return results


def waits(execution: Execution, reached: Reached, awaited: Awaited) -> StepWaits:
    return StepWaits(
        execution.claim, reached.key, reached.branch, reached.position, execution.desk.clock(), awaited
    )  # fmt: skip


def room(step: RecordedStep) -> int:
    """How many more items of a map may become runs now."""
    return 0 if step.progress is None else step.progress[1]
