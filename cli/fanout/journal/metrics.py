"""What a journal comes to at one moment, for a monitoring system. No SQL."""

from __future__ import annotations

from typing import NamedTuple

from fanout.journal.statistics import Lateness
from fanout.model import RunState

STEP_BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)


class QueueDepth(NamedTuple):
    """Of a function: how many runs are queued, and when the oldest of them was."""

    function: str
    number: int
    oldest_at: int


class StepTimes(NamedTuple):
    """Of a function's steps: how many took as long as each of `STEP_BUCKETS_MS` at most, how many there were, and how
    long all of them took.
    """

    function: str
    within: tuple[int, ...]
    number: int
    took_ms: int


class FailedAttempts(NamedTuple):
    """Of a function: how many attempts failed, and how many of those were tried again."""

    function: str
    number: int
    retried: int


class Metrics(NamedTuple):
    """`runs` are those that are there; what is `made` or `received` counts those that have been removed too.

    `steps` are those of the newest runs since `since`, `failed` the attempts and `crashes` the deaths of workers of
    these runs, `cron` is about the ticks since then.
    """

    runs: dict[tuple[str, RunState], int]
    queues: tuple[QueueDepth, ...]
    runs_made: int
    events_received: int
    events_unrouted: int
    requests_open: int
    since: int
    steps: tuple[StepTimes, ...]
    failed: tuple[FailedAttempts, ...]
    crashes: dict[str, int]
    cron: Lateness
    last_tick_at: int | None
