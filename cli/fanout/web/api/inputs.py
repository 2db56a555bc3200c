"""What the JSON API is asked: types that check parameters and bodies, and that its documentation is made from."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fanout.model import RunState

MOST_LISTED = 500
LAST_MS = 2**53
_LONGEST_TEXT = 1_000

Text = Annotated[str, Meta(max_length=_LONGEST_TEXT)]
Moment = Annotated[
    str,
    Meta(max_length=64, description="Milliseconds UTC, `2h` for so long ago, or a time such as `2025-10-26T02:30`."),
]
Limit = Annotated[int, Meta(ge=1, le=MOST_LISTED, description="So many at most.")]
AtMs = Annotated[int, Meta(ge=0, le=200_000_000_000_000)]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, or an empty body."""


class RunsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs; names of functions and events may have an open tail: `app/*`."""

    state: tuple[RunState, ...] = ()
    function: Text | None = None
    event: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    error: Text | None = None
    limit: Limit = 20
    before: Annotated[Text, Meta(description="The id of a run: only those that came before it.")] | None = None


class LogsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines: those behind number `after`."""

    after: Annotated[int, Meta(ge=0, le=LAST_MS)] = 0
    step: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=5_000)] = 1_000


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events; `name` may have `*` in it. `unheard`: those that have started nothing."""

    name: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    unheard: bool = False
    limit: Limit = 20


class TraceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of how many runs and events at most."""

    limit: Annotated[int, Meta(ge=1, le=20_000)] = 2_000


class CronQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many next ticks of each schedule."""

    number: Annotated[int, Meta(ge=0, le=100)] = 0


class StatsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Since when; `all` is since the first run."""

    since: Moment = "24h"
    function: Text | None = None
    slices: Annotated[int, Meta(ge=1, le=500)] = 60


class ReplayOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run is replayed. `again`: though it was replayed already. `set`: results of steps."""

    from_start: bool = False
    from_step: Text | None = None
    again: bool = False
    set: dict[Text, msgspec.Raw] = {}


class ReplayMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs, by ids or by the same filters as in lists, and how. Without `ids`, `state` or `error` it is refused.

    `interval_ms`: between two starts. `dry_run`: only say what would become of their steps.
    """

    ids: Annotated[tuple[Text, ...], Meta(max_length=10_000)] = ()
    state: tuple[RunState, ...] = ()
    function: Text | None = None
    event: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    error: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=LAST_MS)] | None = None
    from_start: bool = False
    from_step: Text | None = None
    again: bool = False
    set: dict[Text, msgspec.Raw] = {}
    interval_ms: Annotated[float, Meta(gt=0, le=86_400_000)] | None = None
    dry_run: bool = False


class Invocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data that the function gets."""

    data: dict[str, Any] = {}


class TickWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tick of that time, or of now; of the schedule with that expression and zone, or of the first."""

    at: AtMs | None = None
    cron: Text | None = None
    timezone: Text | None = None
