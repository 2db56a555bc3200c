"""`/events`: what has happened, who it came from, and what it has started; one event in full below it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Route

from fanout.errors import UsageError
from fanout.journal.received import EventFilter, ListedEvent
from fanout.model import RESERVED_PREFIX
from fanout.views import events as views
from fanout.views.filters import moment
from fanout.views.heard import told_apart
from fanout.web.pages.forms import address, asked_of
from fanout.web.pages.hearing import Hearing, heard_names, hearing
from fanout.web.pages.rendering import Flash, flash_of, page
from fanout.web.pages.sent import heard
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.heard import Heard
    from fanout.journal.received import FullEvent
    from fanout.journal.sqlite_reader import JournalReader

PAGE_SIZE = 50
_MOST_PASSED = 5_000
"""Events of one moment: as many as a request can have."""
_SAID = {
    "sent": Flash("good", "Sent. What it starts shows up here by itself."),
    "duplicate": Flash("", "An event with this id was sent before, in the last 24 hours: it starts no function twice."),
}
SINCE = (("", "Any time"), ("15m", "Last 15 min"), ("1h", "Last hour"), ("24h", "Last 24 h"), ("7d", "Last 7 days"))


class _Listed(NamedTuple):
    """An event, and why it has no runs, if it has none; `is_unheard`: that is because nobody listens."""

    event: ListedEvent
    source: str
    without: str
    is_unheard: bool
    hint: str


class _Place(NamedTuple):
    """Where a page begins: at events of this moment, of which so many have been shown. None: at the newest."""

    at: int | None = None
    passed: int = 0


def routes() -> list[BaseRoute]:
    return [Route("/events", events, methods=["GET"]), Route("/events/{id:path}", event, methods=["GET"])]


async def events(request: Request) -> Response:
    asked = asked_of(request)
    place = _place(asked)
    name, since, is_unheard = asked.get("name"), asked.get("since"), "unheard" in asked
    wanted = EventFilter(_pattern(name), moment("since", since), place.at, is_unheard)
    found, is_more, names = await site_of(request).look(lambda reader: _page(reader, wanted, place))
    kept = {"name": name, "since": since, "unheard": "1" if is_unheard else None}
    return page(
        request,
        "events.html",
        found=found,
        names=names,
        name=name or "",
        since=since or "",
        since_choices=_choices(since),
        is_unheard=is_unheard,
        is_filtered=bool(name or since or is_unheard),
        heard=address("/events", **kept | {"unheard": None}),
        unheard=address("/events", **kept | {"unheard": "1"}),
        newest=None if place.at is None else address("/events", **kept),
        older=_older(found, place, kept) if is_more else None,
    )


def _choices(since: str | None) -> Sequence[tuple[str, str]]:
    return SINCE if since is None or since in dict(SINCE) else (*SINCE, (since, f"Since {since}"))


def _pattern(name: str | None) -> str | None:
    """What is typed may be any part of a name; of our own events it is the beginning."""
    if name is None or "*" in name:
        return name
    return f"{name}*" if name.startswith(RESERVED_PREFIX) else f"*{name}*"


def _place(asked: dict[str, str]) -> _Place:
    try:
        at, passed = (int(asked[field]) if field in asked else None for field in ("until", "passed"))
    except ValueError:
        raise UsageError("this is no page of events", hint="begin at `/events`") from None
    if at is None:
        return _Place()
    if not (0 <= at < 2**53 and 0 <= (passed or 0) <= _MOST_PASSED):
        raise UsageError("this is no page of events", hint="begin at `/events`")
    return _Place(at, passed or 0)


def _page(reader: JournalReader, wanted: EventFilter, place: _Place) -> tuple[list[_Listed], bool, list[str]]:
    found = reader.events(wanted, PAGE_SIZE + place.passed + 1)
    passed = [event for event in found if event.received_at == place.at][: place.passed]
    left = [event for event in found if event not in passed] if passed else found
    shown = left[:PAGE_SIZE]
    unheard = views.names_unheard(reader, shown)
    hints = {name: hearing(reader, name).hint for name in unheard}
    listed = [_listed(event, unheard, hints.get(event.name, "")) for event in shown]
    return listed, len(left) > PAGE_SIZE, heard_names(reader)


def _listed(event: ListedEvent, unheard: Collection[str], hint: str) -> _Listed:
    without = "" if event.counts else views.without_runs(event, unheard)
    return _Listed(event, views.source_in_words(event, is_short=True), without, without == "nobody listens", hint)


def _older(found: Sequence[_Listed], place: _Place, kept: dict[str, str | None]) -> str:
    """The place behind the last one: events of the same moment are told apart by how many have been shown."""
    last = found[-1].event.received_at
    passed = sum(each.event.received_at == last for each in found) + (place.passed if place.at == last else 0)
    return address("/events", **kept, until=last, passed=passed)


async def event(request: Request) -> Response:
    id_: str = request.path_params["id"]

    def look(reader: JournalReader) -> tuple[FullEvent, _Listed, Hearing, list[Heard]]:
        found = reader.event(id_)
        unheard = views.names_unheard(reader, [found.listed])
        hears = hearing(reader, found.listed.name)
        return found, _listed(found.listed, unheard, hears.hint), hears, heard(request, reader, found.listed.id)

    found, listed, hears, heard_by = await site_of(request).look(look)
    return page(
        request,
        "event.html",
        flash=flash_of(request, _SAID),
        event=found,
        listed=listed,
        below=[list(views.below(caused)) for caused in found.runs],
        hears=hears,
        heard_by=told_apart(heard_by),
        can_be_sent=not found.listed.name.startswith(RESERVED_PREFIX),
    )
