"""What is answered instead of what was asked for: JSON for programs, a plain page for people."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fanout.errors import FanoutError, JournalError, NotFoundError
from fanout.web.pages.rendering import problem_page

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.types import Scope

_FOR_PROGRAMS = ("/api/", "/e/", "/health", "/metrics", "/live")


def problem(
    scope: Scope, status: int, message: str, *, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to this request: what happened, and what to do about it."""
    if _is_from_person(scope) and "app" in scope:
        shown: Response = problem_page(Request(scope), status, HTTPStatus(status).phrase, message, hint)
        shown.headers.update(headers or {})
        return shown
    if _is_from_person(scope):
        body, media_type = _page(status, message, hint).encode(), "text/html; charset=utf-8"
    else:
        words: dict[str, Any] = {"status": status, "error": message}
        if hint is not None:
            words["hint"] = hint
        body, media_type = msgspec.json.encode(words) + b"\n", "application/json"
    return Response(body, status, dict(headers or {}), media_type)


def status_of(error: FanoutError) -> int:
    """The HTTP status that says what this error says."""
    match error:
        case NotFoundError():
            return 404
        case JournalError():
            return 503
        case _:
            return 400


def on_fanout_error(request: Request, exception: Exception) -> Response:
    error: FanoutError = exception  # type: ignore[assignment]
    status = status_of(error)
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(request.scope, status, error.message, hint=error.hint, headers=headers)


def on_http_error(request: Request, error: Exception) -> Response:
    """The framework's own: no such route, or not with that method."""
    exception: HTTPException = error  # type: ignore[assignment]
    hint = None
    match exception.status_code:
        case 404:
            message = f"there is nothing at `{request.url.path}`"
            hint = "events are sent to `/e/KEY` with any key; `/api` says what else there is"
        case 405:
            allowed = ", ".join(sorted((exception.headers or {}).get("Allow", "").split(", ")))
            message = f"`{request.url.path}` does not take {request.method}"
            hint = f"it takes {allowed}" if allowed else None
        case _:
            message = str(exception.detail)
    return problem(request.scope, exception.status_code, message, hint=hint, headers=exception.headers)


def on_gone(_request: Request, _error: Exception) -> Response:
    """Whoever asked is not there any more."""
    return Response(status_code=400)


def on_defect(request: Request, error: Exception) -> Response:
    """Our own mistake: the traceback is on stderr, not in the answer."""
    traceback.print_exception(error)
    return problem(request.scope, 500, "something went wrong here", hint="the terminal of `fanout` says what")


def _is_from_person(scope: Scope) -> bool:
    path: str = scope["path"]
    if path.startswith(_FOR_PROGRAMS) or path == "/e":
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _page(status: int, message: str, hint: str | None) -> str:
    phrase = HTTPStatus(status).phrase
    words = "".join(f"<p>{escape(line)}</p>" for line in (message, hint) if line)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{status} {phrase}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="dark light">'
        f'<main><h1>{status} {phrase}</h1>{words}<p><a href="/">To the start</a></p></main></html>\n'
    )
