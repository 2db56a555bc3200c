"""Anything that the document allows, and much that it does not, is answered as the document says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from fanout.config import load
from fanout.web.api import routes as api
from tests.outputs import story
from tests.unit.filled import event_id, run_id
from tests.web.conftest import client_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it is built on
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.python import asgi
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )
    from schemathesis.transport.asgi import ASGI_TRANSPORT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Send

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_THERE = {
    "runs": run_id(1), "why": run_id(9), "trace": run_id(4), "events": event_id(1), "functions": "audit",
    "cron": "audit",
}  # fmt: skip
_MEANT = schemathesis.openapi.from_dict(api.document())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[asgi.ASGIClient]:
    root = tmp_path_factory.mktemp("shop")
    story.tell(root)
    with client_of(load(root / "fanout.toml")) as site:
        app: Any = _Going(site.app).respond
        with asgi.get_client(app) as client:
            yield client


class _Going:
    """The site, whose life is not that of one request, as the client here takes it to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def respond(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        while True:
            message = await receive()
            phase = message["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{phase}.complete"})
            if phase == "shutdown":
                return


@_MEANT.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_is_answered_as_documented(case: schemathesis.Case[Any], shop: asgi.ASGIClient) -> None:
    given = case.path_parameters
    if given and len(given["id"]) % 2:
        # What is made up is never there.
        given["id"] = _THERE[case.operation.path.split("/")[2]]
    response = ASGI_TRANSPORT.send(case, session=shop, app=None, base_url="http://127.0.0.1:8288")
    case.validate_response(response, checks=_CHECKS)
