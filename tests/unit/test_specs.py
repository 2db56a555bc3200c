"""What a worker that is not ours may say of its functions: none of it reaches the engine's schedules, keys or tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fanout.core.specs import complaint
from fanout.model import (
    MAX_SPAN_S,
    Backoff,
    BatchRule,
    CancelRule,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    EventSchema,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    TimeLimits,
)
from fanout.protocol import Described, to_engine_decoder

GOOD, BAD = "event.data.a", "event.data.a +"
TOO_LONG_MS = MAX_SPAN_S * 1000 + 1


def spec(id_: str = "f", **more: Any) -> FunctionSpec:
    return FunctionSpec(id=id_, name="f", module="m", qualname="f", file="m.py", line=1, is_async=False, **more)


def of(**rules: Any) -> FunctionSpec:
    return spec(flow=FlowRules(**rules))


SOUND = spec(
    triggers=(EventTrigger("app/*", "event.data.a == 1"), CronTrigger("H 9 * * mon-fri", "Europe/Berlin", 500)),
    retries=20,
    backoff=(0.0, float(MAX_SPAN_S)),
    cancel_on=(CancelRule("b", "data.a", "event.data.a == async.data.a", 1),),
    timeouts=TimeLimits(1, 1, MAX_SPAN_S * 1000),
    on_failure="g",
    schemas=(EventSchema(None, '{"type":"object"}'),),
    flow=FlowRules(
        concurrency=(ConcurrencyRule(5, GOOD),), throttle=ThrottleRule(1, 1_000, 1, GOOD),
        rate_limit=RateLimitRule(1, 1_000), debounce=DebounceRule(1_000), singleton=SingletonRule(GOOD),
        priority=GOOD, idempotency=GOOD,
    ),
)  # fmt: skip


def test_what_declarations_make_can_be_worked_with() -> None:
    functions = (SOUND, spec("g", flow=FlowRules(batch=BatchRule(1_000, 1, GOOD, GOOD))))
    assert complaint(functions) is None
    body = msgspec.msgpack.encode([Described(functions, "1")])
    assert to_engine_decoder.decode(body) == [Described(functions, "1")]


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ((), "it has no function"),
        ((spec(), spec("g"), spec()), "two functions have the id `f`"),
        ((spec(""),), "function ``: the id is ''"),
        ((spec("a b"),), "function `a b`: the id is 'a b'"),
        ((spec("a*"),), "function `a*`: the id is 'a*'"),
        ((spec("a/b"),), "function `a/b`: the id is 'a/b'"),
        ((spec("a\x1b"),), "function `a\x1b`: the id is 'a\\x1b'"),
        ((spec(triggers=(CronTrigger("61 * * * *"),)),), "function `f`: `61 * * * *` is not a cron expression"),
        ((spec(triggers=(CronTrigger("@daily", "Mars/Base"),)),), "function `f`: `Mars/Base` is no time zone"),
        ((spec(schemas=(EventSchema(None, "{"),)),), "function `f`: an event's schema is not JSON"),
        ((spec(schemas=(EventSchema(None, "[" * 100_000),)),), "function `f`: an event's schema is not JSON"),
    ],
)
def test_what_makes_no_sense_is_told(functions: tuple[FunctionSpec, ...], says: str) -> None:
    assert (complaint(functions) or "").startswith(says)


@pytest.mark.parametrize(
    "wrong",
    [
        spec(triggers=(EventTrigger("a"), EventTrigger("a", BAD))),
        spec(cancel_on=(CancelRule("b", None, BAD),)),
        of(concurrency=(ConcurrencyRule(5), ConcurrencyRule(5, BAD))),
        of(throttle=ThrottleRule(1, 1, 1, BAD)),
        of(rate_limit=RateLimitRule(1, 1, BAD)),
        of(debounce=DebounceRule(1, BAD)),
        of(batch=BatchRule(1, 1, BAD)),
        of(batch=BatchRule(1, 1, None, BAD)),
        of(singleton=SingletonRule(BAD)),
        of(priority=BAD),
        of(idempotency=BAD),
    ],
)
def test_every_expression_is_read(wrong: FunctionSpec) -> None:
    found = complaint((wrong,))
    assert found is not None
    assert found.startswith(f"function `f`: `{BAD}` is not a CEL expression")


@pytest.mark.parametrize(
    "wrong",
    [
        spec(retries=-1),
        spec(retries=21),
        spec(backoff=()),
        spec(backoff=(-1.0,)),
        spec(backoff=Backoff(initial=float("nan"))),
        spec(backoff=Backoff(factor=float("inf"))),
        spec(catchup_limit=0),
        spec(timeouts=TimeLimits(0)),
        spec(timeouts=TimeLimits(step_ms=TOO_LONG_MS)),
        spec(triggers=(CronTrigger("@daily", "UTC", -1),)),
        spec(cancel_on=(CancelRule("b", None, None, 0),)),
        of(concurrency=(ConcurrencyRule(0),)),
        of(throttle=ThrottleRule(0, 1)),
        of(throttle=ThrottleRule(1, 0)),
        of(throttle=ThrottleRule(1, 1, 0)),
        of(rate_limit=RateLimitRule(1_000_001, 1)),
        of(rate_limit=RateLimitRule(1, TOO_LONG_MS)),
        of(debounce=DebounceRule(0)),
        of(debounce=DebounceRule(1, None, -1)),
        of(batch=BatchRule(0, 1)),
        of(batch=BatchRule(1_001, 1)),
        of(batch=BatchRule(1, 0)),
    ],
)
def test_numbers_that_cannot_be_are_no_message(wrong: FunctionSpec) -> None:
    with pytest.raises(msgspec.ValidationError):
        to_engine_decoder.decode(msgspec.msgpack.encode([Described((wrong,), "1")]))
