"""`/send`: an event by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.redaction import HIDDEN
from fanout.durations import parse_duration
from fanout.errors import EventError, FanoutError
from fanout.events import NewEvent, build, parse
from fanout.model import RESERVED_PREFIX
from fanout.views import words
from fanout.views.filters import moment
from fanout.web.pages.forms import address, asked_of, form_of
from fanout.web.pages.hearing import Hearing, heard_names, hearing
from fanout.web.pages.rendering import page
from fanout.web.pages.sent import remember
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.heard import Hearer
    from fanout.journal.sqlite_reader import JournalReader

_UNHEARD = "unheard"


class Filled(NamedTuple):
    """The form as it was filled in. `delay` is `10m`, or a date and time."""

    name: str = ""
    data: str = "{}"
    id: str = ""
    delay: str = ""


class Wrong(NamedTuple):
    """What is wrong with which field."""

    field: str
    message: str
    hint: str | None


def routes() -> list[BaseRoute]:
    return [Route("/send", form, methods=["GET"]), Route("/send", send, methods=["POST"])]


async def form(request: Request) -> Response:
    asked = asked_of(request)
    filled = Filled(name=asked.get("name", ""))
    if "again" in asked:
        event = await site_of(request).look(lambda reader: reader.event(asked["again"]))
        if not event.listed.name.startswith(RESERVED_PREFIX):
            filled = Filled(event.listed.name, msgspec.json.format(event.data, indent=2))
    return await _form(request, filled, has_hidden=bool(site_of(request).config.redact) and HIDDEN in filled.data)


async def _form(
    request: Request,
    filled: Filled,
    wrong: Wrong | None = None,
    unheard: Hearing | None = None,
    *,
    has_hidden: bool = False,
) -> Response:
    site = site_of(request)
    # The first event makes the journal: until then there is nothing to look at.
    names = await site.look(heard_names) if site.config.journal.exists() else []
    return page(
        request,
        "send.html",
        status=200 if wrong is None and unheard is None else 422,
        filled=filled,
        wrong=wrong,
        unheard=unheard,
        has_hidden=has_hidden,
        names=[name for name in names if not name.endswith("*")],
    )


async def send(request: Request) -> Response:
    """Store it, and go to its page. What nobody would hear has to be asked for once more."""
    site, sent = site_of(request), await form_of(request)
    filled = Filled(*(sent.get(field, "") for field in Filled._fields))
    event = _event(filled)
    if isinstance(event, Wrong):
        return await _form(request, filled, wrong=event)

    if _UNHEARD not in sent and site.config.journal.exists():
        heard = await site.look(lambda reader: hearing(reader, event.name))
        if heard.is_nobody:
            return await _form(request, filled, unheard=heard)

    def hearers(reader: JournalReader) -> set[Hearer]:
        return reader.hearers([event])

    # Those that begin to wait while the event is being stored may hear it as well.
    before = await site.look(hearers) if site.config.journal.exists() else set()
    try:
        [accepted] = await site.append_events([event])
    except EventError as error:
        return await _form(
            request, filled, wrong=Wrong("data", error.message.removeprefix("`the request`: "), error.hint)
        )
    remember(request, accepted, before | await site.look(hearers))
    said = "duplicate" if accepted.is_duplicate else "sent"
    return RedirectResponse(address(f"/events/{quote(accepted.id)}", said=said), 303)


def _event(filled: Filled) -> NewEvent | Wrong:
    """The event that the form says, or what is wrong with it."""
    try:
        event = build(filled.name.strip(), filled.data.strip() or "{}", "data")
    except EventError as error:
        message = error.message.replace("`--name`", "`name`")
        return Wrong("name" if message.startswith("`name`") else "data", message, error.hint)
    given: dict[str, object] = {"name": event.name}
    if filled.id.strip():
        given["id"] = filled.id.strip()
    try:
        if filled.delay.strip():
            given["ts"] = _ts(filled.delay.strip())
    except FanoutError as error:
        return Wrong("delay", error.message, error.hint)
    try:
        [parsed] = parse(msgspec.json.encode(given), "form")
    except EventError as error:
        message = error.message.removeprefix("`form` line 1: ")
        return Wrong(
            "delay" if "field `ts`" in message else "id", message.replace("field `ts`", "its time"), error.hint
        )
    return msgspec.structs.replace(event, id=parsed.id, ts=parsed.ts)


def _ts(said: str) -> int | None:
    """When it is to be: so long from now, or at that time."""
    try:
        return words.now() + round(parse_duration(said) * 1000)
    except (ValueError, OverflowError):
        return moment("delay", said)
