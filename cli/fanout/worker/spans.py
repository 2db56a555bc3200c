"""What the code itself traces with OpenTelemetry is below our spans, and exported unless the code sees to that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from fanout.config_tracing import is_installed
from fanout.core.trace_ids import attempt_span
from fanout.protocol import Start, Traced
from fanout.worker import threads
from fanout.worker.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

CLOSE_S = 1.0


class Spans(Tracing):
    """Made after the code is loaded: a provider that it has set is left alone."""

    def __init__(self, traced: Traced) -> None:
        super().__init__(traced.sampling)
        self._own: _WhenNeeded | None = None
        if is_installed() and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._own = _WhenNeeded(traced)
            trace.set_tracer_provider(self._own)
        threads.carried.append(_carry)

    def enter(self, start: Start, step: str | None, number: int) -> Token[Context]:
        origin = self._origin(start)
        flags = TraceFlags(TraceFlags.SAMPLED if origin.is_sampled else TraceFlags.DEFAULT)
        state = TraceState.from_header([origin.state]) if origin.state else None
        here = SpanContext(origin.trace, attempt_span(start.run_id, step, number), False, flags, state)
        # A function begins with nothing that the one before it in this thread has left behind.
        outside = Context() if step is None else None
        return context.attach(trace.set_span_in_context(NonRecordingSpan(here), outside))

    def leave(self, token: Token[Context]) -> None:
        context.detach(token)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


def _carry() -> Callable[[], object]:
    return partial(context.attach, context.get_current())


class _WhenNeeded(trace.TracerProvider):
    """Exports what the code itself traces. It is made at the first span: most functions have none of their own."""

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self._made: TracerProvider | None = None
        self._making = threading.Lock()

    def _provider(self) -> TracerProvider:
        with self._making:
            if self._made is None:
                # Lazy: the SDK and its exporter take a third of a second to import.
                from fanout.worker.exporting import provider

                self._made = provider(self._traced)
            return self._made

    def get_tracer(self, *arguments: Any, **more: Any) -> trace.Tracer:
        return self._provider().get_tracer(*arguments, **more)

    def close(self) -> None:
        """Let it tell the rest, but not for long: flushing takes as long as a collector does."""
        if self._made is not None:
            flush = threading.Thread(target=self._made.force_flush, daemon=True)
            flush.start()
            flush.join(CLOSE_S)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider(), name)
