"""W8: very many runs through one engine: whether throughput, and all that it holds, stay what they were at first."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import fanout
from benchmarks import engine, measure
from benchmarks.fan_out import FUNCTIONS, PLAIN, STEPS
from benchmarks.measure import Deadline, Figure, figure
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES
from benchmarks.sending import check_runs, follow_to_completion, send_in_batches
from benchmarks.settings import Options, Result, Sample, settings_of
from fanout import config
from fanout.client import watched_events
from fanout.journal.appender import AcceptedEvent

_SAMPLES = 10
_PORTION_EVENTS = 1_000
_PORTIONS_AHEAD = 2
"""So many portions are in the journal while the oldest of them is waited for: the engine never runs dry."""
_MB = 2**20


class Observer:
    """Looks at an engine from outside, now and then; a sample is what became of it since the one before."""

    def __init__(self, pid: int, journal: Path) -> None:
        self._pid = pid
        self._wal = journal.with_name(f"{journal.name}-wal")
        self._since, self._cpu_s = time.monotonic(), measure.cpu_s(pid) if measure.can_see_processes() else 0.0
        self._wal_bytes = 0
        self.samples: list[Sample] = []

    def look(self) -> None:
        """The write-ahead log grows and is begun anew: the most is only seen by looking often."""
        self._wal_bytes = max(self._wal_bytes, self._wal.stat().st_size if self._wal.exists() else 0)

    def sample(self, runs: int) -> None:
        """So many runs have ended since the last one."""
        self.look()
        now, is_seen = time.monotonic(), measure.can_see_processes()
        cpu_s = measure.cpu_s(self._pid) if is_seen else 0.0
        self.samples.append(
            Sample(
                runs=runs + (self.samples[-1].runs if self.samples else 0),
                runs_per_s=runs / (now - self._since),
                cpu_s=(cpu_s - self._cpu_s) / runs * 1_000,
                memory_mb=measure.memory_mb(self._pid) if is_seen else 0.0,
                wal_mb=self._wal_bytes / _MB,
                descriptors=measure.descriptors(self._pid),
                processes=measure.tree_size(self._pid),
            )
        )
        self._since, self._cpu_s, self._wal_bytes = now, cpu_s, 0


def run(options: Options) -> Result:
    """Portions of events, sent as fast as they are worked off."""
    deadline = Deadline.after(options.timeout_s)
    events_a_sample = max(1, options.scaled(options.runs) // (FUNCTIONS * _SAMPLES))
    with (
        engine.project(PLAIN, options.processes) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        began = time.monotonic()
        observer = Observer(running.pid, config.load(place.config).journal)
        for _ in range(_SAMPLES):
            last = _run_events(client, events_a_sample, options.batch, observer, deadline)
            observer.sample(events_a_sample * FUNCTIONS)
        wall_s = time.monotonic() - began
        runs = client.wait(last, deadline.remaining_s())
        check_runs(runs, expected=len(last) * FUNCTIONS, steps=STEPS, payload_bytes=PAYLOAD_BYTES)
        done = observer.samples[-1].runs
        settings = settings_of(place, client, runs=done, batch=options.batch, payload_bytes=PAYLOAD_BYTES)
    return Result(_figures(observer.samples, wall_s), settings, tuple(observer.samples))


def _figures(samples: list[Sample], wall_s: float) -> dict[str, Figure]:
    """`memory_mb`, `descriptors` and `processes` are what the engine grew by since the first sample.

    `ratio` is the throughput of the last tenth to that of the first, `cpu_ratio` what the engine took for a run there.
    """
    first, last = samples[0], samples[-1]
    figures = {
        "runs_per_s": last.runs / wall_s,
        "steps_per_s": last.runs * STEPS / wall_s,
        "ratio": last.runs_per_s / first.runs_per_s,
        "wall_s": wall_s,
        "wal_mb": max(sample.wal_mb for sample in samples),
    }
    if measure.can_see_processes():
        figures |= {
            "cpu_ratio": last.cpu_s / first.cpu_s if first.cpu_s else 1.0,
            "memory_mb": last.memory_mb - first.memory_mb,
            "descriptors": last.descriptors - first.descriptors,
            "processes": last.processes - first.processes,
        }
    return {name: figure(value) for name, value in figures.items()}


def _run_events(
    client: fanout.Client, events: int, batch: int, observer: Observer, deadline: Deadline
) -> list[AcceptedEvent]:
    """All runs of so many events; the events of the last portion.

    Raises:
        BenchmarkError: a run was not completed.
    """
    ahead: deque[list[AcceptedEvent]] = deque()
    portion: list[AcceptedEvent] = []
    for sent in range(0, events, _PORTION_EVENTS):
        portion = send_in_batches(client, min(_PORTION_EVENTS, events - sent), batch)
        observer.look()
        ahead.append(portion)
        if len(ahead) > _PORTIONS_AHEAD:
            _complete(client, ahead.popleft(), deadline)
    for left in ahead:
        _complete(client, left, deadline)
    return portion


def _complete(client: fanout.Client, portion: list[AcceptedEvent], deadline: Deadline) -> None:
    follow_to_completion(client, watched_events(portion), len(portion) * FUNCTIONS, deadline)
