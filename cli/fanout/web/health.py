"""`/health`: whether the site can do its work, for whoever watches over processes. Open to all, so it says little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from fanout.engine import lock
from fanout.errors import JournalError
from fanout.web.api.call import json
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


async def _health(request: Request) -> Response:
    """200 if the journal can be read, or there is none yet; 503 if it can't. That no engine runs is no fault here."""
    site = site_of(request)
    journal = site.config.journal
    is_readable = True
    try:
        if journal.exists():
            await site.look(lambda reader: reader.last_run_key())
    except JournalError:
        is_readable = False
    answer: dict[str, Any] = {
        "status": "ok" if is_readable else "failing",
        "engine": lock.holder(journal) is not None,
        "journal": is_readable,
    }
    return json(200 if is_readable else 503, answer)


def routes() -> list[BaseRoute]:
    return [Route("/health", _health)]
