"""The application: every route there is, and what stands before all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from fanout.web.site import Site

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from fanout.config import Config


def application(config: Config) -> Starlette:
    """The site of a project, without a server."""
    app = Starlette(routes=[*_routes()])
    app.state.site = Site(config)
    return app


def _routes() -> list[BaseRoute]:
    return []
