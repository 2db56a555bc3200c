"""W8: very many runs through one engine: whether throughput and memory stay what they were at first."""

from __future__ import annotations

import time
from collections import deque

import fanout
from benchmarks import engine, measure
from benchmarks.fan_out import FUNCTIONS, PLAIN, STEPS
from benchmarks.measure import Deadline, figure
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES
from benchmarks.sending import check_runs, follow_to_completion, send_in_batches
from benchmarks.settings import Options, Result, Sample, settings_of
from fanout.client import watched_events
from fanout.journal.appender import AcceptedEvent

_SAMPLES = 10
_PORTION_EVENTS = 1_000
_PORTIONS_AHEAD = 2
"""So many portions are in the journal while the oldest of them is waited for: the engine never runs dry."""


def run(options: Options) -> Result:
    """Portions of events, sent as fast as they are worked off.

    `memory_mb` is what the engine grew by since the first sample, `ratio` the throughput of the last tenth to that
    of the first.
    """
    deadline = Deadline.after(options.timeout_s)
    events_a_sample = max(1, options.scaled(options.runs) // (FUNCTIONS * _SAMPLES))
    samples: list[Sample] = []
    with (
        engine.project(PLAIN, options.processes) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        began = since = time.monotonic()
        for number in range(1, _SAMPLES + 1):
            last = _run_events(client, events_a_sample, options.batch, deadline)
            now = time.monotonic()
            memory_mb = measure.memory_mb(running.pid) if measure.can_see_processes() else 0.0
            runs_per_s = events_a_sample * FUNCTIONS / (now - since)
            samples.append(Sample(number * events_a_sample * FUNCTIONS, runs_per_s, memory_mb))
            since = now
        wall_s = time.monotonic() - began
        runs = client.wait(last, deadline.remaining_s())
        check_runs(runs, expected=len(last) * FUNCTIONS, steps=STEPS, payload_bytes=PAYLOAD_BYTES)
        settings = settings_of(place, client, runs=samples[-1].runs, batch=options.batch, payload_bytes=PAYLOAD_BYTES)
    figures = {
        "runs_per_s": figure(samples[-1].runs / wall_s),
        "steps_per_s": figure(samples[-1].runs * STEPS / wall_s),
        "ratio": figure(samples[-1].runs_per_s / samples[0].runs_per_s),
        "wall_s": figure(wall_s),
    }
    if measure.can_see_processes():
        figures["memory_mb"] = figure(samples[-1].memory_mb - samples[0].memory_mb)
    return Result(figures, settings, tuple(samples))


def _run_events(client: fanout.Client, events: int, batch: int, deadline: Deadline) -> list[AcceptedEvent]:
    """All runs of so many events; the events of the last portion.

    Raises:
        BenchmarkError: a run was not completed.
    """
    ahead: deque[list[AcceptedEvent]] = deque()
    portion: list[AcceptedEvent] = []
    for sent in range(0, events, _PORTION_EVENTS):
        portion = send_in_batches(client, min(_PORTION_EVENTS, events - sent), batch)
        ahead.append(portion)
        if len(ahead) > _PORTIONS_AHEAD:
            _complete(client, ahead.popleft(), deadline)
    for left in ahead:
        _complete(client, left, deadline)
    return portion


def _complete(client: fanout.Client, portion: list[AcceptedEvent], deadline: Deadline) -> None:
    follow_to_completion(client, watched_events(portion), len(portion) * FUNCTIONS, deadline)
