"""`POST /e/{key}`: events in, ids out, once they are durable. Who may send has been looked at before."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace
from starlette.responses import Response
from starlette.routing import Route

from fanout.core.trace_ids import TRACEPARENT, TRACESTATE, with_parent
from fanout.core.trace_ids import parse as parse_traceparent
from fanout.errors import EventError, FanoutError
from fanout.events import NewEvent, of_headers, parse
from fanout.web.problems import status_of
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_SOURCE = "the request"
_CLOUD_EVENT = "ce-"
# What can hold JSON. `curl -d` says that it sends a form, and some say nothing or only that it is text.
_JSON_TYPES = (
    r"application/(json|[^;]*\+json|x-ndjson|ndjson|jsonl|json-seq|x-www-form-urlencoded|octet-stream)"
    r"|application/cloudevents(-batch)?(\+json)?|text/(plain|json)"
)
_PARSED_HERE_BYTES = 64 * 1024
"""More takes so long that others should not wait for it."""


class _MediaTypeError(EventError):
    """The body can't be read for what it is said to be."""


async def receive_events(request: Request) -> Response:
    """Store the events of this request, all or none."""
    try:
        _check_types(request)
        events = _traced(request, await _events(request))
        accepted = await site_of(request).append_events(events)
    except FanoutError as error:
        return _refusal(error)
    answer: dict[str, Any] = {"ids": [each.id for each in accepted], "status": 200}
    if duplicates := [each.id for each in accepted if each.is_duplicate]:
        answer["duplicates"] = duplicates
    return _json(200, answer)


async def _events(request: Request) -> list[NewEvent]:
    body = await request.body()
    attributes = _attributes(request)
    if attributes is not None:
        return [of_headers(attributes, body)]
    if len(body) <= _PARSED_HERE_BYTES:
        return parse(body, _SOURCE)
    return await asyncio.to_thread(parse, body, _SOURCE)


def _traced(request: Request, events: list[NewEvent]) -> list[NewEvent]:
    """With tracing, events belong to the trace of the request that brings them, unless they say otherwise."""
    sender = request.headers.get(TRACEPARENT)
    if sender is None or not site_of(request).has_tracing or parse_traceparent(sender) is None:
        return events
    state = request.headers.get(TRACESTATE, "")
    return [replace(event, user=with_parent(event.user, sender, state)) for event in events]


def _check_types(request: Request) -> None:
    kind = request.headers.get("content-type", "")
    if kind and not re.match(rf"({_JSON_TYPES})\s*(;|$)", kind.strip(), re.IGNORECASE):
        raise _MediaTypeError(f"events are JSON, not `{_cut(kind)}`", hint="send them with `application/json`")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise _MediaTypeError(f"the body is encoded as `{_cut(encoding)}`", hint="send it as it is")


def _attributes(request: Request) -> dict[str, str] | None:
    """Of a CloudEvent in binary mode; see the HTTP protocol binding of its specification, 1.0.2, section 3.1."""
    headers = request.headers
    if "ce-specversion" not in headers:
        return None
    # Values are percent-encoded, as no header may have all that an attribute may.
    return {
        name.removeprefix(_CLOUD_EVENT): unquote(value)
        for name, value in headers.items()
        if name.startswith(_CLOUD_EVENT)
    }


def _refusal(error: FanoutError) -> Response:
    status = 415 if isinstance(error, _MediaTypeError) else status_of(error)
    answer: dict[str, Any] = {"ids": [], "status": status, "error": error.message}
    if error.hint is not None:
        answer["hint"] = error.hint
    return _json(status, answer, {"Retry-After": "1"} if status == 503 else None)  # noqa: PLR2004 - its name is longer


def _json(status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, "application/json")


def _cut(text: str) -> str:
    return ascii(text[:80])[1:-1]


def routes() -> list[BaseRoute]:
    return [Route("/e", receive_events, methods=["POST"]), Route("/e/{key:path}", receive_events, methods=["POST"])]
