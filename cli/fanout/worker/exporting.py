"""How the spans of functions' own code are exported: without what nobody is to see, and without a word of their own.

What does not arrive is said by the process that exports the runs: it is the same collector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status

from fanout.config_tracing import has_service_name
from fanout.core.redaction import HIDDEN, Redaction, redaction_of
from fanout.protocol import Traced


def provider(traced: Traced) -> TracerProvider:
    resource = Resource.create({} if has_service_name() else {SERVICE_NAME: traced.service})
    # Not at exit: that would wait for a collector as long as that takes.
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    logger = logging.getLogger(trace_exporter.__name__)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    exporter: SpanExporter = trace_exporter.OTLPSpanExporter()
    made.add_span_processor(
        BatchSpanProcessor(Hiding(exporter, redaction_of(traced.hidden)) if traced.hidden else exporter)
    )
    return made


class Hiding(SpanExporter):
    """Exports spans without the values of some keys, in attributes as in texts."""

    def __init__(self, exporter: SpanExporter, redaction: Redaction) -> None:
        self._exporter = exporter
        self._redaction = redaction

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([self._hidden(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _hidden(self, span: ReadableSpan) -> ReadableSpan:
        words = span.status.description
        return ReadableSpan(
            self._redaction.text(span.name),
            span.get_span_context(),
            span.parent,
            span.resource,
            self._attributes(span.attributes),
            [
                Event(self._redaction.text(each.name), self._attributes(each.attributes), each.timestamp)
                for each in span.events
            ],
            [Link(each.context, self._attributes(each.attributes)) for each in span.links],
            span.kind,
            status=Status(span.status.status_code, words and self._redaction.text(words)),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _attributes(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: self._value(name, value) for name, value in (attributes or {}).items()}

    def _value(self, name: str, value: Any) -> Any:
        """Names have parts, as in `db.user.password`: the last one is the key."""
        if self._redaction.has(name) or self._redaction.has(name.rpartition(".")[2]):
            return HIDDEN
        if isinstance(value, str):
            return self._redaction.text(value)
        if isinstance(value, bytes):
            return self._redaction.text(value.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if isinstance(value, Mapping):
            return self._attributes(value)
        if isinstance(value, Sequence):
            return [self._value("", each) for each in value]
        return value
