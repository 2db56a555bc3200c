"""What keeps a run waiting, what would cancel it, and whom it has to do with, as people see it. No SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fanout.model import RunState, StepKind


class AwaitedEvent(NamedTuple):
    """An event by this name whose value at `path` is `value` (JSON text), if there is a path, and for which the CEL
    `condition` is true, if there is one. `expires_at`: not after this time.
    """

    event: str
    path: str
    value: str
    condition: str | None
    expires_at: int | None


class Children(NamedTuple):
    """The runs of one function that a step has invoked, by state; `id` is that of the first."""

    step: str
    function: str
    id: str
    counts: Mapping[RunState, int]


class Awaited(NamedTuple):
    """What a waiting step waits for: a time, an event, or the children of an invoke or a map.

    `has_more`: not all items of the map have become runs yet.
    """

    step: str
    kind: StepKind
    due_at: int | None
    event: AwaitedEvent | None = None
    children: Children | None = None
    has_more: bool = False


class Relatives(NamedTuple):
    """Whom a run comes from and what it has caused.

    `sent_by` is the run that sent its event; `parent_step` the step of its parent that invoked it, for the `item`-th
    item if that is a map, with `item_key` if the map gives keys. `sent` are the names of the events that it has sent,
    how many of each, and the id of the first.
    """

    sent_by: str | None
    parent_step: str | None
    item: int | None
    item_key: str | None
    children: tuple[Children, ...]
    sent: tuple[tuple[str, int, str], ...]
    replays: tuple[tuple[str, RunState], ...]
