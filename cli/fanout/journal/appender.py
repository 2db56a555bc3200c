"""What any process may do to a journal, while an engine runs or not: append."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanout.core.event_schemas import EventSchemas
    from fanout.events import NewEvent


class AcceptedEvent(NamedTuple):
    """An event that is durable. `is_duplicate`: its id was given before, within 24 hours."""

    key: int
    id: str
    name: str
    is_duplicate: bool


class Appender(Protocol):
    """What any process may do to a journal, while an engine runs or not."""

    def event_schemas(self) -> EventSchemas:
        """What the code's functions say that the data of events has to be, as far as an engine has loaded it."""

    def append_events(self, events: Sequence[NewEvent], now: int) -> list[AcceptedEvent]:
        """Store all of the events, or none. They are durable on return."""

    def append_request(self, kind: str, body: dict[str, Any], now: int) -> int: ...

    def close(self) -> None: ...
