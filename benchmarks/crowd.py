"""Very many runs that wait, for the workloads that look at what they cost: made by an engine, from events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import fanout
from benchmarks import engine, measure
from benchmarks.engine import Project
from benchmarks.measure import BenchmarkError, Deadline, Figure, figure
from benchmarks.sending import follow_to_waiting, send_each
from benchmarks.settings import Options
from fanout.client import watched_events
from fanout.journal.family import Watched

RUNS = 100_000
LIMITS = {"memory_mb": 50.0, "making_mb": 50.0, "start_s": 2.0}
"""What an engine may need for all these runs: more memory than with an empty journal, and seconds to start."""
_REQUEST_EVENTS = 5_000


@dataclass(frozen=True)
class Crowd:
    """The runs of the events 1 to `runs`, all waiting; what it took an engine that had an empty journal before.

    `empty_mb` is its memory before the first event, `making_mb` what it then needed more at most.
    """

    runs: int
    runs_per_s: float
    bytes_a_run: float
    start_empty_s: float
    empty_mb: float
    making_mb: float

    @property
    def all(self) -> Watched:
        return Watched(1, self.runs)


@dataclass(frozen=True)
class Visit:
    """What another engine took to start on the journal with all these runs, and its peak memory beyond `empty_mb`."""

    start_s: float
    memory_mb: float


def make(
    place: Project, client: fanout.Client, runs: int, data: Callable[[int], dict[str, object]], deadline: Deadline
) -> Crowd:
    """Send so many events, numbered from 1, and wait until their runs do nothing but wait.

    Raises:
        BenchmarkError: one of them does not.
    """
    with engine.serve(place, deadline) as running:
        empty_mb = measure.memory_mb(running.pid)
        empty_bytes = journal_bytes(client)
        began = monotonic()
        accepted = send_each(client, map(data, range(1, runs + 1)), _REQUEST_EVENTS)
        # To look at all of them takes a while: only when the last ones wait.
        last = accepted[-_REQUEST_EVENTS:]
        follow_to_waiting(client, watched_events(last), len(last), deadline)
        follow_to_waiting(client, watched_events(accepted), runs, deadline)
        runs_per_s = runs / (monotonic() - began)
        making_mb = measure.peak_mb(running.pid) - empty_mb
    bytes_a_run = (journal_bytes(client) - empty_bytes) / runs
    return Crowd(runs, runs_per_s, bytes_a_run, running.start_s, empty_mb, making_mb)


def journal_bytes(client: fanout.Client) -> int:
    """The size of the journal, whether its pages are in the file yet or still in the write-ahead log."""
    scalar = client._connection._journal._scalar  # noqa: SLF001 - nothing public shows it
    return int(scalar("PRAGMA page_count") * scalar("PRAGMA page_size"))


def figures_of(crowd: Crowd, visits: list[Visit]) -> dict[str, Figure]:
    figures = {
        "start_s": figure(*(each.start_s for each in visits)),
        "start_empty_s": figure(crowd.start_empty_s),
        "bytes_a_run": figure(crowd.bytes_a_run),
        "waiting_per_s": figure(crowd.runs_per_s),
    }
    if measure.can_see_processes():
        figures["memory_mb"] = figure(*(each.memory_mb for each in visits))
        figures["making_mb"] = figure(crowd.making_mb)
    return figures


def check_limits(figures: Mapping[str, Figure], limits: Mapping[str, float], options: Options) -> None:
    """Raises BenchmarkError for a median that is not below its limit. Limits are for the whole size."""
    if options.scale < 1:
        return
    for name, limit in limits.items():
        if name in figures and figures[name].median >= limit:
            raise BenchmarkError(f"`{name}` is {figures[name].median:.3g}, it has to be below {limit:g}")
