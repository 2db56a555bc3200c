"""What may be removed from the SQLite journal, and the removing: a slice at a time, each in a transaction of its own.

A run goes only when nothing that stays needs it: with its replays or not at all, after its children, and not while a
run above it stays for its age. So whatever a slice leaves behind is a whole journal, and any later pass goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from fanout.core.retention import Cutoffs
from fanout.journal.pruning import Part, Place, Pruned, Removing, Slice

_IS_OLD = """{run}.ended_at IS NOT NULL
  AND {run}.ended_at <= CASE {run}.state WHEN 'failed' THEN :failed ELSE :completed END"""
# The newest run stays, and so does the newest event of the engine's own: keys are counted on from them, and what names
# one (an event's origin, a log) must never find another in its place.
# A request that made the run goes first. A tick stays as long as a clock that is set back, or a schedule that has not
# come to it, could start it again; so does a run by which an event's given id is known.
IS_OLD_ENOUGH = f"""{_IS_OLD.format(run="run")}
  AND run.key < (SELECT max(key) FROM run)
  AND NOT EXISTS (
    SELECT 1 FROM request WHERE request.run = run.key AND coalesce(request.handled_at > :latest, 1))
  AND NOT EXISTS (
    SELECT 1 FROM tick WHERE tick.run = run.key AND (tick.scheduled_at > :window OR EXISTS (
      SELECT 1 FROM schedule WHERE schedule.function = tick.function AND schedule.through < tick.scheduled_at)))
  AND NOT EXISTS (
    SELECT 1 FROM event WHERE event.key = run.event AND event.is_id_given AND event.received_at > :window)
  AND (run.parent IS NULL OR NOT EXISTS (
    WITH RECURSIVE above (key) AS (
      SELECT run.parent UNION SELECT up.parent FROM above JOIN run up ON up.key = above.key WHERE up.parent IS NOT NULL)
    SELECT 1 FROM above JOIN run up ON up.key = above.key WHERE NOT ({_IS_OLD.format(run="up")})))"""
_IS_FREE = f"{IS_OLD_ENOUGH} AND NOT EXISTS (SELECT 1 FROM run child WHERE child.parent = run.key)"
_FREE_RUNS = f"""
  SELECT run.key, run.event, run.parent, EXISTS (SELECT 1 FROM run replay WHERE replay.replay_of = run.key)
  FROM run WHERE run.key > :after AND run.key <= :last AND run.replay_of IS NULL AND {_IS_FREE}"""
_REPLAYS = """
  WITH RECURSIVE replays (key) AS (
    SELECT :root UNION SELECT run.key FROM replays JOIN run ON run.replay_of = replays.key)"""
_GROUP = f"{_REPLAYS} SELECT run.key, run.event, run.parent, {_IS_FREE} FROM replays JOIN run ON run.key = replays.key"
_ORIGINAL = """
  WITH RECURSIVE original (key, replay_of) AS (
    SELECT key, replay_of FROM run WHERE key = ?
    UNION SELECT run.key, run.replay_of FROM original JOIN run ON run.key = original.replay_of)
  SELECT key FROM original WHERE replay_of IS NULL"""
ASKED = """
  SELECT asked.value FROM request CROSS JOIN json_each(request.body, '$.runs') asked
  WHERE request.handled_at IS NULL AND request.kind = 'replay' """
IS_FREE_EVENT = """NOT EXISTS (SELECT 1 FROM run WHERE run.event = event.key)
  AND NOT EXISTS (SELECT 1 FROM run_event WHERE run_event.event = event.key)
  AND event.key <= (SELECT value FROM meta WHERE name = 'routed_to')
  AND (event.key > 0 OR event.key > (SELECT min(key) FROM event))
  AND event.received_at <= CASE WHEN event.is_id_given THEN min(:events, :window) ELSE :events END"""
_DELETE_EVENT = f"DELETE FROM event WHERE key = :key AND {IS_FREE_EVENT}"
_DELETE_EVENTS = f"DELETE FROM event WHERE key BETWEEN :first AND :last AND {IS_FREE_EVENT}"
_SPARE_PAGES = 4_096
_SPARE_SHARE = 10
"""Free pages that are kept, to be used again: so many, or one of so many."""


class _Run(NamedTuple):
    key: int
    event: int
    parent: int | None


def times_of(cutoffs: Cutoffs) -> dict[str, int]:
    """What the statements bind."""
    return {**cutoffs._asdict(), "latest": cutoffs.latest}


def prune(connection: apsw.Connection, place: Place, cutoffs: Cutoffs, most: int, removing: Removing) -> Slice:
    """One slice, in the transaction that is open: it looks at `most` rows from `place` on."""
    part = _Slice(connection, cutoffs, most, removing)
    match place.part:
        case Part.REQUESTS:
            after = part.requests(place.after)
        case Part.LIMITS:
            after = part.limits(place.after)
        case Part.RUNS:
            after = part.runs(place.after)
        case Part.EVENTS:
            after = part.events(place.after, "key > ? AND key > 0", "ASC")
        case Part.OWN_EVENTS:
            after = part.events(place.after, "key < ? AND key < 0", "DESC")
        case Part.SPACE:
            after = part.space()
    return Slice(Place(place.part, after) if after else _behind(place.part), part.pruned)


def _behind(part: Part) -> Place | None:
    parts = [*Part]
    number = parts.index(part) + 1
    return Place(parts[number]) if number < len(parts) else None


class _Slice:
    """Each part returns behind which key the next slice goes on, or nothing if it has come to its end."""

    def __init__(self, connection: apsw.Connection, cutoffs: Cutoffs, most: int, removing: Removing) -> None:
        self._connection = connection
        self._cutoffs = cutoffs
        self._times = times_of(cutoffs)
        self._most = most
        self._removing = removing
        self.pruned = Pruned()

    def _rows(self, sql: str, bindings: Any = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, bindings).fetchall()

    def _changed(self, sql: str, bindings: Any) -> int:
        self._connection.execute(sql, bindings)
        return self._connection.changes()

    def _each(self, sql: str, rows: Sequence[Any]) -> int:
        before = self._connection.total_changes()
        self._connection.executemany(sql, rows)
        return self._connection.total_changes() - before

    def _count(self, **more: int) -> None:
        self.pruned = self.pruned.plus(Pruned(**more))

    # What refers to runs, or is as good as not there.

    def requests(self, after: tuple[int | str, ...]) -> tuple[int | str, ...]:
        begin = after or (0,)
        keys = self._rows("SELECT key FROM request WHERE key > ? ORDER BY key LIMIT ?", (*begin, self._most))
        if not keys:
            return ()
        removed = self._changed(
            "DELETE FROM request WHERE key > ? AND key <= ? AND handled_at <= ?",
            (*begin, keys[-1][0], self._cutoffs.latest),
        )
        self._count(requests=removed)
        return (keys[-1][0],)

    def limits(self, after: tuple[int | str, ...]) -> tuple[int | str, ...]:
        begin = after or ("", "", "")
        rows = self._rows(
            """SELECT function, kind, key, value <= CASE kind WHEN 'idempotency' THEN ? ELSE ? END
               FROM limit_state WHERE (function, kind, key) > (?, ?, ?) ORDER BY function, kind, key LIMIT ?""",
            (self._cutoffs.window, self._cutoffs.spent, *begin, self._most),
        )
        spent = [tuple(where) for *where, is_spent in rows if is_spent]
        self._each("DELETE FROM limit_state WHERE function = ? AND kind = ? AND key = ?", spent)
        self._count(limits=len(spent))
        return tuple(rows[-1][:3]) if rows else ()

    # Runs.

    def runs(self, after: tuple[int | str, ...]) -> tuple[int | str, ...]:
        begin = after or (0,)
        last, first_queued_at = self._rows(
            "SELECT max(key), min(queued_at) FROM (SELECT key, queued_at FROM run WHERE key > ? ORDER BY key LIMIT ?)",
            (*begin, self._most),
        )[0]
        if last is None or first_queued_at > self._cutoffs.latest:
            return ()
        found = self._rows(_FREE_RUNS, {**self._times, "after": begin[0], "last": last})
        groups = [
            self._with_replays(key) if has_replays else [_Run(key, event, parent)]
            for key, event, parent, has_replays in found
        ]
        # The last child that goes may be all that has kept its parent, and so on upwards.
        while gone := self._unasked(groups):
            self._remove(gone)
            parents = sorted({run.parent for run in gone if run.parent is not None})
            groups = [self._with_replays(original) for original in self._originals(parents)]
        return (last,)

    def _unasked(self, groups: Sequence[list[_Run]]) -> list[_Run]:
        """Without those that somebody has asked to replay, which may take its time."""
        keys = msgspec.json.encode([run.key for group in groups for run in group]).decode()
        asked = {run for (run,) in self._rows(f"{ASKED} AND asked.value IN (SELECT value FROM json_each(?))", (keys,))}
        return [run for group in groups if asked.isdisjoint(each.key for each in group) for run in group]

    def _originals(self, runs: Iterable[int]) -> list[int]:
        return sorted({original for run in runs for (original,) in self._rows(_ORIGINAL, (run,))})

    def _with_replays(self, root: int) -> list[_Run]:
        """The run and its replays, if all of them may go: without a replay, its failure would seem not to be mended."""
        group = self._rows(_GROUP, {**self._times, "root": root})
        return [_Run(*run) for *run, _ in group] if all(is_free for *_, is_free in group) else []

    def _remove(self, runs: Sequence[_Run]) -> None:
        keys = [(run.key,) for run in runs]
        named = msgspec.json.encode([run.key for run in runs]).decode()
        ids = self._rows("SELECT id FROM run WHERE key IN (SELECT value FROM json_each(?))", (named,))
        self._removing([id_ for (id_,) in ids])
        events = {run.event for run in runs}
        for key in keys:
            events.update(event for (event,) in self._rows("SELECT event FROM run_event WHERE run = ?", key))
        for table in ("failure", "run_event", "wait", "map"):
            self._each(f"DELETE FROM {table} WHERE run = ?", keys)
        self._count(
            requests=self._each("DELETE FROM request WHERE run = ?", keys),
            ticks=self._each("DELETE FROM tick WHERE run = ?", keys),
            steps=self._each("DELETE FROM step WHERE run = ?", keys),
            runs=self._each("DELETE FROM run WHERE key = ?", keys),
            events=self._each(_DELETE_EVENT, [{**self._times, "key": event} for event in sorted(events)]),
        )

    # Events that no run has, or has any more.

    def events(self, after: tuple[int | str, ...], beyond: str, order: str) -> tuple[int | str, ...]:
        keys = self._rows(
            f"SELECT key FROM event WHERE {beyond} ORDER BY key {order} LIMIT ?", (*(after or (0,)), self._most)
        )
        if not keys or self._received_at(keys[0][0]) > self._cutoffs.events:
            return ()
        first, last = sorted((keys[0][0], keys[-1][0]))
        self._count(events=self._changed(_DELETE_EVENTS, {**self._times, "first": first, "last": last}))
        return (keys[-1][0],)

    def _received_at(self, event: int) -> int:
        return int(self._rows("SELECT received_at FROM event WHERE key = ?", (event,))[0][0])

    # The file.

    def space(self) -> tuple[int | str, ...]:
        """Give pages back to the file system that will not be needed soon."""
        (free,), (pages,) = self._rows("PRAGMA freelist_count")[0], self._rows("PRAGMA page_count")[0]
        if free <= max(_SPARE_PAGES, pages // _SPARE_SHARE):
            return ()
        self._rows(f"PRAGMA incremental_vacuum({self._most})")
        ((left,),) = self._rows("PRAGMA freelist_count")
        return (left,) if left < free else ()
