"""What a tick writes, as SQL. The order matters: rows before what refers to them, a run's end after all else of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from fanout.core.machine import RunInput, sources
from fanout.journal.sqlite_appender import INSERT_EVENT
from fanout.journal.writes import Writes


class RefusedError(Exception):
    """A change found the journal in another state than the engine believed."""


def _allows(happened: RunInput) -> str:
    """That a run is in a state in which this may happen to it. With OR for the schema's reason."""
    return "(" + " OR ".join(f"state = '{state}'" for state in sources(happened)) + ")"


# The guards come from the state machine's table, so that no write can make a move which the table does not have.
_INSERT_RUN = """
  INSERT INTO run (key, id, function, event, partition, rank, state, max_attempts, queued_at, due_at, replay_of,
    parent, parent_step, item, item_key, deadline_at, is_echo, reason, ended_at, hold,
    singleton, event_name)
  VALUES (?, ?, ?, ?4, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT name FROM event WHERE key = ?4))"""
_COLLECT_EVENT = "INSERT INTO run_event (run, position, event, is_replaced) VALUES (?, ?, ?, ?)"
_HOLD_RUN = """
  UPDATE run SET event = coalesce(?1, event), due_at = ?2, is_echo = ?3,
    event_name = coalesce((SELECT name FROM event WHERE key = ?1), event_name)
  WHERE key = ?4 AND hold IS NOT NULL"""
_LET_GO_RUN = """
  UPDATE run SET hold = NULL, partition = ?, singleton = ?, due_at = ?, deadline_at = ?
  WHERE key = ? AND hold IS NOT NULL"""
_KEEP_LIMIT = "INSERT OR REPLACE INTO limit_state (value, function, kind, key) VALUES (?, ?, ?, ?)"
_KEEP_SCHEDULE = "INSERT OR REPLACE INTO schedule (through, function, cron) VALUES (?, ?, ?)"
_INSERT_TICK = "INSERT INTO tick (function, scheduled_at, run) VALUES (?, ?, ?)"
_KEEP_FUNCTION = """
  INSERT OR REPLACE INTO function (id, spec, loaded_at, is_present)
  VALUES (?1, ?2, coalesce(?3, (SELECT loaded_at FROM function WHERE id = ?1), 0), 1)"""
_PAUSE = "INSERT OR IGNORE INTO pause (function, paused_at) VALUES (?, ?)"
_UNPAUSE = "DELETE FROM pause WHERE function = ?"
_INSERT_WAIT = """
  INSERT OR REPLACE INTO wait
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, (SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0))"""
_CARRY_STEPS = """
  INSERT INTO step (run, key, kind, branch, state, position, attempts, output, started_at, ended_at)
  SELECT ?1, key, kind, branch, state, position, attempts, output, started_at, ended_at
  FROM step WHERE run = ?2 AND state = 'completed'
    AND (?3 IS NULL OR position < coalesce((SELECT position FROM step WHERE run = ?2 AND key = ?3), position + 1))"""
_CARRY_EVENTS = """
  INSERT INTO run_event (run, position, event)
  SELECT ?, position, event FROM run_event WHERE run = ? AND NOT is_replaced"""
_GIVE_STEP = """
  INSERT OR REPLACE INTO step (run, key, kind, branch, state, position, attempts, output, started_at, ended_at)
  SELECT ?1, ?3, coalesce(old.kind, 'run'), coalesce(old.branch, ''), 'completed',
    coalesce(old.position, (SELECT max(position) + 1 FROM step WHERE run = ?2), 1), 0, ?4, ?5, ?5
  FROM (SELECT 1) LEFT JOIN step old ON old.run = ?2 AND old.key = ?3"""
_UPSERT_STEP = """
  INSERT INTO step (run, key, kind, branch, state, position, attempts, output, started_at, ended_at, due_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (run, key) DO UPDATE SET kind = excluded.kind, branch = excluded.branch, state = excluded.state,
    attempts = excluded.attempts, output = excluded.output, started_at = min(started_at, excluded.started_at),
    ended_at = excluded.ended_at, due_at = excluded.due_at,
    attempted_at = CASE WHEN excluded.attempts > 1 THEN excluded.started_at END
  WHERE state IN ('running', 'retrying', 'waiting')"""
_SHOW_STEP = """
  INSERT INTO step (run, key, kind, branch, state, position, attempts, output, started_at, ended_at, due_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (run, key) DO UPDATE SET state = 'running', ended_at = NULL, due_at = NULL WHERE state = 'retrying'"""
