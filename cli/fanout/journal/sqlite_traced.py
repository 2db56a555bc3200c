"""Runs as traces tell of them, read from the SQLite journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.journal.sqlite_rows import Query
from fanout.journal.traced import TracedEvent, TracedRun, TracedStep
from fanout.model import FailedAttempt, Failure, RunState, StepKind, StepState

_EVENT = "event.key, event.id, event.name, event.ts, event.user, event.received_at"
_RUNS = f"""
  SELECT run.key, run.id, run.function, run.state, run.reason, run.attempt, run.queued_at, run.started_at,
         run.ended_at, replayed.id,
         run.replay_of IS NULL AND NOT EXISTS (
           SELECT 1 FROM run earlier WHERE earlier.event = run.event AND earlier.key < run.key),
         {_EVENT}
  FROM json_each(?) wanted CROSS JOIN run ON run.key = wanted.value JOIN event ON event.key = run.event
  LEFT JOIN run replayed ON replayed.key = run.replay_of
  WHERE run.ended_at IS NOT NULL ORDER BY run.key"""
_STEPS = """
  SELECT step.run, step.key, step.kind, step.state, step.attempts, coalesce(step.attempted_at, step.started_at),
         step.started_at, step.ended_at
  FROM json_each(?) wanted CROSS JOIN step ON step.run = wanted.value ORDER BY step.run, step.position"""
_FAILURES = """
  SELECT failure.run, failure.step, failure.attempt, failure.began_at, failure.at, failure.type, failure.message,
         failure.traceback
  FROM json_each(?) wanted CROSS JOIN failure ON failure.run = wanted.value ORDER BY failure.rowid"""
_OTHERS = f"""
  SELECT run_event.run, {_EVENT}
  FROM json_each(?) wanted CROSS JOIN run_event ON run_event.run = wanted.value
  JOIN event ON event.key = run_event.event JOIN run ON run.key = run_event.run AND run.event <> event.key
  ORDER BY run_event.run, run_event.position"""


def traced(query: Query, keys: Sequence[int]) -> list[TracedRun]:
    """Those of these runs that have ended."""
    wanted = (msgspec.json.encode(keys).decode(),)
    steps: dict[int, list[TracedStep]] = defaultdict(list)
    failures: dict[int, list[FailedAttempt]] = defaultdict(list)
    others: dict[int, list[TracedEvent]] = defaultdict(list)
    for run, key, kind, state, *rest in query(_STEPS, wanted):
        steps[run].append(TracedStep(key, StepKind(kind), StepState(state), *rest))
    for run, step, number, began_at, at, *failure in query(_FAILURES, wanted):
        failures[run].append(FailedAttempt(step, number, began_at, at, Failure(*failure)))
    for run, *event in query(_OTHERS, wanted):
        others[run].append(TracedEvent(*event))
    return [
        _run(row, tuple(others[row[0]]), tuple(steps[row[0]]), tuple(failures[row[0]])) for row in query(_RUNS, wanted)
    ]


def _run(
    row: Sequence[Any],
    others: tuple[TracedEvent, ...],
    steps: tuple[TracedStep, ...],
    failures: tuple[FailedAttempt, ...],
) -> TracedRun:
    _, id_, function, state, reason, attempt, queued_at, started_at, ended_at, replay_of, is_first, *event = row
    return TracedRun(
        id_, function, RunState(state), reason, attempt, queued_at, started_at, ended_at, replay_of,
        TracedEvent(*event), bool(is_first), others, steps, failures,
    )  # fmt: skip
