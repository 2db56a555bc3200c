"""To ask the engine for something, and to wait a little for what comes of it: what the API and the pages share."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.engine import lock

if TYPE_CHECKING:
    from fanout.web.site import Site

_PATIENCE_S = 2.0
"""So long an answer waits for the engine."""
_FIRST_NAP_S = 0.005
_LONGEST_NAP_S = 0.1


class Outcome(NamedTuple):
    """What has become of a request by now. `made`: the key of the run that it has made, if that is one."""

    request: int
    is_handled: bool
    has_engine: bool
    made: int | None


async def ask(site: Site, kind: str, body: dict[str, Any]) -> Outcome:
    """Ask the engine for this, and wait a little for it: one that runs does so at once."""
    request = await site.request(kind, body)
    until, nap = time.monotonic() + _PATIENCE_S, _FIRST_NAP_S
    while True:
        has_engine = lock.holder(site.config.journal) is not None
        is_handled, made = await site.look(lambda reader: reader.request_answer(request))
        if is_handled or not has_engine or time.monotonic() >= until:
            return Outcome(request, is_handled, has_engine, made)
        await asyncio.sleep(nap)
        nap = min(2 * nap, _LONGEST_NAP_S)
