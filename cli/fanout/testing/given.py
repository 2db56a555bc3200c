"""Events as tests give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.codec import encode_output
from fanout.errors import EventError
from fanout.events import NewEvent, parse
from fanout.model import RESERVED_PREFIX, Event, Sendable

if TYPE_CHECKING:
    from fanout.worker.signatures import Shape

EventLike = Sendable | Event[Any]
_PLACEHOLDER = "test"


def new_events(events: Sequence[EventLike]) -> list[NewEvent]:
    """The events, checked as those that are sent.

    Raises:
        EventError: one is no event.
    """
    return [new_event(each) for each in events]


def new_event(event: EventLike | str, data: Shape | None = None) -> NewEvent:
    """One event, or one of this name with this data. It may have the name of one of fanout's own."""
    if isinstance(event, str):
        event = {"name": event, "data": {} if data is None else data}
    fields: dict[str, Any] = msgspec.to_builtins(event) if isinstance(event, Event) else dict(event)
    name = fields.get("name")
    if name is None and "name" not in fields:
        raise EventError(
            "the event has no name", hint='write `{"name": "app/user.signup", "data": {...}}`, or give `data=` alone'
        )
    is_own = isinstance(name, str) and name.startswith(RESERVED_PREFIX)
    if is_own:
        fields["name"] = _PLACEHOLDER
    (made,) = parse(encode_output("the event", fields, verb="has").encode(), "the event")
    return msgspec.structs.replace(made, name=name) if is_own else made


def plain(data: Shape | None) -> dict[str, Any]:
    """The data of an event as JSON values."""
    return msgspec.json.decode(encode_output("the data", {} if data is None else data, verb="has"), type=dict[str, Any])
