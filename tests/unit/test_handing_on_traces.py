"""How a trace goes from a program to the events that it sends, and from a step to those that it sends."""

from __future__ import annotations

import json
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from fanout.client import Client
from fanout.core.sampling import Sampling
from fanout.core.trace_ids import attempt_span, origin_of
from fanout.journal.sqlite_reader import JournalReader
from fanout.protocol import SentEvent, Start
from fanout.worker.tracing import Tracing

OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_what_a_program_sends_in_a_span_is_below_it(tmp_path: Path) -> None:
    tracer = TracerProvider().get_tracer("shop")
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("shop")
    with Client(tmp_path / "journal.db") as client:
        [outside] = client.send({"name": "a"})
        with tracer.start_as_current_span("request") as span:
            [inside] = client.send({"name": "a", "user": {"id": 7}})
            [told] = client.send({"name": "a", "user": {"traceparent": OTHER}})
        with unsampled.start_as_current_span("request") as quiet:
            [unheard] = client.send({"name": "a"})
    with JournalReader(tmp_path / "journal.db") as reader:
        texts = [reader.event(each.id).user for each in (outside, inside, told, unheard)]
    users = [None if text is None else json.loads(text) for text in texts]
    here, there = span.get_span_context(), quiet.get_span_context()
    assert users == [
        None,
        {"id": 7, "traceparent": f"00-{here.trace_id:032x}-{here.span_id:016x}-01"},
        {"traceparent": OTHER},
        {"traceparent": f"00-{there.trace_id:032x}-{there.span_id:016x}-00"},
    ]


def test_a_worker_without_opentelemetry_hands_it_on(tmp_path: Path) -> None:
    start = Start(1, "RUN", "work", 0, ("E", "app/order", 7, "{}", None, None))
    events = tuple(
        SentEvent("x", False, "a", None, "{}", user, None) for user in (None, json.dumps({"traceparent": OTHER}))
    )
    tracing = Tracing(Sampling(0.0))
    tracing.leave(tracing.enter(start, "tell", 0))
    sent = tracing.sent(start, "tell", 2, events)
    place = f"00-{origin_of('E', 7, None).trace:032x}-{attempt_span('RUN', 'tell', 2):016x}-00"
    assert [json.loads(each.user or "") for each in sent] == [{"traceparent": place}, {"traceparent": OTHER}]
