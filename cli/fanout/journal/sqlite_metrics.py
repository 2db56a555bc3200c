"""What a journal comes to at one moment, read from SQLite by indexes: some 70 ms where there are a million runs."""

from __future__ import annotations

from fanout.journal.metrics import STEP_BUCKETS_MS, FailedAttempts, Metrics, QueueDepth, StepTimes
from fanout.journal.sqlite_keys import first_key
from fanout.journal.sqlite_rows import Query
from fanout.journal.sqlite_statistics import lateness
from fanout.model import RunState

_MOST_RUNS = 10_000
_MOST_FAILURES = 10_000
# Each look goes through an index that has all it needs, and not the rows.
_ENDED = """
  SELECT function, state, count(*) FROM run INDEXED BY run_ended WHERE ended_at IS NOT NULL
  GROUP BY function, event_name, state"""
_WAITING = """
  SELECT function, 'waiting', count(*) FROM run INDEXED BY run_waiting WHERE state = 'waiting' GROUP BY function"""
_RUNNING = "SELECT function, 'running', count(*) FROM run WHERE state = 'running' GROUP BY function"
_QUEUES = """
  SELECT queue.function, queue.number, run.queued_at
  FROM (SELECT function, count(*) AS number, min(key) AS oldest
        FROM run INDEXED BY run_queued WHERE state = 'queued' GROUP BY function) queue
  CROSS JOIN run ON run.key = queue.oldest"""
_STEPS = f"""
  SELECT function, count(*), sum(took), {", ".join(f"sum(took <= {limit})" for limit in STEP_BUCKETS_MS)}
  FROM (SELECT run.function AS function, max(step.ended_at - step.started_at, 0) AS took
        FROM run CROSS JOIN step ON step.run = run.key
        WHERE run.key >= ? AND step.kind IN ('run', 'send', 'invoke', 'map') AND step.state IN ('completed', 'failed')
          AND step.ended_at IS NOT NULL)
  GROUP BY function"""
# As in statistics: of a step that failed, and of a run, the last attempt was not tried again.
_FAILED = """
  SELECT run.function, count(*), sum(CASE WHEN failure.step <> '' THEN
           NOT EXISTS (SELECT 1 FROM step WHERE step.run = failure.run AND step.key = failure.step
                         AND step.state IN ('failed', 'cancelled') AND step.attempts <= failure.attempt + 1)
         ELSE run.state <> 'failed' OR EXISTS (SELECT 1 FROM failure later
                WHERE later.run = failure.run AND later.step = '' AND later.rowid > failure.rowid) END)
  FROM (SELECT rowid, run, step, attempt FROM failure
        WHERE rowid >= ? AND type NOT IN ('StepError', 'InvokeError') ORDER BY rowid DESC LIMIT ?) failure
  CROSS JOIN run ON run.key = failure.run GROUP BY run.function"""
_CRASHES = "SELECT function, sum(crashes) FROM run WHERE key >= ? GROUP BY function HAVING sum(crashes) > 0"
_COUNTS = """
  SELECT coalesce((SELECT max(key) FROM run), 0),
         coalesce((SELECT max(key) FROM event WHERE key > 0), 0),
         coalesce((SELECT value FROM meta WHERE name = 'routed_to'), 0),
         (SELECT count(*) FROM request WHERE handled_at IS NULL)"""
_LAST_TICK = """
  SELECT max((SELECT max(scheduled_at) FROM tick WHERE tick.function = function.id AND scheduled_at <= ?))
  FROM function"""


def metrics(query: Query, now: int, since: int) -> Metrics:
    """All of it; what is of a stretch of time goes back to `since`, and to a bounded number of rows."""
    runs: dict[tuple[str, RunState], int] = {}
    for sql in (_ENDED, _WAITING, _RUNNING):
        for function, state, number in query(sql, ()):
            group = function, RunState(state)
            runs[group] = runs.get(group, 0) + number
    queues = tuple(QueueDepth._make(row) for row in query(_QUEUES, ()))
    runs |= {(queue.function, RunState.QUEUED): queue.number for queue in queues}
    made, received, routed_to, requests = query(_COUNTS, ())[0]
    first = max(first_key(query, "run", since), made - _MOST_RUNS + 1)
    return Metrics(
        runs=runs,
        queues=queues,
        runs_made=made,
        events_received=received,
        events_unrouted=max(received - routed_to, 0),
        requests_open=requests,
        since=since,
        steps=tuple(
            StepTimes(function, tuple(within), number, took)
            for function, number, took, *within in query(_STEPS, (first,))
        ),
        failed=tuple(
            FailedAttempts._make(row) for row in query(_FAILED, (first_key(query, "failure", since), _MOST_FAILURES))
        ),
        crashes=dict(query(_CRASHES, (first,))),
        cron=lateness(query, since, None),
        last_tick_at=query(_LAST_TICK, (now,))[0][0],
    )
