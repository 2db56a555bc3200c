"""The routes of the JSON API, and the document and the page that describe it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from fanout.web.api import actions, openapi, queries
from fanout.web.api.call import json
from fanout.web.event_api import receive_events
from fanout.web.pages import reference

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

CALLS = (*queries.CALLS, *actions.CALLS)


@cache
def document() -> dict[str, Any]:
    return openapi.document(CALLS)


async def _document(_request: Request) -> Response:
    return json(200, document())


async def _page(request: Request) -> Response:
    return reference.show(request, document())


def routes() -> list[BaseRoute]:
    return [
        Route("/api", _page),
        Route("/api/openapi.json", _document),
        Route("/api/events", receive_events, methods=["POST"], name="api:sendEvents"),
        *(call.route() for call in CALLS),
    ]
