"""Whatever is let through of what a worker describes, the engine can work with: extremes of all numbers, odd texts."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.core.specs import complaint
from fanout.model import (
    MAX_BATCH_SIZE,
    MAX_CATCHUP,
    MAX_LIMIT,
    MAX_RETRIES,
    MAX_SPAN_S,
    Backoff,
    BatchRule,
    CancelRule,
    Catchup,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    EventSchema,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    Overlap,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
    TimeLimits,
)
from tests.fuzz.hostile import Scene

spans = st.sampled_from([1, 2, 999, 1_000, 86_400_000, MAX_SPAN_S * 1000])
maybe_span = st.none() | spans
limits = st.sampled_from([1, 2, 1_000, MAX_LIMIT])
delays = st.sampled_from([0.0, 0.001, 1.0, float(MAX_SPAN_S)])
texts = st.sampled_from(["go", "go*", "*", "", "g*o", "fanout/*", "\x1b[31m", "ä" * 300, "event.data.a", "data.a"])
keys = st.none() | st.sampled_from(
    ["event.data", "event.ts", "event.data.nothing", "1", "event.name == 'go'", "event.data.a +"]
)
crons = st.sampled_from(["@yearly", "*/30 * * * * *", "0 0 29 2 *", "H H * * *", "0 0 30 2 *", "", "61 * * * *"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "", "../etc/passwd"])
triggers = st.builds(EventTrigger, texts, keys) | st.builds(CronTrigger, crons, zones, st.just(0) | spans)
rules = st.builds(
    FlowRules,
    concurrency=st.lists(st.builds(ConcurrencyRule, limits, keys, st.sampled_from(["fn", "app"])), max_size=3).map(
        tuple
    ),
    throttle=st.none() | st.builds(ThrottleRule, limits, spans, limits, keys),
    rate_limit=st.none() | st.builds(RateLimitRule, limits, spans, keys),
    debounce=st.none() | st.builds(DebounceRule, spans, keys, maybe_span),
    batch=st.none() | st.builds(BatchRule, st.sampled_from([1, 2, MAX_BATCH_SIZE]), spans, keys, keys),
    singleton=st.none() | st.builds(SingletonRule, keys, st.sampled_from(["skip", "cancel"])),
    priority=keys,
    idempotency=keys,
)
specs = st.builds(
    FunctionSpec,
    id=st.sampled_from(["f", "g", "ä" * 300, "a b", "a/b"]),
    name=texts,
    module=texts,
    qualname=texts,
    file=texts,
    line=st.sampled_from([-(2**63), 0, 2**64 - 1]),
    is_async=st.booleans(),
    app=texts,
    triggers=st.lists(triggers, max_size=3).map(tuple),
    retries=st.sampled_from([0, MAX_RETRIES]),
    backoff=st.none() | st.builds(Backoff, delays, delays, delays, delays) | st.lists(delays, min_size=1, max_size=2).map(tuple),
    cancel_on=st.lists(st.builds(CancelRule, texts, st.none() | texts, keys, maybe_span), max_size=2).map(tuple),
    timeouts=st.builds(TimeLimits, maybe_span, maybe_span, maybe_span),
    on_failure=st.none() | st.sampled_from(["f", "g", "nobody", ""]),
    flow=rules,
    catchup=st.sampled_from(Catchup),
    catchup_limit=st.sampled_from([1, MAX_CATCHUP]),
    overlap=st.sampled_from(Overlap),
    schemas=st.lists(st.builds(EventSchema, st.none() | texts, st.sampled_from(["{}", "1", '{"type": 5}', "{"])), max_size=2).map(tuple),
)  # fmt: skip


def _is_fine(spec: FunctionSpec) -> bool:
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=FunctionSpec)
    except msgspec.ValidationError:
        return False
    return complaint((spec,)) is None


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(specs.filter(_is_fine), min_size=1, max_size=2, unique_by=lambda spec: spec.id).map(tuple))
def test_what_is_let_through_ends_nothing(described: tuple[FunctionSpec, ...]) -> None:
    with TemporaryDirectory() as folder:
        scene = Scene(Path(folder) / "journal.db", specs=described)
        scene.is_over = True
        for ms in (1, 1, 1_000, 60_000, 3_600_000, 86_400_000, MAX_SPAN_S * 1000):
            for _ in range(3):
                scene.tick(ms)
