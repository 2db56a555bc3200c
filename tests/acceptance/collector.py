"""A collector of traces in this process: takes what exporters really send, and reads it with the real messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

Attributes = dict[str, Any]


class Span(NamedTuple):
    name: str
    trace: str
    id: str
    above: str
    about: Attributes
    """What it is a part of."""
    kind: str
    is_error: bool
    status: str
    began_at: int
    ended_at: int
    attributes: Attributes
    events: tuple[tuple[str, Attributes], ...]
    links: tuple[tuple[str, str], ...]
    state: str

    @property
    def about_event(self) -> str:
        return str(self.attributes.get("fanout.event_id", ""))


class Collector:
    """What has arrived. It refuses as long as `is_down`, and answers nobody as long as `is_open` is not set."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.is_down = False
        self.is_open = threading.Event()
        self.is_open.set()
        self.port = 0
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    def take(self, body: bytes) -> bool:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.requests += 1
            if not self.is_down:
                for resource in request.resource_spans:
                    about = _attributes(resource.resource.attributes)
                    self.spans += [_span(each, about) for scope in resource.scope_spans for each in scope.spans]
            return not self.is_down

    def family(self, event_id: str) -> Collector:
        """What has arrived of the trace that this event is the first of."""
        tops = [span for span in self.spans if span.kind == "SPAN_KIND_PRODUCER" and span.about_event == event_id]
        (trace,) = {span.trace for span in tops}
        found = Collector()
        found.spans = [span for span in self.spans if span.trace == trace]
        return found

    def named(self, name: str) -> Span:
        """The only span of that name."""
        (found,) = self.all(name)
        return found

    def all(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[str]:
        """All spans, each below what it belongs to, by their names."""
        known = {span.id for span in self.spans}
        lines: list[str] = []

        def add(span: Span, depth: int) -> None:
            lines.append("  " * depth + span.name + (" (error)" if span.is_error else ""))
            for below in sorted((each for each in self.spans if each.above == span.id), key=_order):
                add(below, depth + 1)

        for top in sorted((span for span in self.spans if span.above not in known), key=_order):
            add(top, 0)
        return lines


def _order(span: Span) -> tuple[str, int]:
    return span.name, span.began_at


def _attributes(listed: Any) -> Attributes:
    return {each.key: _value(each.value) for each in listed}


def _value(value: Any) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return tuple(map(_value, found.values)) if hasattr(found, "values") else found


def _span(span: WireSpan, about: Attributes) -> Span:
    return Span(
        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), about,
        WireSpan.SpanKind.Name(span.kind), span.status.code == Status.STATUS_CODE_ERROR, span.status.message,
        span.start_time_unix_nano, span.end_time_unix_nano, _attributes(span.attributes),
        tuple((each.name, _attributes(each.attributes)) for each in span.events),
        tuple((each.trace_id.hex(), each.span_id.hex()) for each in span.links), span.trace_state,
    )  # fmt: skip


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.is_open.wait()
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            is_taken = self.path == "/v1/traces" and collector.take(body)
            self.send_response(200 if is_taken else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.is_open.set()
        server.shutdown()
        server.server_close()
        thread.join()
