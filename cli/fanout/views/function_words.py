"""A function's triggers and settings as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fanout.core import cron
from fanout.core.cron_words import in_words
from fanout.durations import duration, period
from fanout.errors import CronError
from fanout.model import (
    NO_LIMITS,
    NO_RULES,
    Backoff,
    Catchup,
    CronTrigger,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    Overlap,
    Trigger,
)
from fanout.views.words import printable

_DEFAULTS = FunctionSpec(id="", name="", module="", qualname="", file="", line=0, is_async=False)


def cron_triggers(spec: FunctionSpec) -> list[CronTrigger]:
    return [trigger for trigger in spec.triggers if isinstance(trigger, CronTrigger)]


def schedule_of(spec: FunctionSpec, trigger: CronTrigger) -> cron.Schedule | None:
    """The trigger's schedule; None where this machine does not know its zone, or takes its expression no more."""
    try:
        return cron.parse(trigger.expression, trigger.zone, spec.id)
    except CronError:
        return None


def schedule_in_words(spec: FunctionSpec, trigger: CronTrigger) -> str:
    """As in `every day at 02:30, Europe/Berlin`."""
    schedule = schedule_of(spec, trigger)
    said = printable(trigger.expression if schedule is None else in_words(schedule))
    late = f", up to {duration(trigger.jitter_ms)} later" if trigger.jitter_ms else ""
    return f"{said}{late}, {printable(trigger.zone)}"


def triggers_in_words(spec: FunctionSpec) -> list[str]:
    """Each as in `app/paid if event.data.total > 100`, or `every day at 02:30, UTC`."""
    said = []
    for trigger in spec.triggers:
        if isinstance(trigger, EventTrigger):
            said.append(printable(trigger.name) + ("" if trigger.if_ is None else f" if {printable(trigger.if_)}"))
        else:
            said.append(schedule_in_words(spec, trigger))
    return said or ["invoked only"]


def settings_in_words(spec: FunctionSpec) -> list[str]:
    """The settings that are not the default, each as in `concurrency 5 on event.data.account`."""
    return [*_limits(spec.flow), *_orders(spec.flow), *_endings(spec), *_of_schedules(spec)]


def all_settings(spec: FunctionSpec) -> Iterator[tuple[str, str, bool]]:
    """All that hold for a function: (name, words, whether it is the default); rules that it has not are not there."""
    usual = _DEFAULTS
    yield "retries", f"{spec.retries}", spec.retries == usual.retries
    backoff = "15s, 30s, 1m and on up to 2h" if spec.backoff is None else _backoff(spec.backoff)
    yield "backoff", backoff, spec.backoff is None
    said = [*_limits(spec.flow), *_orders(spec.flow), *_endings(spec)]
    for words in said:
        if not words.startswith(("retries ", "backoff ")):
            yield "settings", words, False
    if cron_triggers(spec):
        most = f" up to {spec.catchup_limit:,}" if spec.catchup is Catchup.ALL else ""
        yield "catchup", f"{spec.catchup}{most}", spec.catchup is usual.catchup
        yield "overlap", str(spec.overlap), spec.overlap is usual.overlap


def _limits(rules: FlowRules) -> Iterator[str]:
    for each in rules.concurrency:
        yield f"concurrency {each.limit:,}{_on(each.key)}{' in the app' if each.scope == 'app' else ''}"
    if (throttle := rules.throttle) is not None:
        burst = f" burst {throttle.burst:,}" if throttle.burst > 1 else ""
        yield f"throttle {throttle.limit:,}/{period(throttle.period_ms)}{burst}{_on(throttle.key)}"
    if (rate := rules.rate_limit) is not None:
        yield f"rate limit {rate.limit:,}/{period(rate.period_ms)}{_on(rate.key)}"


