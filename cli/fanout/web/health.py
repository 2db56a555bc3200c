"""`/health`: whether the site can do its work, for whoever watches over processes. Open to all, so it says little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from fanout.engine import lock
from fanout.errors import JournalError, NotFoundError
from fanout.web.api.call import json
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


async def _health(request: Request) -> Response:
    """200 if the journal can be read and written, or there is none yet, and our engine has no problem with it.

    503 if not. That no engine runs is no fault here.
    """
    site = site_of(request)
    journal = site.config.journal
    is_readable, problem = True, None
    try:
        if journal.exists():
            await site.look(lambda reader: reader.last_run_key())
    except NotFoundError:
        pass  # It has just been removed.
    except JournalError as error:
        is_readable, problem = False, error.without(journal)
    problem = problem or await site.check()
    is_well = is_readable and problem is None
    answer: dict[str, Any] = {
        "status": "ok" if is_well else "failing",
        "engine": lock.holder(journal) is not None,
        "journal": is_readable,
        "problem": problem,
    }
    return json(200 if is_well else 503, answer)


def routes() -> list[BaseRoute]:
    return [Route("/health", _health)]
