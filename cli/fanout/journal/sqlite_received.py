"""Events as people see them, read from the SQLite journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.journal.family import FUNCTION_INVOKED, FamilyRun
from fanout.journal.received import Caused, EventFilter, FullEvent, ListedEvent, Origin, Source
from fanout.journal.sqlite_keys import first_key
from fanout.journal.sqlite_rows import Query
from fanout.model import RESERVED_PREFIX, RunState

MOST_RUNS = 1_000
"""So many runs of one event are told apart."""
_TIMER = "fanout/scheduled.timer"
# Names come before payloads in a row, and times behind them: so a list finds its keys by names alone.
_KEYS = """
  SELECT key FROM event WHERE {range} AND (?3 IS NULL OR name GLOB ?3) AND (?4 IS NULL OR name <> ?4)
    AND (NOT ?5 OR NOT EXISTS (SELECT 1 FROM run WHERE run.event = event.key)
                   AND NOT EXISTS (SELECT 1 FROM run_event WHERE run_event.event = event.key))
  ORDER BY {order} LIMIT ?6"""
_SENT = _KEYS.format(range="key >= ?1 AND key < ?2 AND key > 0", order="key DESC")
_OWN = _KEYS.format(range="key <= -?1 AND key > -?2 AND key < 0", order="key")
_ROWS = f"""
  SELECT event.key, event.id, event.name, event.ts, event.received_at, sender.id, sender.function,
         event.key < 0 OR event.key <= (SELECT value FROM meta WHERE name = 'routed_to'),
         event.is_id_given AND event.origin IS NULL AND EXISTS (
           SELECT 1 FROM event earlier WHERE earlier.id = event.id AND earlier.key < event.key
             AND earlier.received_at > event.received_at - {DUPLICATE_WINDOW_MS})
  FROM json_each(?) wanted CROSS JOIN event ON event.key = wanted.value
  LEFT JOIN run sender ON sender.key = event.origin
  ORDER BY event.received_at DESC, abs(event.key) DESC"""
# UNION: the first event of a batch is in both tables.
_RUN_KEYS = """
  SELECT wanted.value AS event, run.key AS run FROM json_each(?1) wanted CROSS JOIN run ON run.event = wanted.value
  UNION SELECT wanted.value, run FROM json_each(?1) wanted CROSS JOIN run_event ON run_event.event = wanted.value"""
_COUNTS = f"""
  SELECT found.event, run.function, run.state, count(*) FROM ({_RUN_KEYS}) found CROSS JOIN run ON run.key = found.run
  GROUP BY found.event, run.function, run.state"""
_RUNS = f"""
  SELECT run.key, run.id, run.function, run.event, run.state, run.parent, run.parent_step, run.started_at,
         run.ended_at, run.replay_of, run.item, run.item_key
  FROM ({_RUN_KEYS}) found CROSS JOIN run ON run.key = found.run ORDER BY run.key LIMIT {MOST_RUNS}"""
_CAUSED = """
  SELECT event.origin, event.name, child.function, count(*)
  FROM json_each(?) wanted CROSS JOIN event ON event.origin = wanted.value
  LEFT JOIN run child ON child.event = event.key AND child.parent = event.origin
  GROUP BY event.origin, event.name, child.function ORDER BY min(abs(event.key))"""


def events(query: Query, wanted: EventFilter, limit: int) -> list[ListedEvent]:
    """The newest first. Invocations, of which a map makes as many as it has items, only if their name is asked for."""
    name = None if wanted.name is None else _glob(wanted.name)
    has_invoked = wanted.name is not None and wanted.name.startswith(RESERVED_PREFIX)
    left_out = None if has_invoked else FUNCTION_INVOKED
    keys: list[int] = []
    for sql, table in ((_SENT, "event"), (_OWN, "own event")):
        first = 1 if wanted.since is None else first_key(query, table, wanted.since)
        end = 2**62 if wanted.until is None else first_key(query, table, wanted.until + 1)
        keys += [key for (key,) in query(sql, (first, end, name, left_out, wanted.is_unheard, limit))]
    return _listed(query, keys)[:limit]


def by_key(query: Query, keys: Sequence[int]) -> list[ListedEvent]:
    """These events, the newest first."""
    return _listed(query, keys)


def event(query: Query, key: int) -> FullEvent:
    """One event with its runs, and what each has caused."""
    [listed] = _listed(query, [key])
    v, data, user = query("SELECT v, data, user FROM event WHERE key = ?", (key,))[0]
    rows = query(_RUNS, (_json([key]),))
    runs = [FamilyRun._make((*row[:4], RunState(row[4]), *row[5:])) for row in rows]
    sent: dict[int, Counter[str]] = {run.key: Counter() for run in runs}
    invoked: dict[int, Counter[str]] = {run.key: Counter() for run in runs}
    for origin, name, child, number in query(_CAUSED, (_json(list(sent)),)):
        if child is not None:
            invoked[origin][child] += number
        elif name != FUNCTION_INVOKED:
            sent[origin][name] += number
    caused = tuple(Caused(run, sent[run.key], invoked[run.key]) for run in runs)
    return FullEvent(listed, v, data, user, caused, sum(listed.counts.values()))


def _listed(query: Query, keys: Sequence[int]) -> list[ListedEvent]:
    counts: dict[int, Counter[RunState]] = {}
    functions: dict[int, dict[str, None]] = {}
    for event, function, state, number in query(_COUNTS, (_json(keys),)):
        counts.setdefault(event, Counter())[RunState(state)] += number
        functions.setdefault(event, {})[function] = None
    found = []
    for key, id_, name, ts, received_at, run, function, is_routed, is_duplicate in query(_ROWS, (_json(keys),)):
        origin = None if run is None else Origin(run, function)
        found.append(
            ListedEvent(
                key=key,
                id=id_,
                name=name,
                ts=ts,
                received_at=received_at,
                source=_source(key, name, origin, is_duplicate=bool(is_duplicate)),
                origin=origin,
                is_routed=bool(is_routed),
                counts=counts.get(key, {}),
                functions=tuple(functions.get(key, ())),
            )
        )
    return found


def _source(key: int, name: str, origin: Origin | None, *, is_duplicate: bool) -> Source:
    if key > 0:
        sent = Source.DUPLICATE if is_duplicate else Source.SENT
        return sent if origin is None else Source.STEP
    return {_TIMER: Source.CRON, FUNCTION_INVOKED: Source.INVOKE}.get(name, Source.ENGINE)


def _glob(pattern: str) -> str:
    """The pattern as SQLite's GLOB reads it: only `*` is more than itself."""
    return "".join(f"[{character}]" if character in "[?" else character for character in pattern)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
