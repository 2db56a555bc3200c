"""All that a journal has, line by line: events as they came, then runs, each with its steps and failures.

Read a portion at a time, each in a short transaction: however slowly somebody takes the lines, no log grows for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fanout.journal.sqlite_rows import Query

_PORTION = 200
"""Keys that are looked up at once; the rows behind them are read one by one, since each may be large."""
_EVENT = """
  SELECT event.id, event.name, event.ts, event.data, event.user, event.v, event.received_at, origin.id
  FROM event LEFT JOIN run origin ON origin.key = event.origin WHERE event.key = ?"""
_RUN = """
  SELECT run.id, run.function, event.id, run.state, run.reason, run.attempt, run.crashes, run.max_attempts,
    run.queued_at, run.due_at, run.started_at, run.ended_at, run.output, original.id, parent.id, run.parent_step,
    run.item, run.item_key,
    (SELECT json_group_array(each.id) FROM (
       SELECT event.id FROM run_event JOIN event ON event.key = run_event.event WHERE run_event.run = run.key
       ORDER BY run_event.position) each)
  FROM run LEFT JOIN event ON event.key = run.event
  LEFT JOIN run original ON original.key = run.replay_of LEFT JOIN run parent ON parent.key = run.parent
  WHERE run.key = ?"""
_STEP_KEYS = "SELECT key FROM step WHERE run = ? ORDER BY position, key"
_STEP = """
  SELECT key, kind, state, branch, attempts, started_at, ended_at, due_at, output FROM step WHERE run = ? AND key = ?"""
_FAILURES = "SELECT step, attempt, type, message, traceback, at FROM failure WHERE run = ? ORDER BY rowid"
_EVENT_KEYS = f"""
  SELECT event.key FROM event WHERE event.key > ?1 AND event.key <= ?2 AND event.received_at >= ?3
    AND (?4 IS NULL OR EXISTS (SELECT 1 FROM run WHERE run.event = event.key AND run.function = ?4)
      OR EXISTS (SELECT 1 FROM run_event JOIN run ON run.key = run_event.run
                 WHERE run_event.event = event.key AND run.function = ?4))
  ORDER BY event.key LIMIT {_PORTION}"""
_RUN_KEYS = f"""
  SELECT key FROM run WHERE key > ?1 AND key <= ?2 AND queued_at >= ?3 AND (?4 IS NULL OR function = ?4)
  ORDER BY key LIMIT {_PORTION}"""


def lines(query: Query, *, since: int, function: str | None) -> Iterator[bytes]:
    """One JSON object a line. `since`: events that came and runs that were queued from then on, in milliseconds."""
    for key in _keys(query, "event", _EVENT_KEYS, since, function):
        yield from _event(query, key)
    for key in _keys(query, "run", _RUN_KEYS, since, function):
        yield from _run(query, key)


def _keys(query: Query, table: str, portion: str, since: int, function: str | None) -> Iterator[int]:
    """In the order in which they were made, of events the engine's own first; what comes meanwhile is left out."""
    first, last = query(f"SELECT min(key), max(key) FROM {table}", ())[0]
    after = None if first is None else first - 1
    while after is not None:
        found = query(portion, (after, last, since, function))
        yield from (key for (key,) in found)
        after = found[-1][0] if found else None


def _event(query: Query, key: int) -> Iterator[bytes]:
    # None where it has been removed since.
    for id_, name, ts, data, user, v, received_at, origin in query(_EVENT, (key,)):
        yield _line(
            "event", id=id_, name=name, ts=ts, data=_raw(data), user=_raw(user), v=v, received_at=received_at,
            sent_by=origin,
        )  # fmt: skip


def _run(query: Query, key: int) -> Iterator[bytes]:
    for row in query(_RUN, (key,)):
        (
            id_, function, event, state, reason, attempt, crashes, max_attempts, queued_at, due_at, started_at,
            ended_at, output, replay_of, parent, parent_step, item, item_key, events,
        ) = row  # fmt: skip
        yield _line(
            "run", id=id_, function=function, event_id=event, event_ids=_raw(events), state=state, reason=reason,
            failed_attempts=attempt, crashes=crashes, max_attempts=max_attempts, queued_at=queued_at, due_at=due_at,
            started_at=started_at, ended_at=ended_at, output=_raw(output), replay_of=replay_of, parent=parent,
            parent_step=parent_step, item=item, item_key=item_key,
        )  # fmt: skip
        for step in query(_STEP_KEYS, (key,)):
            yield from _step(query, id_, key, step[0])
        for name, number, type_, message, traceback, at in query(_FAILURES, (key,)):
            yield _line(
                "failure", run_id=id_, step=name, attempt=number, type=type_, message=message, traceback=traceback,
                at=at,
            )  # fmt: skip


def _step(query: Query, run_id: str, run: int, step: str) -> Iterator[bytes]:
    for key, kind, state, branch, attempts, started_at, ended_at, due_at, output in query(_STEP, (run, step)):
        yield _line(
            "step", run_id=run_id, name=key, step_kind=kind, state=state, branch=branch, attempts=attempts,
            started_at=started_at, ended_at=ended_at, due_at=due_at, output=_raw(output),
        )  # fmt: skip


def _line(kind: str, **values: Any) -> bytes:
    return msgspec.json.encode({"kind": kind, **values}) + b"\n"


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
