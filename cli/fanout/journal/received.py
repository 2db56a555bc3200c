"""Events as people see them: where each came from, and the runs that are for it. No SQL."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from fanout.journal.family import FamilyRun
from fanout.model import RunState


class Source(StrEnum):
    """Who an event came from. `duplicate` was sent too, but its id had been given before, within 24 hours; `engine`
    says what became of a run; `invoke` is the data of a run that somebody asked for by name.
    """

    SENT = "sent"
    DUPLICATE = "duplicate"
    STEP = "step"
    CRON = "cron"
    ENGINE = "engine"
    INVOKE = "invoke"


class EventFilter(NamedTuple):
    """`name` may hold `*` for any characters. Times are when events were accepted. `is_unheard`: without any runs."""

    name: str | None = None
    since: int | None = None
    until: int | None = None
    is_unheard: bool = False

    @property
    def is_any(self) -> bool:
        return self == EventFilter()


class Origin(NamedTuple):
    """The run that sent or caused an event."""

    run: str
    function: str


class ListedEvent(NamedTuple):
    """`functions` are those of its runs. `is_routed`: an engine has looked at it."""

    key: int
    id: str
    name: str
    ts: int
    received_at: int
    source: Source
    origin: Origin | None
    is_routed: bool
    counts: Mapping[RunState, int]
    functions: tuple[str, ...]


class Caused(NamedTuple):
    """A run that an event has started, or was added to, and what it has caused in turn: the names of events that it
    has sent, and the functions that it has invoked, how often each.
    """

    run: FamilyRun
    sent: Mapping[str, int]
    invoked: Mapping[str, int]


class FullEvent(NamedTuple):
    """`data` and `user` are JSON text."""

    listed: ListedEvent
    v: str | None
    data: str
    user: str | None
    runs: tuple[Caused, ...]
    runs_in_all: int
