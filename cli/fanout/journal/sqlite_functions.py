"""Functions, their schedules and their queues, read from the SQLite journal. Each question has a bounded cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fanout.journal.functions import Collected, CronTick, Executing, KnownFunction, Queued, RunCounts
from fanout.journal.sqlite_rows import Query
from fanout.model import FunctionSpec, RunState

MOST_AHEAD = 100_000
_TIMER = "fanout/scheduled.timer"
# Functions that one load has left out of another's time were not loaded then: their app's code could not be.
_FUNCTIONS = """
  SELECT function.spec, function.is_present, function.loaded_at,
         function.loaded_at < (SELECT max(loaded_at) FROM function WHERE is_present = 1), pause.paused_at
  FROM function LEFT JOIN pause ON pause.function = function.id"""
HELD_UP = """held_up (id) AS (
    SELECT function FROM pause UNION SELECT id FROM function
    WHERE is_present = 0 OR loaded_at < (SELECT max(loaded_at) FROM function WHERE is_present = 1))"""
"""Functions none of whose runs can be started now, as one table of a WITH."""
# CROSS JOIN: by the ticks of the function, the newest first, which end where the bound says.
_TICKS = """
  SELECT tick.function, event.data, tick.scheduled_at, run.key, run.id, run.state, run.reason
  FROM tick CROSS JOIN run ON run.key = tick.run CROSS JOIN event ON event.key = run.event
  WHERE tick.function = ? AND tick.scheduled_at <= ? ORDER BY tick.scheduled_at DESC LIMIT ?"""
_TICK_OF_EVENT = """
  SELECT tick.function, event.data, tick.scheduled_at, run.key, run.id, run.state, run.reason
  FROM event CROSS JOIN run ON run.event = event.key
  CROSS JOIN tick ON tick.function = run.function AND tick.scheduled_at = ?2 AND tick.run = run.key
  WHERE event.key = ?1"""
_AHEAD = """
  SELECT count(*) FROM (SELECT 1 FROM run other WHERE other.state = 'queued' AND other.function = ?1
    AND other.partition = ?2 AND (other.rank, other.key) < (?3, ?4) LIMIT ?5)"""


def functions(query: Query) -> list[KnownFunction]:
    """All that the code has, by id, then those that it had once."""
    return [_known(row) for row in query(f"{_FUNCTIONS} ORDER BY is_present DESC, id", ())]


def function(query: Query, id_: str) -> KnownFunction | None:
    rows = query(f"{_FUNCTIONS} WHERE id = ?", (id_,))
    return _known(rows[0]) if rows else None


def has_held_up(query: Query) -> bool:
    """Whether there are functions none of whose runs can be started."""
    return bool(query(f"WITH {HELD_UP} SELECT EXISTS (SELECT 1 FROM held_up)", ())[0][0])


def _known(row: tuple[Any, ...]) -> KnownFunction:
    spec, is_present, loaded_at, is_stale, paused_at = row
    return KnownFunction(
        spec=msgspec.json.decode(spec, type=FunctionSpec),
        is_present=bool(is_present),
        is_stale=bool(is_present and is_stale),
        loaded_at=loaded_at,
        paused_at=paused_at,
    )


def run_counts(query: Query, most: int) -> RunCounts:
    """How many runs of each function are in each state, of the newest `most` runs of all."""
    rows = query(
        """SELECT function, state, count(*) FROM (SELECT function, state FROM run ORDER BY key DESC LIMIT ?)
           GROUP BY function, state""",
        (most,),
    )
    found: dict[str, dict[RunState, int]] = {}
    for name, state, number in rows:
        found.setdefault(name, {})[RunState(state)] = number
    counted = sum(number for _, _, number in rows)
    return RunCounts(found, counted, is_whole=counted < most)


# Ticks.


def ticks(query: Query, function_id: str, until: int, limit: int) -> list[CronTick]:
    """The newest ticks of a function, those of the future left out."""
    return [_tick(row) for row in query(_TICKS, (function_id, until, limit))]


def last_event_key(query: Query) -> int:
    """Of the engine's own events: their keys grow downwards."""
    return min(query("SELECT min(key) FROM event", ())[0][0] or 0, 0)


def ticks_since(query: Query, event_key: int) -> tuple[int, list[CronTick]]:
    """The ticks whose events are newer than this one of the engine's own, in order; and the newest event now."""
    last = last_event_key(query)
    events = query(
        "SELECT key, data FROM event WHERE key >= ? AND key < ? AND name = ? ORDER BY key DESC",
        (last, event_key, _TIMER),
    )
    found = [row for key, data in events for row in query(_TICK_OF_EVENT, (key, _scheduled_at(data)))]
    return last, [_tick(row) for row in found]


def tick_at(query: Query, function_id: str, scheduled_at: int) -> CronTick | None:
    """The tick of exactly this time."""
    found = ticks(query, function_id, scheduled_at, 1)
    return found[0] if found and found[0].scheduled_at == scheduled_at else None


def _tick(row: tuple[Any, ...]) -> CronTick:
    function_id, data, scheduled_at, run_key, run, state, reason = row
    said = msgspec.json.decode(data)
    return CronTick(function_id, said["cron"], said["timezone"], scheduled_at, run_key, run, RunState(state), reason)


def _scheduled_at(data: str) -> int:
    return round(datetime.fromisoformat(msgspec.json.decode(data)["scheduled_at"]).timestamp() * 1000)


# Why a run has to wait.


def queued(query: Query, run: int) -> Queued:
    """The place of a queued run in its queue."""
    function_id, partition, rank, started_at, is_suspect = query(
        "SELECT function, partition, rank, started_at, is_suspect FROM run WHERE key = ?", (run,)
    )[0]
    ahead = query(_AHEAD, (function_id, partition, rank, run, MOST_AHEAD))[0][0]
    return Queued(partition, ahead, started_at is not None, bool(is_suspect))


def executing(query: Query) -> list[Executing]:
    """What workers have been at for a moment; there are no more than they have slots."""
    rows = query("SELECT id, function, partition FROM run WHERE state = 'running' ORDER BY key", ())
    return [Executing._make(row) for row in rows]


def going(query: Query, function_id: str, singleton: str) -> list[str]:
    """The live runs of a function with this key that have begun."""
    rows = query(
        """SELECT id FROM run WHERE function = ? AND singleton = ? AND ended_at IS NULL AND started_at IS NOT NULL
           ORDER BY key""",
        (function_id, singleton),
    )
    return [id_ for (id_,) in rows]


def limit_value(query: Query, function_id: str, kind: str, key: str) -> int | None:
    rows = query("SELECT value FROM limit_state WHERE function = ? AND kind = ? AND key = ?", (function_id, kind, key))
    return rows[0][0] if rows else None


def collected(query: Query, run: int) -> Collected | None:
    """What a run has that is held for more events."""
    rows = query(
        """SELECT hold, (SELECT count(*) FROM run_event WHERE run_event.run = run.key) FROM run
           WHERE key = ? AND hold IS NOT NULL""",
        (run,),
    )
    return Collected._make(rows[0]) if rows else None
