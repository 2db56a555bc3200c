"""W12: what it costs the engine to find the functions of an event, with few functions and with many."""

from __future__ import annotations

import time

import msgspec

import fanout
from benchmarks import engine
from benchmarks.crowd import check_limits
from benchmarks.measure import BenchmarkError, figure
from benchmarks.project.keyed import one
from benchmarks.settings import Options, Result, settings_of
from fanout.attached import spec_of
from fanout.core.routing import Routes
from fanout.model import EventTrigger, FunctionSpec

LIMITS = {"many_us": 10.0, "tails_us": 10.0}
"""Microseconds that an event may take."""
_FEW, _MANY = 2, 2_000
_EVENTS = 100_000


def run(options: Options) -> Result:
    """Each function has a name of its own; with `tails_us` there is one more, that listens to all names."""
    few, many = options.scaled(_FEW), options.scaled(_MANY)
    events = options.scaled(_EVENTS)
    rounds = range(options.rounds)
    every = _spec("every", "bench/*")
    figures = {
        "few_us": figure(*(_match_us(Routes(_specs(few)), few, 1, events) for _ in rounds)),
        "many_us": figure(*(_match_us(Routes(_specs(many)), many, 1, events) for _ in rounds)),
        "tails_us": figure(*(_match_us(Routes([*_specs(many), every]), many, 2, events) for _ in rounds)),
    }
    check_limits(figures, LIMITS, options)
    with engine.project("keyed", options.processes) as place, fanout.connect(place.config) as client:
        settings = settings_of(
            place, client, few=few, functions=many, events=events, rounds=options.rounds, payload_bytes=0
        )
    return Result(figures, settings)


def _specs(count: int) -> list[FunctionSpec]:
    return [_spec(f"function-{number}", f"bench/thing.{number}") for number in range(count)]


def _spec(id_: str, name: str) -> FunctionSpec:
    spec = spec_of(one)
    assert spec is not None
    return msgspec.structs.replace(spec, id=id_, triggers=(EventTrigger(name),))


def _match_us(routes: Routes, names: int, expected: int, events: int) -> float:
    """Raises BenchmarkError unless each event has found so many."""
    sent = [f"bench/thing.{number % names}" for number in range(events)]
    began = time.perf_counter()
    found = sum(len(routes.match(name)) for name in sent)
    took_us = (time.perf_counter() - began) * 1e6 / events
    if found != expected * events:
        raise BenchmarkError(f"{expected * events:,} functions should have been found, {found:,} were")
    return took_us
