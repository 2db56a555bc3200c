"""`/metrics` for Prometheus, read from the journal when it is asked for: so it is true of all processes, and after
restarts. What is made of it is kept for a while, the longer the more it cost.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import Route

from fanout import __version__
from fanout.engine import lock
from fanout.journal.logs import logs_path
from fanout.journal.metrics import STEP_BUCKETS_MS, Metrics
from fanout.model import RunState
from fanout.views import words
from fanout.web.site import site_of

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader
    from fanout.web.site import Site

_WINDOW_MS = 15 * 60 * 1000
_WINDOW = "in the last 15 minutes, at most of the newest 10,000"
_MOST_FUNCTIONS = 500
"""Of more, those with the fewest runs are told as one."""
_OTHERS = "(others)"
_IDLE_SHARE = 9
"""So many times as long as a reading took, it is not done again."""


class _Read(Collector):
    """What was read, as families of metrics."""

    def __init__(self, found: Metrics | None, journal: Path, now: int) -> None:
        self._found = found
        self._journal = journal
        self._now = now
        self._names = _most_used(found) if found is not None else frozenset()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._of_process()
        if self._found is not None:
            yield from self._of_runs(self._found)
            yield from self._recent(self._found)

    def _of_process(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("fanout_build_info", "The version of fanout.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        has_engine = lock.holder(self._journal) is not None
        yield GaugeMetricFamily("fanout_engine_up", "1 if an engine has the journal.", value=int(has_engine))
        logs = logs_path(self._journal)
        for name, path, what in (
            ("fanout_journal_bytes", self._journal, "the journal"),
            ("fanout_journal_wal_bytes", _wal_of(self._journal), "the journal's write-ahead log"),
            ("fanout_logs_bytes", logs, "the logs of runs, their write-ahead log apart"),
        ):
            yield GaugeMetricFamily(name, f"Size of {what}.", value=_size(path))

    def _of_runs(self, found: Metrics) -> Iterator[Metric]:
        runs = GaugeMetricFamily(
            "fanout_runs", "Runs in the journal; old ones are removed from it.", labels=["function", "state"]
        )
        for (function, state), number in sorted(self._summed(found.runs).items()):
            runs.add_metric([function, state], number)
        yield runs
        yield CounterMetricFamily("fanout_runs_made", "Runs that were ever made.", value=found.runs_made)
        yield CounterMetricFamily("fanout_events_received", "Events that ever came.", value=found.events_received)
        yield GaugeMetricFamily(
            "fanout_events_unrouted", "Events that no engine has looked at yet.", value=found.events_unrouted
        )
        yield GaugeMetricFamily(
            "fanout_requests_open", "Requests that no engine has dealt with yet.", value=found.requests_open
        )
        depth = GaugeMetricFamily("fanout_queue_depth", "Runs that are queued.", labels=["function"])
        age = GaugeMetricFamily(
            "fanout_queue_oldest_age_seconds", "For how long the oldest of them is queued.", labels=["function"]
        )
        depths: dict[str, int] = {}
        oldest: dict[str, int] = {}
        for queue in found.queues:
            name = self._name(queue.function)
            depths[name] = depths.get(name, 0) + queue.number
            oldest[name] = min(oldest.get(name, queue.oldest_at), queue.oldest_at)
        for name, number in sorted(depths.items()):
            depth.add_metric([name], number)
            age.add_metric([name], max(self._now - oldest[name], 0) / 1000)
        yield depth
        yield age

    def _recent(self, found: Metrics) -> Iterator[Metric]:
        steps = GaugeHistogramMetricFamily(
            "fanout_recent_step_duration_seconds",
            f"How long steps took, their retries included, of runs queued {_WINDOW}.",
            labels=["function"],
        )
        times: dict[str, tuple[list[int], int]] = {}
        for each in found.steps:
            name = self._name(each.function)
            counts, took = times.get(name, ([0] * (len(STEP_BUCKETS_MS) + 1), 0))
            counts = [before + more for before, more in zip(counts, (*each.within, each.number), strict=True)]
            times[name] = counts, took + each.took_ms
        limits = [*(str(limit / 1000) for limit in STEP_BUCKETS_MS), "+Inf"]
        for name, (counts, took) in sorted(times.items()):
            steps.add_metric([name], [*zip(limits, map(float, counts), strict=True)], took / 1000)
        yield steps
        for metric, said, numbers in (
            (
                "fanout_recent_failed_attempts",
                f"Attempts that failed {_WINDOW}.",
                {each.function: each.number for each in found.failed},
            ),
            (
                "fanout_recent_retries",
                f"Of these, those that were tried again {_WINDOW}.",
                {each.function: each.retried for each in found.failed},
            ),
            ("fanout_recent_crashes", f"Workers that died of runs queued {_WINDOW}.", found.crashes),
        ):
            family = GaugeMetricFamily(metric, said, labels=["function"])
            summed: dict[str, int] = {}
            for function, number in numbers.items():
                summed[self._name(function)] = summed.get(self._name(function), 0) + number
            for name, number in sorted(summed.items()):
                family.add_metric([name], number)
            yield family
        yield from self._of_cron(found)

    def _of_cron(self, found: Metrics) -> Iterator[Metric]:
        late = GaugeMetricFamily(
            "fanout_recent_cron_lateness_seconds",
            f"How long after their times the runs of cron ticks began {_WINDOW}.",
            labels=["quantile"],
        )
        for quantile, value in (("0.5", found.cron.late.p50), ("0.95", found.cron.late.p95)):
            if value is not None:
                late.add_metric([quantile], value / 1000)
        yield late
        if found.last_tick_at is not None:
            yield GaugeMetricFamily(
                "fanout_cron_last_tick_timestamp_seconds",
                "The time of the last tick that there was.",
                value=found.last_tick_at / 1000,
            )

    def _summed(self, counts: dict[tuple[str, RunState], int]) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for (function, state), number in counts.items():
            group = self._name(function), str(state)
            found[group] = found.get(group, 0) + number
        return found

    def _name(self, function: str) -> str:
        return function if function in self._names else _OTHERS


def _most_used(found: Metrics) -> frozenset[str]:
    """The functions that are told by name."""
    counts: dict[str, int] = {}
    for (function, _), number in found.runs.items():
        counts[function] = counts.get(function, 0) + number
    return frozenset(sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_FUNCTIONS])


def _wal_of(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-wal")


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


class _Kept:
    """The last answer, and until when it will do. One reading at a time, whoever asks."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._text = b""
        self._until = 0.0

    async def text(self, site: Site) -> bytes:
        async with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._text = await _text(site)
                ended = time.monotonic()
                self._until = ended + _IDLE_SHARE * (ended - began)
            return self._text


async def _text(site: Site) -> bytes:
    now, journal = words.now(), site.config.journal

    def read(reader: JournalReader) -> Metrics:
        return reader.metrics(now, now - _WINDOW_MS)

    found = await site.look(read) if journal.exists() else None
    registry = CollectorRegistry()
    registry.register(_Read(found, journal, now))
    return generate_latest(registry)


def routes() -> list[BaseRoute]:
    kept = _Kept()

    async def metrics(request: Request) -> Response:
        # The header is given as it is: it names a character set already.
        return Response(await kept.text(site_of(request)), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/metrics", metrics)]