_INSERT_FAILURE = """
  INSERT INTO failure (run, step, attempt, type, message, traceback, at, began_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_KEEP_MAP = "INSERT OR REPLACE INTO map VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RESOLVE_STEP = """
  UPDATE step SET state = ?, output = ?, ended_at = ?, due_at = NULL
  WHERE run = ? AND key = ? AND state IN ('waiting', 'retrying')"""
_FORGET_WAIT = "DELETE FROM wait WHERE run = ? AND step = ?"
_FORGET_MAP = "DELETE FROM map WHERE run = ? AND step = ?"
_TRY_STEP = "UPDATE step SET due_at = NULL WHERE run = ? AND key = ? AND state = 'retrying'"
_UNREACHED_STEP = "UPDATE step SET is_unreached = 1 WHERE run = ? AND key = ?"
_PARK_RUN = f"""
  UPDATE run SET state = 'waiting', started_at = coalesce(started_at, ?), deadline_at = ?
  WHERE key = ? AND attempt = ? AND {_allows(RunInput.PARK)}"""
_RESUME_RUN = f"""
  UPDATE run SET state = 'running', due_at = NULL
  WHERE key = ? AND attempt = ? AND {_allows(RunInput.RESUME)}"""
_NOTE_RUN = f"""
  UPDATE run SET state = 'running', started_at = coalesce(started_at, ?), deadline_at = ?
  WHERE key = ? AND attempt = ? AND {_allows(RunInput.NOTED)}"""
_DUE_RUN = (
    "UPDATE run SET state = 'queued', due_at = NULL, hold = NULL, rank = ?, partition = ? "
    f"WHERE key = ? AND {_allows(RunInput.DUE)}"
)
_RETRY_RUN = f"""
  UPDATE run SET state = 'waiting', due_at = ?, attempt = ?, started_at = coalesce(started_at, ?),
    deadline_at = ?
  WHERE key = ? AND attempt = ? AND {_allows(RunInput.RETRY)}"""
_LOSE_RUN = f"""
  UPDATE run SET state = 'queued', crashes = ?1, is_suspect = ?2, started_at = coalesce(started_at, ?3),
    deadline_at = ?4, partition = coalesce(?7, partition)
  WHERE key = ?5 AND attempt = ?6 AND {_allows(RunInput.LOST)}"""
_END_RUN = f"""
  UPDATE run SET state = ?, reason = ?, output = ?, started_at = coalesce(started_at, ?), ended_at = ?, crashes = ?,
    is_suspect = 0, due_at = NULL, hold = NULL, deadline_at = NULL
  WHERE key = ? AND attempt = ? AND {_allows(RunInput.COMPLETE)}"""
_CANCEL_RUN = f"""
  UPDATE run SET state = ?, reason = ?, due_at = NULL, hold = NULL, deadline_at = NULL, ended_at = ?
  WHERE key = ? AND {_allows(RunInput.CANCEL)}"""
_SKIP_RUN = f"""
  UPDATE run SET state = 'skipped', reason = ?, due_at = NULL, hold = NULL, deadline_at = NULL, ended_at = ?
  WHERE key = ? AND {_allows(RunInput.SKIP)}"""
_ABANDON_STEPS = """
  UPDATE step SET state = 'cancelled', ended_at = ?, due_at = NULL
  WHERE run = ? AND state IN ('waiting', 'retrying')"""
_ABANDON_WAITS = "DELETE FROM wait WHERE run = ?"
_ABANDON_MAPS = "DELETE FROM map WHERE run = ?"
_ADVANCE_REQUEST = "UPDATE request SET done = ?, next_at = ? WHERE key = ? AND handled_at IS NULL"
_HANDLE_REQUEST = "UPDATE request SET handled_at = ?, run = ? WHERE key = ? AND handled_at IS NULL"


def write(connection: apsw.Connection, writes: Writes) -> None:
    """All of it, in the transaction that is open.

    Raises:
        RefusedError: two believe to own a run; nothing may be committed.
    """
    if writes.routed_to is not None:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'routed_to'", (writes.routed_to,))
    _all(connection, INSERT_EVENT, writes.events)
    _all(connection, _INSERT_RUN, writes.runs)
    _each(connection, _HOLD_RUN, writes.held)
    # What cancels a run depends on its event.
    _all(connection, _ABANDON_WAITS, [(run,) for event, *_, run in writes.held if event is not None])
    _all(connection, _INSERT_WAIT, writes.waits)
    _all(connection, _COLLECT_EVENT, writes.collected)
    _each(connection, _LET_GO_RUN, writes.let_go)
    _all(connection, _KEEP_LIMIT, [(value, *where) for where, value in writes.limits.items()])
    _all(connection, _KEEP_SCHEDULE, [(through, *where) for where, through in writes.schedules.items()])
    _all(connection, _INSERT_TICK, writes.ticks)
    _all(connection, _PAUSE, writes.paused)
    _all(connection, _UNPAUSE, writes.unpaused)
    if writes.functions:
        connection.execute("UPDATE function SET is_present = 0")
        _all(connection, _KEEP_FUNCTION, writes.functions)
    _all(connection, _CARRY_EVENTS, [each[:2] for each in writes.carried])
    _all(connection, _CARRY_STEPS, [each[:3] for each in writes.carried if not each.is_from_start])
    _all(connection, _GIVE_STEP, writes.given)
    _all(connection, _SHOW_STEP, writes.running)
    _all(connection, _INSERT_FAILURE, writes.failures)
    _each(connection, _UPSERT_STEP, writes.steps)
    _each(connection, _RESOLVE_STEP, writes.resolved)
    if writes.maps:
        _all(connection, _KEEP_MAP, tuple(writes.maps.values()))
    _all(connection, _FORGET_MAP, writes.unmapped)
    _each(connection, _NOTE_RUN, writes.noted)
    _each(connection, _PARK_RUN, writes.parked)
    _each(connection, _RESUME_RUN, writes.resumed)
    _each(connection, _DUE_RUN, writes.due)
    _each(connection, _RETRY_RUN, writes.retried)
    _each(connection, _LOSE_RUN, writes.lost)
    _each(connection, _END_RUN, writes.ended)
    _each(connection, _CANCEL_RUN, writes.cancelled)
    _each(connection, _SKIP_RUN, writes.skipped)
    _each(connection, _TRY_STEP, writes.tried)
    for ended_at, run, step in writes.gathered:
        _each(connection, _RESOLVE_STEP, [("completed", gathered(connection, run, step), ended_at, run, step)])
        connection.execute(_FORGET_MAP, (run, step))
    _all(connection, _FORGET_WAIT, writes.heard)
    _all(connection, _FORGET_MAP, writes.heard)
    _all(connection, _UNREACHED_STEP, writes.unreached)
    for ended_at, run in writes.abandoned:
        connection.execute(_ABANDON_STEPS, (ended_at, run))
        connection.execute(_ABANDON_WAITS, (run,))
        connection.execute(_ABANDON_MAPS, (run,))
    _each(connection, _ADVANCE_REQUEST, writes.advanced)
    _each(connection, _HANDLE_REQUEST, writes.handled)


def _all(connection: apsw.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.executemany(sql, rows)


def _each(connection: apsw.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Each row has to change exactly one: anything else means that two believe to own a run."""
    if not rows:
        return
    before = connection.total_changes()
    connection.executemany(sql, rows)
    changed = connection.total_changes() - before
    if changed != len(rows):
        raise RefusedError(f"refused {len(rows) - changed} of {len(rows)} changes")


def gathered(connection: apsw.Connection, run: int, step: str) -> str:
    """What the children of a map returned, in the order of the items, as JSON text.

    A list; if some failed, an object with the list (null in their places) as `results`, and with `errors` by number.
    """
    results: list[str] = []
    errors: dict[str, dict[str, str]] = {}
    children = connection.execute(
        "SELECT key, state, output FROM run WHERE parent = ? AND parent_step = ? ORDER BY item", (run, step)
    )
    for number, (child, state, output) in enumerate(children):
        results.append("null" if output is None else output)
        if state != "completed":
            errors[str(number)] = _error(connection, child, state)
    listed = f"[{','.join(results)}]"
    return f'{{"results":{listed},"errors":{msgspec.json.encode(errors).decode()}}}' if errors else listed


def _error(connection: apsw.Connection, run: int, state: str) -> dict[str, str]:
    row = connection.execute(
        "SELECT type, message, traceback FROM failure WHERE run = ? AND step = '' ORDER BY rowid DESC LIMIT 1", (run,)
    ).fetchone()
    type_, message, traceback = row or (state.capitalize(), f"the run was {state}", "")
    return {"type": type_, "message": message, "traceback": traceback}
