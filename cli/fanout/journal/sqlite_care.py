"""Reading a journal as a whole: its size, whether it is true to its rules, and what pruning would remove."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from fanout.core.retention import Cutoffs
from fanout.journal import sqlite_checks, sqlite_export
from fanout.journal.care import Finding, Information
from fanout.journal.pruning import Pruned
from fanout.journal.sqlite_connection import readable_errors
from fanout.journal.sqlite_pruning import ASKED, IS_OLD_ENOUGH, times_of
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState

_IS_GONE = "EXISTS (SELECT 1 FROM gone other WHERE other.key = {key})"
# With its replays or not at all, and only after all its children: what they keep, keeps others, until nothing changes.
_KEPT_BY_OTHERS = f"""
  DELETE FROM gone WHERE
    EXISTS (SELECT 1 FROM run child WHERE child.parent = gone.key AND NOT {_IS_GONE.format(key="child.key")})
    OR EXISTS (SELECT 1 FROM run replay WHERE replay.replay_of = gone.key AND NOT {_IS_GONE.format(key="replay.key")})
    OR EXISTS (SELECT 1 FROM run WHERE run.key = gone.key AND run.replay_of IS NOT NULL
                 AND NOT {_IS_GONE.format(key="run.replay_of")})"""
_EVENTS = f"""
  SELECT count(*) FROM event
  WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.event = event.key AND NOT {_IS_GONE.format(key="run.key")})
    AND NOT EXISTS (
      SELECT 1 FROM run_event WHERE run_event.event = event.key AND NOT {_IS_GONE.format(key="run_event.run")})
    AND event.key <= (SELECT value FROM meta WHERE name = 'routed_to')
    AND (event.key > 0 OR event.key > (SELECT min(key) FROM event))
    AND event.received_at <= CASE WHEN event.is_id_given THEN min(:events, :window) ELSE :events END"""
_LIMITS = """
  SELECT count(*) FROM limit_state WHERE value <= CASE kind WHEN 'idempotency' THEN :window ELSE :spent END"""


class CareReader(JournalReader):
    """A journal open for reading as a whole, which may take seconds; the engine is not held up by it."""

    def information(self, cutoffs: Cutoffs) -> Information:
        """As of one moment."""
        with self._snapshot():
            tables = [name for (name,) in self._all(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
            )]  # fmt: skip
            return Information(
                schema_version=self._number("PRAGMA user_version"),
                file_bytes=self._size(""),
                log_bytes=self._size("-wal"),
                free_bytes=self._number("PRAGMA freelist_count") * self._number("PRAGMA page_size"),
                is_shrinkable=bool(self._number("PRAGMA auto_vacuum")),
                rows={table: self._number(f'SELECT count(*) FROM "{table}"') for table in tables},
                runs={
                    RunState(state): number
                    for state, number in self._all("SELECT state, count(*) FROM run GROUP BY state ORDER BY state")
                },
                oldest_run=self._run_at("ASC"),
                newest_run=self._run_at("DESC"),
                prunable=self._prunable(cutoffs),
            )

    def prunable(self, cutoffs: Cutoffs) -> Pruned:
        """What a pass would remove now."""
        with self._snapshot():
            return self._prunable(cutoffs)

    @property
    def connection(self) -> apsw.Connection:
        """For a copy of it all."""
        return self._connection

    def export(self, *, since: int, function: str | None) -> Iterator[bytes]:
        """What it has, a line of JSON each."""
        return sqlite_export.lines(self._all, since=since, function=function)

    def findings(self) -> Iterator[Finding]:
        """What each check has found; each sees a moment of its own."""
        return sqlite_checks.findings(lambda sql, bindings: self._connection.execute(sql, tuple(bindings)).fetchall())

    def outcome(self, request: int) -> str | None:
        """What has come of a request, as JSON text."""
        outcome: str | None = self._all("SELECT outcome FROM request WHERE key = ?", (request,))[0][0]
        return outcome

    def _prunable(self, cutoffs: Cutoffs) -> Pruned:
        times = times_of(cutoffs)
        with readable_errors(self.path):
            self._connection.execute("DROP TABLE IF EXISTS temp.gone")
            self._connection.execute("CREATE TEMP TABLE gone (key INTEGER PRIMARY KEY)")
            self._connection.execute(
                f"""INSERT INTO gone SELECT run.key FROM run
                    WHERE {IS_OLD_ENOUGH} AND run.key NOT IN ({ASKED})""",
                times,
            )
            self._connection.execute(_KEPT_BY_OTHERS)
            while self._connection.changes():
                self._connection.execute(_KEPT_BY_OTHERS)
            return Pruned(
                runs=self._number("SELECT count(*) FROM gone"),
                steps=self._number("SELECT count(*) FROM gone CROSS JOIN step ON step.run = gone.key"),
                events=self._number(_EVENTS, times),
                ticks=self._number("SELECT count(*) FROM gone CROSS JOIN tick ON tick.run = gone.key"),
                requests=self._number("SELECT count(*) FROM request WHERE handled_at <= ?", (cutoffs.latest,)),
                limits=self._number(_LIMITS, times),
            )

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._all("BEGIN")
        try:
            yield
        finally:
            # Also what is temporary is gone with it.
            self._all("ROLLBACK")

    def _number(self, sql: str, bindings: Sequence[Any] | dict[str, int] = ()) -> int:
        with readable_errors(self.path):
            number: Any = self._connection.execute(sql, bindings).fetchall()[0][0]
        return int(number)

    def _size(self, suffix: str) -> int:
        try:
            return os.stat(f"{self.path}{suffix}").st_size  # noqa: PTH116 - a suffix behind the suffix
        except FileNotFoundError:
            return 0

    def _run_at(self, order: str) -> tuple[str, int] | None:
        rows = self._all(f"SELECT id, queued_at FROM run ORDER BY key {order} LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else None
