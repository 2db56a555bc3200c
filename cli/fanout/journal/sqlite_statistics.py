"""Figures of runs, steps and failures, read from the SQLite journal.

Runs are counted in full, half a second for a million of them. What needs each value (a percentile) or reads payloads
(steps, failures) is of the newest, up to a bound.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fanout.core.causes import root_cause
from fanout.core.figures import percentile, slice_length
from fanout.journal.sqlite_keys import first_key
from fanout.journal.sqlite_rows import Query
from fanout.journal.statistics import (
    Activity,
    Attempts,
    ErrorFigures,
    FunctionFigures,
    Lateness,
    Percentiles,
    Statistics,
    StepFigures,
    Throughput,
)
from fanout.model import Failure, RunState

Each = Callable[[str, Sequence[Any]], Iterator[tuple[Any, ...]]]
"""The rows of a statement with these bindings, one after the other."""
MOST_TIMED = 50_000
"""Of so many of the newest runs and their steps it is said how long they took."""
_MOST_FAILURES = 25_000
_MOST_TICKS = 10_000
_LONGEST_MESSAGE = 1_000
_COUNTS = """
  SELECT function, state, (queued_at - ?4) / ?5, count(*), sum(crashes), max(key)
  FROM run WHERE key >= ?1 AND queued_at >= ?2 AND (?3 IS NULL OR function = ?3) GROUP BY 1, 2, 3"""
_NEWEST = """
  SELECT min(key), count(*) FROM (
    SELECT key FROM run WHERE key >= ?1 AND queued_at >= ?2 AND (?3 IS NULL OR function = ?3)
    ORDER BY key DESC LIMIT ?4)"""
_TIMES = """
  SELECT function, started_at - queued_at,
         CASE WHEN state IN ('completed', 'failed') THEN ended_at - started_at END
  FROM run WHERE key >= ?1 AND (?2 IS NULL OR function = ?2) AND started_at IS NOT NULL"""
# A step that has only waited says nothing about speed.
_STEPS = """
  SELECT run.function, step.key, step.ended_at - step.started_at
  FROM step CROSS JOIN run ON run.key = step.run
  WHERE step.run >= ?1 AND (?2 IS NULL OR run.function = ?2) AND step.kind IN ('run', 'send', 'invoke', 'map')
    AND step.state IN ('completed', 'failed')"""
# It was the last attempt if its step has failed with it; or, of the code between steps, its run. The bare columns come
# from the row with the highest rowid: so SQLite defines it for max().
_FAILURES = f"""
  SELECT run.function, failure.type, substr(failure.message, 1, {_LONGEST_MESSAGE}) AS said,
         CASE WHEN failure.step <> '' THEN
           NOT EXISTS (SELECT 1 FROM step WHERE step.run = failure.run AND step.key = failure.step
                         AND step.state IN ('failed', 'cancelled') AND step.attempts <= failure.attempt + 1)
         ELSE run.state <> 'failed' OR EXISTS (SELECT 1 FROM failure later
                WHERE later.run = failure.run AND later.step = '' AND later.rowid > failure.rowid)
         END AS is_retried, count(*), failure.at, run.id, max(failure.rowid)
  FROM (SELECT rowid, run, step, attempt, type, message, at FROM failure WHERE rowid >= ?1 AND (?2 IS NULL OR EXISTS (
          SELECT 1 FROM run WHERE run.key = failure.run AND run.function = ?2))
        ORDER BY rowid DESC LIMIT ?3) failure
  CROSS JOIN run ON run.key = failure.run
  GROUP BY run.function, failure.type, said, is_retried"""
_TICKS = """
  SELECT max(run.started_at - tick.scheduled_at, 0) FROM tick CROSS JOIN run ON run.key = tick.run
  WHERE tick.function = ? AND tick.scheduled_at >= ? AND run.started_at IS NOT NULL
  ORDER BY tick.scheduled_at DESC LIMIT ?"""
_NEXT_OF_TICKS = "SELECT min(function) FROM tick WHERE function > ?"
_REPEATED = re.compile(r"#\d+$")


class _Times:
    """How long the runs of one function were queued, and how long they took."""

    def __init__(self) -> None:
        self.queued = array("q")
        self.took = array("q")


def statistics(
    query: Query, each: Each, since: int | None, until: int, function: str | None, most_slices: int
) -> Statistics:
    """Of the runs queued since then, or of all there are."""
    if since is None:
        since = next((at for (at,) in query("SELECT queued_at FROM run ORDER BY key LIMIT 1", ())), until)
    length = slice_length(max(until - since, 1), most_slices)
    number = max(1, -(-(until - since) // length))
    first_at, first = until - number * length, first_key(query, "run", since)
    groups = query(_COUNTS, (first, since, function, first_at, length))
    newest, timed = query(_NEWEST, (first, since, function, MOST_TIMED))[0]
    errors, failures, retried = _errors(query, since, function)
    counts: Counter[str] = Counter()
    for _, state, _, count, *_ in groups:
        counts[state] += count
    return Statistics(
        since=since,
        until=until,
        counts={RunState(state): counts[state] for state in sorted(counts)},
        throughput=_throughput(groups, Throughput(first_at, length, (0,) * number, (0,) * number)),
        functions=_figures(query, groups, _times(each, newest, function)),
        steps=_steps(each, newest, function),
        timed_runs=timed,
        are_all_runs_timed=timed == counts.total(),
        errors=errors,
        failures=failures,
        are_all_failures_counted=failures < _MOST_FAILURES,
        attempts=Attempts(sum(each.number for each in errors), retried, sum(group[4] for group in groups)),
        cron=lateness(query, since, function),
    )


def function_figures(query: Query, each: Each, most: int) -> tuple[FunctionFigures, ...]:
    """What the newest `most` runs come to, function by function."""
    first = (query("SELECT max(key) FROM run", ())[0][0] or 0) - most + 1
    return _figures(query, query(_COUNTS, (first, 0, None, 0, 2**62)), _times(each, first, None))


def function_figures_since(query: Query, each: Each, since: int) -> tuple[FunctionFigures, ...]:
    """As in the statistics, without what takes longest there."""
    first = first_key(query, "run", since)
    groups = query(_COUNTS, (first, since, None, 0, 2**62))
    newest = query(_NEWEST, (first, since, None, MOST_TIMED))[0][0]
    return _figures(query, groups, _times(each, newest, None))


def _throughput(groups: Sequence[tuple[Any, ...]], empty: Throughput) -> Throughput:
    runs, failed = list(empty.runs), list(empty.failed)
    for _, state, place, count, *_ in groups:
        # A clock that was set back leaves runs from behind the end.
        inside = min(place, len(runs) - 1)
        runs[inside] += count
        failed[inside] += count if state == RunState.FAILED else 0
    return empty._replace(runs=tuple(runs), failed=tuple(failed))


def _times(each: Each, first: int | None, function: str | None) -> dict[str, _Times]:
    found: dict[str, _Times] = {}
    for of, queued, took in () if first is None else each(_TIMES, (first, function)):
        times = found.get(of)
        if times is None:
            times = found[of] = _Times()
        times.queued.append(queued)
        if took is not None:
            times.took.append(took)
    return found


def _figures(query: Query, groups: Sequence[tuple[Any, ...]], times: dict[str, _Times]) -> tuple[FunctionFigures, ...]:
    """Those with the most runs first."""
    by_function: dict[str, list[tuple[Any, ...]]] = {}
    for group in groups:
        by_function.setdefault(group[0], []).append(group)
    found = []
    for function, its in by_function.items():
        counts: Counter[str] = Counter()
        for _, state, _, count, *_ in its:
            counts[state] += count
        last_key = max(group[5] for group in its)
        last = query("SELECT queued_at, id, state FROM run WHERE key = ?", (last_key,))
        if not last:
            continue  # It has been pruned meanwhile, and all before it.
        time = times.get(function, _Times())
        found.append(
            FunctionFigures(
                function=function,
                counts={RunState(state): counts[state] for state in sorted(counts)},
                took=_percentiles(time.took),
                queued=_percentiles(time.queued),
                last_at=last[0][0],
                last_run=last[0][1],
                last_state=RunState(last[0][2]),
            )
        )
    return tuple(sorted(found, key=lambda each: (-sum(each.counts.values()), each.function)))


def _percentiles(values: Sequence[int]) -> Percentiles:
    ordered = sorted(max(value, 0) for value in values)
    return Percentiles(percentile(ordered, 50), percentile(ordered, 95))


def _steps(each: Each, first: int | None, function: str | None) -> tuple[StepFigures, ...]:
    """The slowest first."""
    taken: dict[tuple[str, str], array[int]] = {}
    names: dict[str, str] = {}
    for of, key, took in () if first is None else each(_STEPS, (first, function)):
        name = names.get(key)
        if name is None:
            name = names[key] = _REPEATED.sub("", key)
        group = taken.get((of, name))
        if group is None:
            group = taken[of, name] = array("q")
        group.append(took)
    found = [StepFigures(*group, len(values), _percentiles(values)) for group, values in taken.items()]
    return tuple(sorted(found, key=lambda figures: (-(figures.took.p95 or 0), figures.function, figures.step)))


def _errors(query: Query, since: int, function: str | None) -> tuple[tuple[ErrorFigures, ...], int, int]:
    """The most frequent first; how many failed attempts were looked at, and how many of them were tried again."""
    rows = query(_FAILURES, (first_key(query, "failure", since), function, _MOST_FAILURES))
    found: dict[tuple[str, str, str], ErrorFigures] = {}
    failures = retried = 0
    for of, type_, message, is_retried, count, at, run, _ in sorted(rows, key=lambda row: -row[-1]):
        failures += count
        if root_cause(Failure(type_, message)).type != type_:
            continue  # What a step has passed on: it has been counted there, or in the run that it invoked.
        retried += count * is_retried
        group = (type_, message.strip().split("\n", 1)[0], of)
        # They come with the newest first.
        known = found.get(group) or ErrorFigures(*group, 0, at, run)
        found[group] = known._replace(number=known.number + count)
    return tuple(sorted(found.values(), key=lambda each: (-each.number, -each.last_at))), failures, retried


def lateness(query: Query, since: int, function: str | None) -> Lateness:
    """How late the runs of ticks have begun, of one function or all."""
    names: Iterable[str] = _with_ticks(query) if function is None else (function,)
    late = [row[0] for name in names for row in query(_TICKS, (name, since, _MOST_TICKS))]
    return Lateness(len(late), _percentiles(late))


def _with_ticks(query: Query) -> Iterator[str]:
    # One look-up for each function, however many ticks there are.
    name = query(_NEXT_OF_TICKS, ("",))[0][0]
    while name is not None:
        yield name
        name = query(_NEXT_OF_TICKS, (name,))[0][0]


def activity(query: Query, since: int, slice_ms: int, number: int) -> dict[str, Activity]:
    """How many runs each function had in each of so many slices of time from then on, and how many have failed."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    groups = query(_COUNTS, (first_key(query, "run", since), since, None, since, slice_ms))
    for function, state, place, count, *_ in groups:
        runs, failed = found.setdefault(function, ([0] * number, [0] * number))
        inside = min(place, number - 1)
        runs[inside] += count
        failed[inside] += count if state == RunState.FAILED else 0
    return {function: Activity(tuple(runs), tuple(failed)) for function, (runs, failed) in found.items()}
