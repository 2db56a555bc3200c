"""`@function` and what goes inside it. Declaring attaches a FunctionSpec and registers nothing."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from types import FrameType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec

from fanout.attached import ATTRIBUTE, EVENT_SCHEMA, ON_FAILURE, spec_of
from fanout.errors import CronError, ExpressionError, LoadError
from fanout.flow import (
    Batch,
    Concurrency,
    Debounce,
    Priority,
    RateLimit,
    Singleton,
    Span,
    Throttle,
    milliseconds,
    rules_of,
)
from fanout.model import (
    MAX_CATCHUP,
    MAX_RETRIES,
    MAX_SPAN_S,
    NO_LIMITS,
    RESERVED_PREFIX,
    Backoff,
    CancelRule,
    Catchup,
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    Overlap,
    TimeLimits,
    Trigger,
)

if TYPE_CHECKING:
    from fanout.worker.async_context import AsyncContext
    from fanout.worker.context import Context

    Declarable = Callable[[Context[Any]], Any] | Callable[[AsyncContext[Any]], Awaitable[Any]]
    F = TypeVar("F", bound=Declarable)
else:
    F = TypeVar("F")

MAX_TRIGGERS = 10
MAX_CANCEL_ON = 5
MAX_NAME_BYTES = 256

Delay = float | timedelta
Kind = type[Any] | UnionType
"""Of the data of events."""


class CancelOn(NamedTuple):
    """Cancels a run of the function when this event comes, after the run was made.

    `match` is a path such as `data.user_id`, at which the event has to equal the one that started the run; `if_` a CEL
    expression over `event` (which started the run) and `async` (which has come). After `timeout` (seconds, a timedelta,
    or text such as `1h30m`) it cancels no more.
    """

    event: str
    match: str | None = None
    if_: str | None = None
    timeout: Span | None = None


class Timeouts(NamedTuple):
    """How long a run may be in the queue (`start`), take from its start to its end (`finish`), and how long one attempt
    of a step may take (`step`): seconds, a timedelta, or text such as `1h30m`. What is over its time fails.
    """

    start: Span | None = None
    finish: Span | None = None
    step: Span | None = None


def on(name: str, if_: str | None = None) -> EventTrigger:
    """Start the function for every event called `name`. A tail may be open: `app/*`, `app/user.*`.

    `if_` is a CEL expression over `event` that has to be true, such as `event.data.total > 100`.

    Raises:
        LoadError: the name is empty, too long, or has a `*` anywhere but at its end; `if_` is not CEL.
    """
    try:
        _check_name("an event name", name)
        _check_tail(name)
        if if_ is not None:
            _check_expression("`if_`", if_)
    except LoadError as error:
        # No function is known yet: what people need is where they wrote it.
        raise LoadError(f"{_place(sys._getframe(1))}: {error.message}", hint=error.hint) from None  # noqa: SLF001
    return EventTrigger(name, if_)


def cron(expression: str, tz: str = "UTC", jitter: Span | None = None) -> CronTrigger:
    """Start the function at the times of a cron expression, such as `0 9 * * mon-fri`, in the zone `tz`.

    Concurrency, throttle, priority and singleton hold for its runs. Rate limit, debounce, batch and idempotency do not:
    each tick comes only once.

    Args:
        expression: five fields, or six with seconds; `@daily` and the like; `H` is spread by the function's id.
        tz: an IANA name, such as `Europe/Berlin`.
        jitter: each run starts up to so much later, so that not all start at once.

    Raises:
        LoadError: the expression can't be used, or there is no such zone.
    """
    from fanout.core import cron as rules  # lazy: only a function with a schedule needs it

    try:
        rules.parse(expression, tz)
        jitter_ms = 0 if jitter is None else milliseconds("`jitter`", jitter)
    except (CronError, LoadError) as error:
        raise LoadError(f"{_place(sys._getframe(1))}: {error.message}", hint=error.hint) from None  # noqa: SLF001
    return CronTrigger(expression, tz, jitter_ms)


def function(
    trigger: Trigger | Sequence[Trigger] | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the field's own name for it
    name: str | None = None,
    retries: int = 4,
    backoff: Backoff | Sequence[Delay] | None = None,
    cancel_on: CancelOn | Sequence[CancelOn] = (),
    timeouts: Timeouts | None = None,
    on_failure: Declarable | None = None,
    concurrency: int | Concurrency | Sequence[Concurrency] = (),
    throttle: Throttle | None = None,
    rate_limit: RateLimit | None = None,
    debounce: Debounce | None = None,
    batch: Batch | None = None,
    priority: Priority | None = None,
    singleton: Singleton | None = None,
    idempotency: str | None = None,
    catchup: Literal["latest", "none", "all"] = "latest",
    catchup_limit: int = 100,
    overlap: Literal["skip", "queue", "cancel"] = "skip",
    event_schema: Kind | Mapping[str, Kind] | None = None,
) -> Callable[[F], F]:
    """Make a function that events start. It stays callable and keeps its type.

    Args:
        trigger: what starts it: `on(...)` or `cron(...)`, up to 10 of them, or nothing (it is then only invoked).
        id: its name for ever; the function's own name with dashes if left out.
        name: what people read; the id if left out.
        retries: attempts after the first, for each step and for the code between steps; 0 to 20.
        backoff: a `Backoff`, or the delays in seconds one after another; the default is a table from 15 s to 2 h.
        cancel_on: events that cancel its runs; up to 5.
        timeouts: limits of its runs' times.
        on_failure: a function that is run, once, for each run that has failed; its event is `fanout/function.failed`.
        concurrency: how many of its runs execute at once: a number, a `Concurrency`, or two of them.
        throttle: how many start in a period; the others wait.
        rate_limit: how many are made in a period; the others are skipped.
        debounce: one run when no event has come for a while.
        batch: one run for several events.
        priority: which run comes first.
        singleton: one run at a time.
        idempotency: a CEL expression over `event`; one run for each of its values in 24 hours.
        catchup: what becomes of cron ticks that were missed: `latest` runs the newest, `none` none, `all` all of them.
        catchup_limit: how many ticks `all` runs at most, the newest ones.
        overlap: what becomes of a tick when the run of the one before is still going: `skip`, `queue` or `cancel`.
        event_schema: the type of `ctx.event.data`: a TypedDict, a dataclass, a msgspec Struct or a pydantic model; or
            a dict of them by the names of events. An event that doesn't fit is refused. Annotate the context with it,
            as `ctx: Context[Order]`, and type checkers and editors know the data, too.

    Raises:
        LoadError: a value can't be; the message names the function's file and line.
    """

    def attach(fn: F) -> F:
        if not inspect.isfunction(fn):
            raise LoadError(
                f"{_place(sys._getframe(1))}: `@fanout.function` is for functions, not for `{fn!r}`",  # noqa: SLF001
                hint="put it directly above a `def` or `async def`",
            )
        try:
            spec = msgspec.structs.replace(
                _describe(fn, trigger, id, name, retries, backoff, cancel_on, timeouts),
                flow=rules_of(
                    concurrency=concurrency, throttle=throttle, rate_limit=rate_limit, debounce=debounce,
                    batch=batch, priority=priority, singleton=singleton, idempotency=idempotency,
                ),
                catchup=_choice("catchup", Catchup, catchup),
                catchup_limit=_catchup_limit(catchup_limit),
                overlap=_choice("overlap", Overlap, overlap),
            )  # fmt: skip
            if event_schema is not None:
                setattr(fn, EVENT_SCHEMA, event_schema)
            if on_failure is not None:
                handler = _on_failure(on_failure, spec.id)
                spec = msgspec.structs.replace(spec, on_failure=handler.id)
                setattr(fn, ON_FAILURE, (handler, on_failure))
        except LoadError as error:
            where = f"`{fn.__code__.co_filename}` line {fn.__code__.co_firstlineno}: `{fn.__name__}`"
            raise LoadError(f"{where}: {error.message}", hint=error.hint) from None
        setattr(fn, ATTRIBUTE, spec)
        return fn

    if inspect.isfunction(trigger):
        raise LoadError(
            f"`{trigger.__code__.co_filename}` line {trigger.__code__.co_firstlineno}: "
            "`@fanout.function` needs parentheses",
            hint='write `@fanout.function(trigger=fanout.on("app/user.signup"))`',
        )
    return attach


def _describe(
    fn: Callable[..., Any],
    trigger: object,
    id_: str | None,
    name: str | None,
    retries: object,
    backoff: object,
    cancel_on: object = (),
    timeouts: object = None,
) -> FunctionSpec:
    function_id = fn.__name__.strip("_").replace("_", "-") if id_ is None else id_
    _check_name("an id", function_id)
    if any(character.isspace() or character in "/*" for character in function_id):
        raise LoadError(f"the id `{function_id}` has a space, `/` or `*` in it", hint="use letters, digits and dashes")
    if name is not None:
        _check_name("a name", name)
    if type(retries) is not int or not 0 <= retries <= MAX_RETRIES:
        raise LoadError(f"`retries` is {retries!r}, not a whole number from 0 to {MAX_RETRIES}")
    return FunctionSpec(
        id=function_id,
        name=function_id if name is None else name,
        module=fn.__module__,
        qualname=fn.__qualname__,
        file=fn.__code__.co_filename,
        line=fn.__code__.co_firstlineno,
        is_async=inspect.iscoroutinefunction(fn),
        triggers=_triggers(trigger),
        retries=retries,
        backoff=_backoff(backoff),
        cancel_on=_cancel_on(cancel_on),
        timeouts=_timeouts(timeouts),
    )


def _on_failure(handler: object, function_id: str) -> FunctionSpec:
    """The handler as a function of its own, unless it is one already."""
    declared = spec_of(handler)
    if declared is not None:
        return declared
    if not inspect.isfunction(handler):
        raise LoadError(f"`on_failure` is {handler!r}", hint="give a `def` or `async def` that takes a context")
    return _describe(handler, None, f"{function_id}-on-failure", None, 4, None)


def _cancel_on(value: object) -> tuple[CancelRule, ...]:
    listed = [value] if isinstance(value, CancelOn) or not isinstance(value, list | tuple) else value
    if len(listed) > MAX_CANCEL_ON:
        raise LoadError(f"`cancel_on` has {len(listed)} events, at most {MAX_CANCEL_ON} can be")
    return tuple(_cancel_rule(each) for each in listed)


def _cancel_rule(each: object) -> CancelRule:
    if not isinstance(each, CancelOn):
        raise LoadError(f"`cancel_on` has {each!r}", hint='write `cancel_on=[fanout.CancelOn("app/user.deleted")]`')
    _check_name("the event of `cancel_on`", each.event)
    if "*" in each.event:
        raise LoadError(f"`cancel_on` has the event `{each.event}`: it has to be one event's whole name")
    if each.event.startswith(RESERVED_PREFIX):
        raise LoadError(f"`cancel_on` has the event `{each.event}`: those of fanout itself cancel nothing")
    if each.match is not None:
        _check_name("`match` of `cancel_on`", each.match)
    if each.if_ is not None:
        if not isinstance(each.if_, str):
            raise LoadError(f"`if_` of `cancel_on` has to be the text of an expression, not {each.if_!r}")
        from fanout.core import expressions  # lazy: CEL is slow to load, and few functions use it

        try:
            expressions.parse(each.if_, variables=expressions.IN_WAITS)
        except ExpressionError as error:
            raise LoadError(f"`cancel_on`: {error.message}", hint=error.hint) from None
    timeout_ms = None if each.timeout is None else milliseconds("`timeout` of `cancel_on`", each.timeout)
    return CancelRule(each.event, each.match, each.if_, timeout_ms)


def _timeouts(value: object) -> TimeLimits:
    if value is None:
        return NO_LIMITS
    if not isinstance(value, Timeouts):
        raise LoadError(f"`timeouts` is {value!r}", hint='write `timeouts=fanout.Timeouts(step="30s")`')
    given = value._asdict()
    return TimeLimits(
        *(None if each is None else milliseconds(f"`{name}` of `timeouts`", each) for name, each in given.items())
    )


C = TypeVar("C", bound=StrEnum)


def _choice(what: str, choices: type[C], value: object) -> C:
    try:
        return choices(str(value))
    except ValueError:
        listed = ", ".join(f'"{each}"' for each in choices)
        raise LoadError(f"`{what}` is {value!r}, not one of {listed}") from None


def _catchup_limit(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_CATCHUP:
        raise LoadError(f"`catchup_limit` is {value!r}, not a whole number from 1 to {MAX_CATCHUP:,}")
    return value


def _check_expression(what: str, expression: object) -> None:
    from fanout.core import expressions  # lazy: CEL is slow to load, and few functions use it

    if not isinstance(expression, str):
        raise LoadError(f"{what} has to be a CEL expression, not {expression!r}")
    try:
        expressions.parse(expression)
    except ExpressionError as error:
        raise LoadError(f"{what}: {error.message}", hint=error.hint) from None


def _triggers(trigger: object) -> tuple[Trigger, ...]:
    if trigger is None:
        return ()
    triggers = []
    for each in trigger if isinstance(trigger, list | tuple) else (trigger,):
        if not isinstance(each, EventTrigger | CronTrigger):
            raise LoadError(f"`trigger` is {each!r}", hint='write `trigger=fanout.on("app/user.signup")`')
        triggers.append(each)
    if len(triggers) > MAX_TRIGGERS:
        raise LoadError(f"it has {len(triggers)} triggers, at most {MAX_TRIGGERS} can be")
    return tuple(triggers)


def _backoff(backoff: object) -> Backoff | tuple[float, ...] | None:
    match backoff:
        case None:
            return None
        case Backoff():
            numbers: tuple[float, ...] = (backoff.initial, backoff.factor, backoff.maximum, backoff.jitter)
            result: Backoff | tuple[float, ...] = backoff
        case list() | tuple():
            numbers = tuple(each.total_seconds() if isinstance(each, timedelta) else each for each in backoff)
            result = numbers
        case _:
            raise LoadError(f"`backoff` is {backoff!r}", hint="give a `Backoff`, or a list of delays in seconds")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MAX_SPAN_S:
            raise LoadError(f"`backoff` has the delay {number!r}", hint="delays are seconds, from 0 to 366 days")
    if not numbers:
        raise LoadError("`backoff` is an empty list", hint="leave it out for the default delays")
    return result


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise LoadError(f"{what} has to be text that can be printed, not {name!r}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise LoadError(f"{what} has {len(name.encode())} bytes, at most {MAX_NAME_BYTES} can be")


def _check_tail(name: str) -> None:
    if "*" in name[:-1]:
        raise LoadError(f"`{name}`: only the tail of an event name can be open", hint="write it as `app/*`")


def _place(frame: FrameType) -> str:
    return f"`{frame.f_code.co_filename}` line {frame.f_lineno}"
