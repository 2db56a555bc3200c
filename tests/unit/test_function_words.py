"""Triggers and settings as people read them."""

from __future__ import annotations

import pytest

from fanout.model import (
    Backoff,
    BatchRule,
    CancelRule,
    Catchup,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    Overlap,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    TimeLimits,
)
from fanout.views.function_words import settings_in_words, settings_json, trigger_json, triggers_in_words
from tests.unit.specs import spec


@pytest.mark.parametrize(
    ("triggers", "words"),
    [
        ((), ["invoked only"]),
        (
            (EventTrigger("app/paid"), EventTrigger("app/*", "event.data.n > 1")),
            ["app/paid", "app/* if event.data.n > 1"],
        ),
        ((CronTrigger("30 2 * * *", "Europe/Berlin"),), ["every day at 02:30, Europe/Berlin"]),
        ((CronTrigger("*/15 * * * *", jitter_ms=300_000),), ["every 15 minutes, up to 5m later, UTC"]),
        ((CronTrigger("30 2 * * *", "Atlantis/City"),), ["30 2 * * *, Atlantis/City"]),
        ((EventTrigger("app/\x1b[2J"),), ["app/\\x1b[2J"]),
    ],
)
def test_triggers(triggers: tuple[EventTrigger | CronTrigger, ...], words: list[str]) -> None:
    assert triggers_in_words(spec("f", triggers=triggers)) == words


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (spec("f"), []),
        (spec("f", flow=FlowRules(concurrency=(ConcurrencyRule(5),))), ["concurrency 5"]),
        (
            spec(
                "f",
                flow=FlowRules(concurrency=(ConcurrencyRule(2, "event.data.a"), ConcurrencyRule(1_000, scope="app"))),
            ),
            ["concurrency 2 on event.data.a", "concurrency 1,000 in the app"],
        ),
        (
            spec("f", flow=FlowRules(throttle=ThrottleRule(10, 60_000, 3, "event.data.a"))),
            ["throttle 10/m burst 3 on event.data.a"],
        ),
        (spec("f", flow=FlowRules(rate_limit=RateLimitRule(10, 90_000))), ["rate limit 10/90s"]),
        (
            spec("f", flow=FlowRules(debounce=DebounceRule(30_000, "event.data.a", 300_000))),
            ["debounce 30s at most 5m on event.data.a"],
        ),
        (
            spec("f", flow=FlowRules(batch=BatchRule(100, 5_000, "event.data.a", "event.data.n > 1"), priority="10")),
            ["batch 100 in 5s on event.data.a if event.data.n > 1", "priority 10"],
        ),
        (
            spec("f", flow=FlowRules(singleton=SingletonRule("event.data.a", "cancel"), idempotency="event.data.id")),
            ["singleton on event.data.a cancels", "idempotency event.data.id"],
        ),
        (
            spec("f", retries=0, backoff=Backoff(1, 2, 60, 0.5), timeouts=TimeLimits(None, 3_600_000, 30_000)),
            ["retries 0", "backoff 1s times 2 up to 1m plus up to 500ms", "finish timeout 1h", "step timeout 30s"],
        ),
        (spec("f", backoff=(1, 5)), ["backoff 1s, 5s"]),
        (
            spec("f", cancel_on=(CancelRule("app/gone", "data.id", "true", 60_000),), on_failure="tell"),
            ["cancelled by app/gone with the same data.id if true within 1m", "on failure tell"],
        ),
        (
            spec("f", catchup=Catchup.ALL, catchup_limit=7, overlap=Overlap.QUEUE),
            ["catchup all up to 7", "overlap queue"],
        ),
    ],
)
def test_settings_that_are_not_the_default(made: FunctionSpec, words: list[str]) -> None:
    assert settings_in_words(made) == words


def test_settings_and_triggers_as_json() -> None:
    made = spec(
        "f",
        triggers=(EventTrigger("app/go", "true"), CronTrigger("0 9 * * *", "Europe/Berlin", 5)),
        retries=1,
        flow=FlowRules(batch=BatchRule(10, 5_000, None, "true"), concurrency=(ConcurrencyRule(5),)),
        timeouts=TimeLimits(step_ms=7),
        overlap=Overlap.CANCEL,
    )
    assert settings_json(made) == {
        "batch": {"max_size": 10, "timeout_ms": 5_000, "key": None, "if": "true"},
        "concurrency": ({"limit": 5, "key": None, "scope": "fn"},),
        "timeouts": {"step": 7},
        "retries": 1,
        "overlap": "cancel",
    }
    assert [trigger_json(made, trigger) for trigger in made.triggers] == [
        {"event": "app/go", "if": "true"},
        {
            "cron": "0 9 * * *", "timezone": "Europe/Berlin", "jitter_ms": 5,
            "words": "every day at 09:00, up to 5ms later, Europe/Berlin",
        },
    ]  # fmt: skip
    assert settings_json(spec("g")) == {}
