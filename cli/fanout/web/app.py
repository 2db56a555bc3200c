"""The application: every route there is, and what stands before all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fanout.errors import FanoutError
from fanout.web import assets, event_api, health, live, metrics, problems
from fanout.web.access import Access, access
from fanout.web.api import routes as api_routes
from fanout.web.pages import events, functions, graph, replay, run, runs, send, stats, trace
from fanout.web.security import Guard
from fanout.web.site import Site

if TYPE_CHECKING:
    from fanout.config import Config

# The first route that fits is taken.
_PARTS = (
    event_api,
    live,
    assets,
    health,
    metrics,
    api_routes,
    runs,
    run,
    events,
    trace,
    functions,
    graph,
    stats,
    send,
    replay,
)


def application(config: Config, allowed: Access | None = None) -> Guard:
    """The site of a project, without a server, guarded. `allowed` is for a site at the default address if left out."""
    app = Starlette(
        routes=[route for part in _PARTS for route in part.routes()],
        exception_handlers={
            FanoutError: problems.on_fanout_error,
            HTTPException: problems.on_http_error,
            ClientDisconnect: problems.on_gone,
            Exception: problems.on_defect,
        },
        lifespan=_lifespan,
    )
    app.state.site = Site(config)
    return Guard(app, access({}, "127.0.0.1", config.port) if allowed is None else allowed)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await app.state.site.close()
