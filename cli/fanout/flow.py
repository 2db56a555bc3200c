"""What goes inside `@function` to limit, order and join its runs, and its check. It decides nothing about any run.

`Concurrency`, `Throttle` and `Priority` are for all runs. `RateLimit`, `Debounce`, `Batch` and `idempotency` are about
events, also those of the engine's own (`fanout/...`), and not about ticks of a cron trigger, runs that are invoked,
replays and `on_failure`. `Singleton` says itself what it is for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, NamedTuple, TypeVar

from fanout.durations import parse_duration
from fanout.errors import ExpressionError, LoadError
from fanout.model import (
    MAX_BATCH_SIZE,
    MAX_LIMIT,
    MAX_SPAN_S,
    NO_RULES,
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowRules,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)

D = TypeVar("D", bound=NamedTuple)

MAX_CONCURRENCIES = 2

Span = float | str | timedelta


class Concurrency(NamedTuple):
    """At most `limit` runs execute at once. A run that sleeps, waits, or waits for a retry does not count.

    `key` is a CEL expression over `event`, such as `event.data.account`: each of its values has a limit of its own, and
    what has no such path shares one. With `scope="app"` the runs of all functions of the app count that have a
    concurrency of that scope: those of the same key's value, or, without a key, those without one. Functions with
    different limits each keep to theirs. A function has up to two.
    """

    limit: int
    key: str | None = None
    scope: Literal["fn", "app"] = "fn"


class Throttle(NamedTuple):
    """`limit` runs start in each `period`, first in, first out: the others wait in the queue, none is lost.

    Starts are `period` / `limit` apart; after a pause `burst` of them may come at once. `period` is seconds, a
    timedelta, or text such as `1m`. `key` is a CEL expression over `event`: each of its values has a throttle of its
    own. The rule is GCRA (ITU-T I.371).
    """

    limit: int
    period: Span
    burst: int = 1
    key: str | None = None


class RateLimit(NamedTuple):
    """`limit` runs are made in each `period`: the others are recorded as `skipped`, and never start.

    The whole limit may come at once; then one more may for each `period` / `limit` that passes. `period` is seconds, a
    timedelta, or text such as `1h`. `key` is a CEL expression over `event`: each of its values has a limit of its own.
    The rule is GCRA (ITU-T I.371).
    """

    limit: int
    period: Span
    key: str | None = None


class Debounce(NamedTuple):
    """One run, for the newest event by `ts`, when none has come for `period`.

    Each event begins the wait anew; `timeout` bounds it from the first one on. Both are seconds, a timedelta, or text
    such as `30s`. `key` is a CEL expression over `event`: each of its values waits on its own. If the newest event has
    a `ts` that is yet to come, the run waits until then in any case.

    All else that depends on an event (limits, priority, singleton, idempotency, what cancels the run) goes by the
    newest one. Singleton and idempotency are asked when the wait is over, and the time in the queue begins then.
    """

    period: Span
    key: str | None = None
    timeout: Span | None = None


class Batch(NamedTuple):
    """One run for many events, in `ctx.events`: for `max_size` of them, or for those that came within `timeout` of the
    first.

    `max_size` is 1 to 1,000; `timeout` is seconds, a timedelta, or text such as `5s`. `key` is a CEL expression over
    `event`: each of its values has batches of its own. An event for which `if_`, another one, is not true gets a run of
    its own at once. A batch does not start before the `ts` of any of its events.

    All else that depends on an event (limits, priority, singleton, what cancels the run) goes by the first one. The
    rate limit is asked when a batch begins: it counts batches. The singleton is asked when it is complete, and then
    skips all of it or none; the time in the queue begins then.
    """

    max_size: int
    timeout: Span
    key: str | None = None
    if_: str | None = None


class Priority(NamedTuple):
    """Runs go ahead of others of their function: as if queued earlier by so many seconds as `run` gives.

    `run` is a CEL expression over `event`, such as `event.data.plan == "pro" ? 120 : 0`. Kept between -600 and 600;
    what gives no number counts as 0.
    """

    run: str


class Singleton(NamedTuple):
    """One live run at a time, queued and waiting ones included; not those that still wait for more events.

    With `mode="skip"` a second one is recorded as `skipped`; with `mode="cancel"` it cancels the first, of which a step
    in flight may still be ending when the second starts. `key` is a CEL expression over `event`: each of its values
    has a run of its own.

    It is asked for events and for the ticks of cron triggers, among which `overlap` decides. A run that is invoked, a
    replay or an `on_failure` was asked for by name: it counts as the live one, but is not refused and cancels none.
    """

    key: str | None = None
    mode: Literal["skip", "cancel"] = "skip"


def rules_of(
    *,
    concurrency: object = (),
    throttle: object = None,
    rate_limit: object = None,
    debounce: object = None,
    batch: object = None,
    priority: object = None,
    singleton: object = None,
    idempotency: object = None,
) -> FlowRules:
    """The rules that a function's settings make; NO_RULES if it has none.

    `concurrency` is a `Concurrency`, a plain limit, or up to two of them; `idempotency` a CEL expression over `event`;
    the others are what is named as they are.

    Raises:
        LoadError: a value can't be, an expression is not CEL, or two of the settings can't go together.
    """
    rules = FlowRules(
        concurrency=_concurrency(concurrency),
        throttle=_throttle(throttle),
        rate_limit=_rate_limit(rate_limit),
        debounce=_debounce(debounce),
        batch=_batch(batch),
        priority=_priority(priority),
        singleton=_singleton(singleton),
        idempotency=_expression("`idempotency`", idempotency),
    )
    if rules.batch is not None:
        _check_batched(rules, rules.batch)
    return NO_RULES if rules == NO_RULES else rules


def milliseconds(what: str, span: object) -> int:
    """A duration that an author gave: more than nothing, up to 366 days.

    Raises:
        LoadError: it is something else; the message begins with `what`.
    """
    try:
        seconds = span.total_seconds() if isinstance(span, timedelta) else parse_duration(span)  # type: ignore[arg-type]
    except ValueError as error:
        raise LoadError(f"{what}: {error}") from None
    if not 0 < seconds <= MAX_SPAN_S:
        raise LoadError(f"{what} is {span}", hint="write more than nothing, and up to 366 days")
    return max(1, round(seconds * 1000))


def _concurrency(value: object) -> tuple[ConcurrencyRule, ...]:
    if value is None:
        return ()
    listed = [value] if isinstance(value, Concurrency) or not isinstance(value, list | tuple) else value
    if len(listed) > MAX_CONCURRENCIES:
        raise LoadError(f"`concurrency` has {len(listed)} limits, at most {MAX_CONCURRENCIES} can be")
    rules = tuple(_concurrency_rule(each) for each in listed)
    if len({(rule.key, rule.scope) for rule in rules}) < len(rules):
        raise LoadError(
            "`concurrency` has two limits with the same key and scope: the larger can never be reached",
            hint="keep the smaller one",
        )
    return rules


def _concurrency_rule(each: object) -> ConcurrencyRule:
    given = Concurrency(each) if type(each) is int else each
    if not isinstance(given, Concurrency):
        raise LoadError(f"`concurrency` has {each!r}", hint="write `concurrency=fanout.Concurrency(5)`, or just the 5")
    if given.scope not in ("fn", "app"):
        raise LoadError(f"`scope` of `concurrency` is {given.scope!r}, not `fn` or `app`")
    return ConcurrencyRule(
        limit=_whole("`limit` of `concurrency`", given.limit, MAX_LIMIT),
        key=_expression("`key` of `concurrency`", given.key),
        scope=given.scope,
    )


def _throttle(value: object) -> ThrottleRule | None:
    given = _declared(value, Throttle, 'throttle=fanout.Throttle(10, "1m")')
    if given is None:
        return None
    rule = ThrottleRule(
        limit=_whole("`limit` of `throttle`", given.limit, MAX_LIMIT),
        period_ms=milliseconds("`period` of `throttle`", given.period),
        burst=_whole("`burst` of `throttle`", given.burst, MAX_LIMIT),
        key=_expression("`key` of `throttle`", given.key),
    )
    if rule.burst * rule.period_ms > rule.limit * MAX_SPAN_S * 1000:
        days = rule.burst * rule.period_ms // (rule.limit * 86_400_000)
        raise LoadError(
            f"`burst` of `throttle` is {rule.burst}: it would take {days:,} days of rest to have it again",
            hint="choose one that comes again within 366 days",
        )
    return rule


def _rate_limit(value: object) -> RateLimitRule | None:
    given = _declared(value, RateLimit, 'rate_limit=fanout.RateLimit(10, "1m")')
    if given is None:
        return None
    return RateLimitRule(
        limit=_whole("`limit` of `rate_limit`", given.limit, MAX_LIMIT),
        period_ms=milliseconds("`period` of `rate_limit`", given.period),
        key=_expression("`key` of `rate_limit`", given.key),
    )


def _debounce(value: object) -> DebounceRule | None:
    given = _declared(value, Debounce, 'debounce=fanout.Debounce("30s")')
    if given is None:
        return None
    rule = DebounceRule(
        period_ms=milliseconds("`period` of `debounce`", given.period),
        key=_expression("`key` of `debounce`", given.key),
        timeout_ms=None if given.timeout is None else milliseconds("`timeout` of `debounce`", given.timeout),
    )
    if rule.timeout_ms is not None and rule.timeout_ms < rule.period_ms:
        raise LoadError(
            f"`timeout` of `debounce` is {given.timeout}, less than its `period`, which would never be waited for",
            hint="make `timeout` the longer one: it bounds how often the wait begins anew",
        )
    return rule


def _batch(value: object) -> BatchRule | None:
    given = _declared(value, Batch, 'batch=fanout.Batch(100, "5s")')
    if given is None:
        return None
    return BatchRule(
        max_size=_whole("`max_size` of `batch`", given.max_size, MAX_BATCH_SIZE),
        timeout_ms=milliseconds("`timeout` of `batch`", given.timeout),
        key=_expression("`key` of `batch`", given.key),
        if_=_expression("`if_` of `batch`", given.if_),
    )


def _priority(value: object) -> str | None:
    given = _declared(value, Priority, 'priority=fanout.Priority("event.data.urgent ? 120 : 0")')
    return None if given is None else _cel("`run` of `priority`", given.run)


def _singleton(value: object) -> SingletonRule | None:
    given = _declared(value, Singleton, 'singleton=fanout.Singleton(key="event.data.account")')
    if given is None:
        return None
    if given.mode not in ("skip", "cancel"):
        raise LoadError(f"`mode` of `singleton` is {given.mode!r}, not `skip` or `cancel`")
    return SingletonRule(key=_expression("`key` of `singleton`", given.key), mode=given.mode)


def _check_batched(rules: FlowRules, batch: BatchRule) -> None:
    """What judges one event can't judge a batch of them; what judges a run can, by a key that all of them share."""
    if rules.debounce is not None:
        raise LoadError(
            "`batch` and `debounce` can't go together: one keeps every event, the other only the newest",
            hint="leave one of them out",
        )
    if rules.idempotency is not None:
        raise LoadError(
            "`batch` and `idempotency` can't go together: each event of a batch has a key, and the run has one",
            hint="leave `idempotency` out; an event whose `id` has come before counts only once as it is",
        )
    if batch.key is not None:
        return
    keyed = {"rate_limit": rules.rate_limit, "singleton": rules.singleton, "throttle": rules.throttle}
    keys = {name: rule.key for name, rule in keyed.items() if rule is not None}
    for name, key in [*keys.items(), *(("concurrency", rule.key) for rule in rules.concurrency)]:
        if key is not None and not _is_constant(key):
            raise LoadError(
                f"`{name}` has a key and `batch` has none: the events of a batch may then have different keys",
                hint=f"give `batch` a key too, such as `key={key!r}`",
            )


def _declared(value: object, kind: type[D], example: str) -> D | None:
    if value is None or isinstance(value, kind):
        return value
    raise LoadError(f"`{example.partition('=')[0]}` is {value!r}", hint=f"write `{example}`")


def _whole(what: str, number: object, largest: int) -> int:
    if type(number) is not int or not 1 <= number <= largest:
        raise LoadError(f"{what} is {number!r}, not a whole number from 1 to {largest:,}")
    return number


def _expression(what: str, source: object) -> str | None:
    return None if source is None else _cel(what, source)


def _cel(what: str, source: object) -> str:
    if not isinstance(source, str):
        raise LoadError(f"{what} is {source!r}", hint="write a CEL expression as text, such as `event.data.account`")
    from fanout.core import expressions  # lazy: CEL is slow to load, and few functions use it

    try:
        expressions.parse(source)
    except ExpressionError as error:
        raise LoadError(f"{what}: {error.message}", hint=error.hint) from None
    return source


def _is_constant(source: str) -> bool:
    """Whether an expression is the same for every event: it is good without any variable."""
    from fanout.core import expressions  # lazy: as above, and by now it is loaded

    try:
        expressions.parse(source, variables=frozenset())
    except ExpressionError:
        return False
    return True
