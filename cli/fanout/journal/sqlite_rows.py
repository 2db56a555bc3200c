"""A run and its steps as people see them, made of rows of the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fanout.model import Failure, Run, RunState, Step, StepKind, StepState

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""All rows of a statement with these bindings."""

# The failure that a waiting run shows is one that it will get over: of a step that is tried again, or of the body.
_RUN = """
  SELECT run.key, run.id, run.function, event.id, event.name, run.state, run.reason, run.attempt, run.crashes,
         run.max_attempts, run.queued_at, run.due_at,
         CASE WHEN run.state = 'waiting' AND run.due_at IS NULL THEN
           (SELECT min(step.due_at) FROM step WHERE step.run = run.key AND step.state IN ('waiting', 'retrying')) END,
         run.started_at, run.ended_at, {output}, original.id, parent.id,
         (SELECT replay.id FROM run replay WHERE replay.replay_of = run.key ORDER BY replay.key DESC LIMIT 1),
         failure.type, failure.message, failure.traceback
  FROM {source} JOIN event ON event.key = run.event
  LEFT JOIN run original ON original.key = run.replay_of
  LEFT JOIN run parent ON parent.key = run.parent
  LEFT JOIN failure ON failure.rowid = CASE run.state
    WHEN 'failed' THEN (SELECT max(rowid) FROM failure WHERE failure.run = run.key AND failure.step = '')
    WHEN 'waiting' THEN
      (SELECT max(failure.rowid) FROM failure
       LEFT JOIN step ON step.run = failure.run AND step.key = failure.step
       WHERE failure.run = run.key
         AND (step.state = 'retrying' OR (failure.step = '' AND run.due_at IS NOT NULL))) END"""
_STEPS = """
  SELECT step.key, step.kind, step.state, step.attempts, step.started_at, step.ended_at, step.due_at, {output},
         step.is_unreached, step.attempted_at, failure.type, failure.message, failure.traceback
  FROM step LEFT JOIN failure ON step.state IN ('failed', 'retrying') AND failure.rowid =
    (SELECT max(rowid) FROM failure WHERE failure.run = step.run AND failure.step = step.key)
  WHERE step.run = ? ORDER BY step.started_at, step.position"""


def select_runs(source: str = "run", *, outputs: bool) -> str:
    """The beginning of a statement whose rows `made_run` reads; `source` has to have a table `run` in it."""
    return _RUN.format(source=source, output="run.output" if outputs else "NULL")


SMOOTH_RUN = """
  SELECT run.key, run.id, run.function, event.id, event.name, run.state, run.reason, run.attempt, run.crashes,
         run.max_attempts, run.queued_at, NULL, NULL, run.started_at, run.ended_at, run.output, NULL, NULL, NULL,
         NULL, NULL, NULL
  FROM run JOIN event ON event.key = run.event
  WHERE run.key = ?1 AND run.state = 'completed' AND run.replay_of IS NULL AND run.parent IS NULL
    AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.run = ?1)"""
SMOOTH_STEPS = """
  SELECT key, kind, state, attempts, started_at, ended_at, due_at, output, is_unreached, attempted_at, NULL, NULL, NULL
  FROM step WHERE run = ? ORDER BY started_at, position"""
"""Rows as of the statements above, for a run that nobody has replayed and in which nothing has failed."""
_STEPS_WITH_OUTPUTS = _STEPS.format(output="step.output")
_STEPS_WITHOUT = _STEPS.format(output="NULL")


def with_steps(query: Query, row: tuple[Any, ...], *, outputs: bool) -> Run:
    """The run of this row with its steps, which are read now."""
    rows = query(_STEPS_WITH_OUTPUTS if outputs else _STEPS_WITHOUT, row[:1])
    return made_with_steps(row, rows)


def made_with_steps(row: tuple[Any, ...], steps: Sequence[tuple[Any, ...]]) -> Run:
    state, ended_at = RunState(row[5]), row[14]
    return made_run(row, tuple(_made_step(each, state, ended_at) for each in steps))


def made_run(row: tuple[Any, ...], steps: tuple[Step, ...] = ()) -> Run:
    (
        key, id_, function, event_id, event_name, state, reason, attempt, crashes, max_attempts, queued_at, due_at,
        step_due_at, started_at, ended_at, output, replay_of, parent, replayed_by, error_type, message,
        traceback,
    ) = row  # fmt: skip
    return Run(
        key=key,
        id=id_,
        function=function,
        event_id=event_id,
        event_name=event_name,
        state=RunState(state),
        reason=reason,
        attempts=_attempts(state, reason, attempt + crashes, started_at, due_at),
        max_attempts=max_attempts,
        queued_at=queued_at,
        due_at=step_due_at if due_at is None else due_at,
        started_at=started_at,
        ended_at=ended_at,
        output=_raw(output),
        replay_of=replay_of,
        replayed_by=replayed_by,
        parent=parent,
        error=None if error_type is None else Failure(error_type, message, traceback),
        steps=steps,
    )


def _attempts(state: str, reason: str | None, charged: int, started_at: int | None, due_at: int | None) -> int:
    """Executions so far, the present one included: failures and crashes that were charged, and one that was not."""
    is_between_attempts = state == RunState.WAITING and due_at is not None
    return charged if started_at is None or is_between_attempts or reason == "crashed" else charged + 1


def _made_step(row: tuple[Any, ...], run_state: RunState, run_ended_at: int | None) -> Step:
    (
        name, kind, state, attempts, started_at, ended_at, due_at, output, is_unreached, attempted_at, error_type,
        message, traceback,
    ) = row  # fmt: skip
    if state == StepState.RUNNING and run_ended_at is not None:
        # Cut off: its worker died, or its run was cancelled. Nothing will ever report its end.
        state = StepState.CANCELLED if run_state is RunState.CANCELLED else StepState.FAILED
        attempts, ended_at = attempts + 1, run_ended_at
    return Step(
        name=name,
        kind=StepKind(kind),
        state=StepState(state),
        attempts=attempts,
        started_at=started_at,
        ended_at=ended_at,
        due_at=due_at,
        output=_raw(output),
        error=None if error_type is None else Failure(error_type, message, traceback),
        is_unreached=bool(is_unreached),
        attempted_at=attempted_at,
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
