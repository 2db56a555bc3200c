"""Functions, their schedules and their queues as people see them: what the engine has left in the journal. No SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fanout.model import FunctionSpec, RunState


class KnownFunction(NamedTuple):
    """A function that the code has, or had. `paused_at`: since when its runs are not started.

    `is_stale`: when an engine last looked, the code of its app could not be loaded; this is what it had before.
    """

    spec: FunctionSpec
    is_present: bool
    is_stale: bool
    loaded_at: int
    paused_at: int | None


class RunCounts(NamedTuple):
    """How many runs each function has in each state, of the newest `counted` runs; `is_whole`: there are no others."""

    by_function: Mapping[str, Mapping[RunState, int]]
    counted: int
    is_whole: bool


class CronTick(NamedTuple):
    """A tick of a cron trigger, and the run that it has started; a skipped one has its `reason`."""

    function: str
    expression: str
    zone: str
    scheduled_at: int
    run_key: int
    run: str
    state: RunState
    reason: str | None


class Executing(NamedTuple):
    """A run that a worker has been at for a moment."""

    id: str
    function: str
    partition: str


class Queued(NamedTuple):
    """Where a queued run stands. `ahead`: of its function, with the same keys, so many are before it, counted up to a
    bound. `has_begun`: it was started before. `is_alone`: its next start is alone in a worker.
    """

    partition: str
    ahead: int
    has_begun: bool
    is_alone: bool


class Collected(NamedTuple):
    """A run that is held for more events. `name` is `batch:` or `debounce:` and the key; a batch has `size` so far."""

    name: str
    size: int
