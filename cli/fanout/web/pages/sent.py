"""What the site remembers of the events that people have sent by its form: which waits they may have ended.

A wait is gone from the journal when it is over, so only who looked before can tell what an event has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fanout.journal.appender import AcceptedEvent
from fanout.journal.heard import Heard, Hearer

if TYPE_CHECKING:
    from starlette.requests import Request

    from fanout.journal.sqlite_reader import JournalReader

_MOST_EVENTS = 50
_MOST_HEARERS = 1_000


class Sent(NamedTuple):
    accepted: AcceptedEvent
    hearers: frozenset[Hearer]


def remember(request: Request, accepted: AcceptedEvent, hearers: set[Hearer]) -> None:
    """For a while: the newest few of them, and no more of their waits than a page can show."""
    known = _known(request)
    known[accepted.id] = Sent(accepted, frozenset(sorted(hearers, key=lambda each: each[:3])[:_MOST_HEARERS]))
    for oldest in list(known)[:-_MOST_EVENTS]:
        del known[oldest]


def heard(request: Request, reader: JournalReader, event: str) -> list[Heard]:
    """The runs that this event has woken or cancelled, as far as is known here."""
    sent = _known(request).get(event)
    return [] if sent is None or not sent.hearers else reader.heard(sent.hearers, [sent.accepted])


def _known(request: Request) -> dict[str, Sent]:
    state = request.app.state
    if not hasattr(state, "sent"):
        state.sent = {}
    known: dict[str, Sent] = state.sent
    return known
