"""Runs that an event does not start but wakes, or cancels. No SQL.

A wait is gone from the journal when it is over. So whoever sends looks before for those that the event may end, and
afterwards whether it did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from fanout.events import NewEvent
from fanout.model import RunState

MOST_HEARERS = 100_000
"""So many waits are looked at for one request."""


class Hearer(NamedTuple):
    """A wait that the event at this place of a request may end; without a step, it cancels the run.

    `condition` is what is true then, as CEL, besides what has been compared already.
    """

    event: int
    run: int
    step: str
    condition: str | None
    expires_at: int | None


class Heard(NamedTuple):
    """A run that an event has woken, at this step, or cancelled if there is no step; its state is today's."""

    run: int
    id: str
    function: str
    state: RunState
    step: str
    event_id: str


def places(events: Iterable[NewEvent]) -> dict[str, list[int]]:
    """Where in a request the events of each name are."""
    found: dict[str, list[int]] = {}
    for place, event in enumerate(events):
        found.setdefault(event.name, []).append(place)
    return found


def as_dict(event: NewEvent) -> dict[str, Any]:
    """What can be said of an event before the journal has it."""
    decode = msgspec.json.decode
    optional = {
        "id": event.id,
        "ts": event.ts,
        "user": None if event.user is None else decode(event.user),
        "v": event.v,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return {"name": event.name, "data": decode(event.data), **given}
