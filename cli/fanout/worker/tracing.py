"""Where in a trace functions' code is, for what instruments itself with OpenTelemetry: its spans are below ours.

Spans of runs and steps are made by nobody here: the journal has what they tell. Without tracing nothing of this, and
nothing of OpenTelemetry, is imported.
"""

from __future__ import annotations

import threading
from contextvars import Token
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from fanout.core.trace_ids import attempt_span, origin_of, traceparent, with_parent

if TYPE_CHECKING:
    from fanout.protocol import SentEvent, Start


class Tracing:
    """What executions do where tracing is on."""

    def enter(self, start: Start, step: str | None, number: int) -> Token[Any]:
        """From here on the code of this attempt runs: of a step, or between steps."""
        id_, _, ts, _, user, _ = start.event
        origin = origin_of(id_, ts, user)
        flags = TraceFlags(TraceFlags.SAMPLED if origin.is_sampled else TraceFlags.DEFAULT)
        state = TraceState.from_header([origin.state]) if origin.state else None
        here = SpanContext(origin.trace, attempt_span(start.run_id, step, number), False, flags, state)
        # A function begins with nothing that the one before it in this thread has left behind.
        outside = Context() if step is None else None
        return context.attach(trace.set_span_in_context(NonRecordingSpan(here), outside))

    def leave(self, token: Token[Any]) -> None:
        context.detach(token)

    def sent(self, start: Start, step: str, events: tuple[SentEvent, ...]) -> tuple[SentEvent, ...]:
        """The events, each with the step that sends it as its `traceparent`; unless the code has given it one."""
        id_, _, ts, _, user, _ = start.event
        origin = origin_of(id_, ts, user)
        place = traceparent(origin, attempt_span(start.run_id, step, 0))
        return tuple(replace(event, user=with_parent(event.user, place, origin.state)) for event in events)


class _WhenNeeded(trace.TracerProvider):
    """Exports what the code itself traces. It is made at the first span: most functions have none of their own."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._made: Any = None
        self._making = threading.Lock()

    def _provider(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._new()
            return self._made

    def _new(self) -> Any:
        # Lazy: the SDK and its exporter take a third of a second to import.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from fanout.config import has_service_name

        made = TracerProvider(resource=Resource.create({} if has_service_name() else {SERVICE_NAME: self._service}))
        made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return made

    def get_tracer(self, *arguments: Any, **more: Any) -> trace.Tracer:
        tracer: trace.Tracer = self._provider().get_tracer(*arguments, **more)
        return tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider(), name)


def begin(service: str) -> Tracing:
    """After the code is loaded: a provider that it has set is left alone."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_WhenNeeded(service))
    return Tracing()
