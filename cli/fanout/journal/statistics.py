"""What runs, steps and failures of a stretch of time come to. No SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fanout.model import RunState


class Throughput(NamedTuple):
    """Runs by when they were queued: the number of each slice of time, and how many of those have failed."""

    first_at: int
    slice_ms: int
    runs: tuple[int, ...]
    failed: tuple[int, ...]


class Percentiles(NamedTuple):
    """In milliseconds; None where there is nothing to take them of."""

    p50: int | None = None
    p95: int | None = None


class Activity(NamedTuple):
    """A function's runs in each slice of time, and how many of those have failed."""

    runs: tuple[int, ...]
    failed: tuple[int, ...]


class FunctionFigures(NamedTuple):
    """`took`: from start to end, of runs that are completed or failed. `queued`: from the queue to the first start.

    `last_at` is when its newest run was queued.
    """

    function: str
    counts: Mapping[RunState, int]
    took: Percentiles
    queued: Percentiles
    last_at: int
    last_run: str
    last_state: RunState


class StepFigures(NamedTuple):
    """A step by name, the numbers behind repeated ones left out; `took` is from its first attempt to its end."""

    function: str
    step: str
    number: int
    took: Percentiles


class ErrorFigures(NamedTuple):
    """Failed attempts that failed alike: `message` is the first line. `last_run` is where it was seen last."""

    type: str
    message: str
    function: str
    number: int
    last_at: int
    last_run: str


class Attempts(NamedTuple):
    """How many attempts have failed, how many of those were tried again, and how many workers have died of runs."""

    failed: int
    retried: int
    crashes: int


class Lateness(NamedTuple):
    """How long after their times the runs of cron ticks have started."""

    ticks: int
    late: Percentiles


class Statistics(NamedTuple):
    """Of the runs that were queued since then, of one function or all.

    Times, of runs and steps, are those of the newest `timed_runs` of them, and errors those among the newest `failures`
    failed attempts. Errors come with the most frequent first, functions with those that have the most runs, steps with
    the slowest.
    """

    since: int
    until: int
    counts: Mapping[RunState, int]
    throughput: Throughput
    functions: tuple[FunctionFigures, ...]
    steps: tuple[StepFigures, ...]
    timed_runs: int
    are_all_runs_timed: bool
    errors: tuple[ErrorFigures, ...]
    failures: int
    are_all_failures_counted: bool
    attempts: Attempts
    cron: Lateness
