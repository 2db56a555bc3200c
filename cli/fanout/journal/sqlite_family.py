"""Families in the SQLite journal: what events cause, followed down; what caused a run, followed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.journal.family import Family, FamilyEvent, FamilyRun, LeftOver, Progress, Watched, live
from fanout.journal.sqlite_functions import HELD_UP
from fanout.journal.sqlite_rows import Query, select_runs, with_steps
from fanout.model import Run, RunState

_MOST_ANCESTORS = 10_000
# One row for each run, and one for an event without any. Both joins are look-ups in an index (event_origin,
# run_once), so a family costs what it has members. UNION, not UNION ALL: a root may have been caused by another one.
# CROSS JOIN keeps SQLite from reading all runs there are, to find those of a family that it takes to be large.
_FAMILY = """
  WITH RECURSIVE family (event, run, state) AS (
    SELECT run.event, run.key, run.state FROM run WHERE {roots}
    UNION
    SELECT event.key, run.key, run.state
    FROM family CROSS JOIN event ON event.origin = family.run LEFT JOIN run ON run.event = event.key)"""
_MEMBERS = f"""event.key, event.id, event.name, event.received_at, event.origin,
         event.is_id_given AND EXISTS (
           SELECT 1 FROM event earlier WHERE earlier.id = event.id AND earlier.key < event.key
             AND earlier.received_at > event.received_at - {DUPLICATE_WINDOW_MS}),
         run.key, run.id, run.function, run.event, run.state, run.parent, run.parent_step, run.started_at,
         run.ended_at, run.replay_of, run.item, run.item_key"""
_TREE = """
  WITH RECURSIVE family (event, run, is_root) AS (
    SELECT {columns}, 1 FROM {source} WHERE {roots}
    UNION
    SELECT event.key, run.key, 0
    FROM family CROSS JOIN event ON event.origin = family.run LEFT JOIN run ON run.event = event.key
    LIMIT {limit})
  SELECT family.is_root, {members}
  FROM family CROSS JOIN event ON event.key = family.event LEFT JOIN run ON run.key = family.run
  ORDER BY event.received_at, abs(event.key), run.key"""
_EVENT_COUNTS = """
  SELECT NULL, (SELECT value >= ?2 FROM meta WHERE name = 'routed_to'), NULL
  UNION ALL SELECT state, count(*), min(event) FROM run WHERE event BETWEEN ?1 AND ?2 GROUP BY state"""
_HAS_MORE = """
  SELECT EXISTS (SELECT 1 FROM event WHERE origin BETWEEN (SELECT min(key) FROM run WHERE event BETWEEN ?1 AND ?2)
    AND (SELECT max(key) FROM run WHERE event BETWEEN ?1 AND ?2))"""
_ROOT_COUNTS = """
  SELECT NULL, {is_routed} UNION ALL SELECT run.state, count(*) FROM run WHERE {roots} GROUP BY run.state"""
_COUNTS = """
  SELECT state, count(run), max(event) <= (SELECT value FROM meta WHERE name = 'routed_to')
  FROM family GROUP BY state"""
# A run whose children are live waits for them: what those wait for is what people want to know.
_WAITING = """
  SELECT run.key, coalesce(run.due_at, (SELECT min(step.due_at) FROM step
           WHERE step.run = run.key AND step.state IN ('waiting', 'retrying'))) AS goes_on_at, count(*) OVER ()
  FROM family CROSS JOIN run ON run.key = family.run
  WHERE family.state = 'waiting'
    AND NOT EXISTS (SELECT 1 FROM run child WHERE child.parent = run.key AND child.ended_at IS NULL)
  ORDER BY goes_on_at IS NULL, goes_on_at LIMIT """
_GOES_ON = f""", {HELD_UP}
  SELECT max(run.state <> 'waiting' AND NOT (run.state = 'queued' AND run.function IN (SELECT id FROM held_up))),
         (SELECT max(event) FROM family) > (SELECT value FROM meta WHERE name = 'routed_to'),
         min(run.due_at), min(run.deadline_at),
         min((SELECT min(step.due_at) FROM step WHERE step.run = run.key AND step.state IN ('waiting', 'retrying')))
  FROM family CROSS JOIN run ON run.key = family.run WHERE run.ended_at IS NULL"""
_ANCESTORS = f"""
  WITH RECURSIVE above (event, run, depth) AS (
    SELECT ?1, ?2, 0
    UNION ALL
    SELECT run.event, run.key, depth + 1
    FROM above CROSS JOIN event ON event.key = above.event CROSS JOIN run ON run.key = event.origin LIMIT ?3)
  SELECT {_MEMBERS}
  FROM above CROSS JOIN event ON event.key = above.event LEFT JOIN run ON run.key = above.run ORDER BY depth"""


def _roots(watched: Watched) -> tuple[str, str, tuple[Any, ...]]:
    """(which runs they are, whether they are all there yet, bindings of both), as SQL."""
    if watched.request is None:
        return (
            "run.event BETWEEN ?1 AND ?2",
            "(SELECT value >= ?2 FROM meta WHERE name = 'routed_to')",
            (watched.first_event, watched.last_event),
        )
    is_handled = "(SELECT handled_at IS NOT NULL FROM request WHERE key = ?1)"
    if not watched.replayed:
        return "run.key = (SELECT run FROM request WHERE key = ?1)", is_handled, (watched.request,)
    return (
        # One binding, however many: SQLite takes 32,766 of them at most.
        "run.replay_of IN (SELECT value FROM json_each(?2)) AND run.key > ?3",
        is_handled,
        (watched.request, msgspec.json.encode(watched.replayed).decode(), watched.after_run),
    )


def progress(query: Query, watched: Watched) -> Progress:
    """How far they are. Only once all roots are final it looks further."""
    roots, is_routed, bindings = _roots(watched)
    (_, is_there), *rows = query(_ROOT_COUNTS.format(roots=roots, is_routed=is_routed), bindings)
    found = {RunState(state): number for state, number in rows}
    if not is_there or not found or live(found):
        return Progress(found, bool(is_there))
    return _whole_progress(query, roots, bindings)


class Following:
    """Looks at the same events again and again.

    Runs of those before the first that has a live one end no more: they are counted once.
    """

    def __init__(self, query: Query, watched: Watched) -> None:
        self._query = query
        self._watched = watched
        self._first = watched.first_event
        self._settled: Counter[RunState] = Counter()

    def look(self) -> Progress:
        """As `progress`."""
        if self._watched.request is not None:
            return progress(self._query, self._watched)
        found, first_live, is_there = self._count(self._watched.last_event)
        counted = self._settled + found
        if first_live is None:
            is_all = is_there and bool(counted) and not self._has_more()
            return Progress(dict(counted), True) if is_all else progress(self._query, self._watched)
        if first_live > self._first:
            self._settled += self._count(first_live - 1)[0]
            self._first = first_live
        return Progress(dict(counted), is_there)

    def _count(self, last: int) -> tuple[Counter[RunState], int | None, bool]:
        """(runs by state, the first event that has a live one, whether all are there): from the first to this event."""
        (_, is_there, _), *rows = self._query(_EVENT_COUNTS, (self._first, last))
        found = Counter({RunState(state): number for state, number, _ in rows})
        first_live = min((event for state, _, event in rows if not RunState(state).is_final), default=None)
        return found, first_live, bool(is_there)

    def _has_more(self) -> bool:
        """Whether they, or what else ran meanwhile, have caused something. That is a look; a walk takes long."""
        bounds = (self._watched.first_event, self._watched.last_event)
        return bool(self._query(_HAS_MORE, bounds)[0][0])


def counts(query: Query, watched: Watched) -> dict[RunState, int]:
    """How many runs of the whole family are in each state."""
    roots, _, bindings = _roots(watched)
    return _whole_progress(query, roots, bindings).counts


def _whole_progress(query: Query, roots: str, bindings: tuple[Any, ...]) -> Progress:
    # All bindings have to occur in a statement; only the question whether roots are there needs the first of some.
    rows = query(f"{_FAMILY.format(roots=roots)} {_COUNTS}", bindings)
    return Progress(
        {RunState(state): number for state, number, _ in rows if state is not None},
        all(is_routed for _, _, is_routed in rows),
    )


def runs(query: Query, watched: Watched, *, outputs: bool) -> list[Run]:
    """All runs of the family with their steps, in the order in which they were made."""
    roots, _, bindings = _roots(watched)
    source = "family CROSS JOIN run ON run.key = family.run"
    rows = query(f"{_FAMILY.format(roots=roots)} {select_runs(source, outputs=outputs)} ORDER BY run.key", bindings)
    return [with_steps(query, row, outputs=outputs) for row in rows]


def waiting(query: Query, watched: Watched, limit: int) -> tuple[int, list[int]]:
    """How many runs of the family wait, but for those whose children are live; keys of the first to go on."""
    roots, _, bindings = _roots(watched)
    rows = query(f"{_FAMILY.format(roots=roots)} {_WAITING} {limit}", bindings)
    return (rows[0][2] if rows else 0), [key for key, *_ in rows]


def goes_on_at(query: Query, watched: Watched) -> int | None:
    """When the first of those that are live does something: 0 is now, None is not by itself."""
    roots, _, bindings = _roots(watched)
    is_going, is_unrouted, *times = query(f"{_FAMILY.format(roots=roots)} {_GOES_ON}", bindings)[0]
    return 0 if is_going or is_unrouted else min((at for at in times if at is not None), default=None)


def family(query: Query, watched: Watched, limit: int) -> Family:
    """Who caused whom, without what people are shown of each; at most so many members."""
    roots, _, bindings = _roots(watched)
    columns, source = "run.event, run.key", "run"
    if watched.request is None:
        # Events that started nothing belong to it as well.
        columns, source = "event.key, run.key", "event LEFT JOIN run ON run.event = event.key"
        roots = "event.key BETWEEN ?1 AND ?2"
    # One more than it may be tells whether there are more.
    rows = query(_TREE.format(columns=columns, source=source, roots=roots, limit=limit + 1, members=_MEMBERS), bindings)
    found = Family(is_cut=len(rows) > limit)
    for is_root, *row in rows:
        _add(found, row, is_root=bool(is_root))
    if found.is_cut:
        found.counts = Counter(counts(query, watched))
    return found


def trace(query: Query, event: int, run: int | None, *, levels: int, limit: int) -> tuple[Family, int]:
    """The family that this event or run belongs to, from its first event on.

    Of a chain with more levels than that above it, the nearest ones; the second value is how many more there are.
    """
    above = query(_ANCESTORS, (event, run, _MOST_ANCESTORS))
    near = above[: levels + 1]
    root = near[-1][0]
    found = family(query, Watched(root, root), limit)
    # Of a family that was cut short, this part is wanted all the same.
    for row in near:
        _add(found, row, is_root=row[0] == root)
    return found, len(above) - len(near)


def _add(family: Family, row: Sequence[Any], *, is_root: bool) -> None:
    event_key, event_id, name, received_at, origin, is_duplicate = row[:6]
    event, run = FamilyEvent(event_key, event_id, name, received_at, origin, bool(is_duplicate)), None
    if row[6] is not None:
        key, id_, function, of_event, state, *rest = row[6:]
        run = FamilyRun(key, id_, function, of_event, RunState(state), *rest)
    family.add(event, run, is_root=is_root)


def left_over(query: Query, until: int) -> LeftOver:
    """What an engine finds that begins now, of which nothing has been started or that is due by then."""
    (row,) = query(
        """SELECT (SELECT count(*) FROM event WHERE key > (SELECT value FROM meta WHERE name = 'routed_to')),
             (SELECT count(*) FROM run WHERE state = 'queued')
             + (SELECT count(*) FROM run WHERE state = 'waiting' AND key IN (
                  SELECT key FROM run INDEXED BY run_due WHERE due_at IS NOT NULL AND due_at <= ?1 UNION
                  SELECT run FROM step INDEXED BY step_due WHERE due_at IS NOT NULL AND due_at <= ?1)),
             (SELECT count(*) FROM request WHERE handled_at IS NULL)""",
        (until,),
    )
    return LeftOver(*row)
