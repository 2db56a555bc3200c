"""The workloads by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import (
    backlog,
    choosing,
    cold,
    fairness,
    fan_out,
    latency,
    mapping,
    matching,
    payload,
    posting,
    pruning,
    sleepers,
    soak,
    waits,
)
from benchmarks.settings import Options, Result


@dataclass(frozen=True)
class Workload:
    """What it does, in a line, and how to run it."""

    title: str
    run: Callable[[Options], Result]


WORKLOADS = {
    "W1": Workload(
        "fan-out: 2,000 events x 3 plain functions x 2 steps of 200 bytes, engine running", fan_out.run_plain
    ),
    "W1a": Workload("the same with async functions", fan_out.run_async),
    "W2": Workload("latency: 200 times in turn one event, one function, one step, engine running", latency.run),
    "W3": Workload("cold: `fanout send` of one event with 3 one-step functions, no engine running", cold.run),
    "W4": Workload("map: one run maps a function of one step over 50,000 items from a generator", mapping.run),
    "W5": Workload("wait: 100,000 runs wait for an event, told apart by `match`; 200 events wake one each", waits.run),
    "W6": Workload("payload: 200 steps in a row that return 1 MB each", payload.run),
    "W7": Workload("backlog: 1,000,000 queued runs, of which the first 20,000 are worked off (a minute)", backlog.run),
    "W8": Workload("soak: `--runs` runs, 1,000,000 unless told (several minutes)", soak.run),
    "W9": Workload(
        "sleep: 100,000 runs sleep for a month, beside 200 that are woken within seconds (a minute)", sleepers.run
    ),
    "W10": Workload(
        "choice: the engine's cost of the next of 100,000 queued runs, over 10,000 keys and over 100", choosing.run
    ),
    "W11": Workload("fairness: 10 runs of a key beside 10,000 queued runs of another, and alone", fairness.run),
    "W12": Workload("matching: an event finds its function among 2,000 on 2,000 names, and among 2", matching.run),
    "W13": Workload(
        "pruning: 100,000 old runs go while 50 events a second come; a tick takes less than 50 ms", pruning.run
    ),
    "W14": Workload(
        "posting: `POST /e/KEY` of one event a request from 8 connections for 10 s, engine running", posting.run
    ),
}
