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


class Span(NamedTuple):
    name: str
    trace: str
    id: str
    above: str
    service: str
    kind: str
    is_error: bool
    status: str
    began_at: int
    ended_at: int
    attributes: dict[str, str | int]
    exceptions: tuple[dict[str, str | int], ...]
    links: tuple[tuple[str, str], ...]
    state: str


class Collector:
    """What has arrived. It refuses as long as `is_down`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.is_down = False
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
                    service = str(_attributes(resource.resource.attributes)["service.name"])
                    self.spans += [_span(each, service) for scope in resource.scope_spans for each in scope.spans]
            return not self.is_down

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


def _attributes(listed: Any) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in listed}


def _span(span: WireSpan, service: str) -> Span:
    return Span(
        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), service,
        WireSpan.SpanKind.Name(span.kind), span.status.code == Status.STATUS_CODE_ERROR, span.status.message,
        span.start_time_unix_nano, span.end_time_unix_nano, _attributes(span.attributes),
        tuple(_attributes(each.attributes) for each in span.events if each.name == "exception"),
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
            is_taken = self.path == "/v1/traces" and collector.take(body)
            self.send_response(200 if is_taken else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
