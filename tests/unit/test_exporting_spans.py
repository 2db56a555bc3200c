"""What is exported of the spans that functions' own code makes: nothing that nobody is to see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Tracer

from fanout.core.redaction import redaction_of
from fanout.worker.exporting import Hiding

SAID = "[redacted]"


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def tracer(kept: Kept) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Hiding(kept, redaction_of(("password",)))))
    return provider.get_tracer("tests")


def test_nothing_hidden_is_in_links_and_in_names_of_events(kept: Kept, tracer: Tracer) -> None:
    with tracer.start_as_current_span("one") as one:
        pass
    link = Link(one.get_span_context(), {"password": "hunter2", "kind": "retry"})
    with tracer.start_as_current_span("two", links=[link]) as two:
        two.add_event("password=hunter2")
    span = kept.spans[1]
    assert [(each.context, dict(each.attributes or {})) for each in span.links] == [
        (one.get_span_context(), {"password": SAID, "kind": "retry"})
    ]
    assert [each.name for each in span.events] == [f"password={SAID}"]


def test_attributes_are_hidden_at_every_level_and_keep_their_kinds(kept: Kept, tracer: Tracer) -> None:
    with tracer.start_as_current_span("one") as one:
        one.set_attribute("data", b"\xff\x00")
        one.set_attribute("body", b"password=hunter2 \xff")
        one.set_attribute("parts", ["a", "password=hunter2"])
        one.set_attribute("count", 3)
    assert kept.spans[0].attributes == {
        "data": b"\xff\x00",
        "body": f"password={SAID} ".encode() + b"\xff",
        "parts": ["a", f"password={SAID}"],
        "count": 3,
    }


def test_attributes_within_attributes_are_hidden(kept: Kept) -> None:
    """Newer versions of the SDK take such, and earlier ones leave them out: so they are made by hand."""
    inner = {"password": "hunter2", "user": {"password": "hunter2", "name": "ada"}}
    Hiding(kept, redaction_of(("password",))).export([ReadableSpan("one", attributes={"login": inner})])  # type: ignore[dict-item]
    assert kept.spans[0].attributes == {"login": {"password": SAID, "user": {"password": SAID, "name": "ada"}}}