def _orders(rules: FlowRules) -> Iterator[str]:
    if (debounce := rules.debounce) is not None:
        most = "" if debounce.timeout_ms is None else f" at most {duration(debounce.timeout_ms)}"
        yield f"debounce {duration(debounce.period_ms)}{most}{_on(debounce.key)}"
    if (batch := rules.batch) is not None:
        condition = "" if batch.if_ is None else f" if {printable(batch.if_)}"
        yield f"batch {batch.max_size:,} in {duration(batch.timeout_ms)}{_on(batch.key)}{condition}"
    if rules.priority is not None:
        yield f"priority {printable(rules.priority)}"
    if (singleton := rules.singleton) is not None:
        yield f"singleton{_on(singleton.key)}{' cancels' if singleton.mode == 'cancel' else ''}"
    if rules.idempotency is not None:
        yield f"idempotency {printable(rules.idempotency)}"


def _on(key: str | None) -> str:
    return "" if key is None else f" on {printable(key)}"


def _endings(spec: FunctionSpec) -> Iterator[str]:
    if spec.retries != _DEFAULTS.retries:
        yield f"retries {spec.retries}"
    if spec.backoff is not None:
        yield f"backoff {_backoff(spec.backoff)}"
    for name, limit_ms in _time_limits(spec):
        yield f"{name} timeout {duration(limit_ms)}"
    for rule in spec.cancel_on:
        match = "" if rule.match is None else f" with the same {printable(rule.match)}"
        condition = "" if rule.if_ is None else f" if {printable(rule.if_)}"
        within = "" if rule.timeout_ms is None else f" within {duration(rule.timeout_ms)}"
        yield f"cancelled by {printable(rule.event)}{match}{condition}{within}"
    if spec.on_failure is not None:
        yield f"on failure {printable(spec.on_failure)}"


def _time_limits(spec: FunctionSpec) -> Iterator[tuple[str, int]]:
    for name in ("start", "finish", "step"):
        limit_ms = getattr(spec.timeouts, f"{name}_ms")
        if limit_ms is not None:
            yield name, limit_ms


def _backoff(backoff: Backoff | tuple[float, ...]) -> str:
    if isinstance(backoff, tuple):
        return ", ".join(_seconds(each) for each in backoff)
    jitter = f" plus up to {_seconds(backoff.jitter)}" if backoff.jitter else ""
    return f"{_seconds(backoff.initial)} times {backoff.factor:g} up to {_seconds(backoff.maximum)}{jitter}"


def _seconds(seconds: float) -> str:
    return duration(round(seconds * 1000))


def _of_schedules(spec: FunctionSpec) -> Iterator[str]:
    if spec.catchup is not Catchup.LATEST:
        most = f" up to {spec.catchup_limit:,}" if spec.catchup is Catchup.ALL else ""
        yield f"catchup {spec.catchup}{most}"
    if spec.overlap is not Overlap.SKIP:
        yield f"overlap {spec.overlap}"


# JSON.


def settings_json(spec: FunctionSpec) -> dict[str, Any]:
    """The settings that are not the default, by their names in `@function`; durations are milliseconds."""
    found: dict[str, Any] = {}
    if spec.flow != NO_RULES:
        found |= msgspec.to_builtins(spec.flow)
        if (batch := found.get("batch")) is not None:
            batch["if"] = batch.pop("if_")
    if spec.timeouts != NO_LIMITS:
        found["timeouts"] = dict(_time_limits(spec))
    for name in ("retries", "backoff", "cancel_on", "on_failure", "catchup", "catchup_limit", "overlap"):
        value = getattr(spec, name)
        if value != getattr(_DEFAULTS, name):
            found[name] = msgspec.to_builtins(value)
    return found


def trigger_json(spec: FunctionSpec, trigger: Trigger) -> dict[str, Any]:
    if isinstance(trigger, EventTrigger):
        return {"event": trigger.name, "if": trigger.if_}
    return {
        "cron": trigger.expression,
        "timezone": trigger.zone,
        "jitter_ms": trigger.jitter_ms,
        "words": schedule_in_words(spec, trigger),
    }
