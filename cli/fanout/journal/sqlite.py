"""The journal in one SQLite file: everything that writes to it. Reading for people is sqlite_reader.py.

The driver is apsw: 3 ms faster to import than the standard library's, 10 to 30 % faster at our statements, and it
brings the same current SQLite to every machine (docs/architecture.md has the figures).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw
import msgspec

from fanout.core.machine import RunInput, sources
from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.ids import UlidFactory
from fanout.journal import DUPLICATE_WINDOW_MS, AcceptedEvent, OpenRequest, QueuedRun, StoredEvent, Writes
from fanout.journal.sqlite_connection import Patience, check_version, not_ours, open_connection, readable_errors
from fanout.model import Failure, RunState, StepState
from fanout.protocol import RecordedStep

APPLICATION_ID = 0x66616E6F
"""`fano` in ASCII: tells our files from other people's databases, which are left alone."""
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


def _states(happened: RunInput) -> str:
    return "(" + ", ".join(f"'{state}'" for state in sources(happened)) + ")"


# The guards come from the state machine's table, so that no write can make a move which the table does not have.
_INSERT_RUN = """
  INSERT INTO run (key, id, function, event, partition, rank, state, max_attempts, queued_at, due_at, replay_of)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_CARRY_STEPS = """
  INSERT INTO step (run, key, state, position, attempts, output, started_at, ended_at)
  SELECT ?, key, state, position, attempts, output, started_at, ended_at
  FROM step WHERE run = ? AND state = 'completed'"""
_UPSERT_STEP = """
  INSERT INTO step (run, key, state, position, attempts, output, started_at, ended_at, due_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (run, key) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, output = excluded.output,
    started_at = min(started_at, excluded.started_at), ended_at = excluded.ended_at,
    due_at = excluded.due_at
  WHERE state IN ('running', 'retrying')"""
_SHOW_STEP = """
  INSERT INTO step (run, key, state, position, attempts, output, started_at, ended_at, due_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (run, key) DO UPDATE SET state = 'running', ended_at = NULL, due_at = NULL WHERE state = 'retrying'"""
_INSERT_FAILURE = "INSERT INTO failure (run, step, attempt, type, message, traceback, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
_END_RUN = f"""
  UPDATE run SET state = ?, reason = ?, output = ?, started_at = coalesce(started_at, ?), ended_at = ?, crashes = ?,
    is_suspect = 0
  WHERE key = ? AND attempt = ? AND state IN {_states(RunInput.COMPLETE)}"""
_RETRY_RUN = f"""
  UPDATE run SET state = 'waiting', due_at = ?, attempt = ?, started_at = coalesce(started_at, ?)
  WHERE key = ? AND attempt = ? AND state IN {_states(RunInput.RETRY)}"""
_LOSE_RUN = f"""
  UPDATE run SET state = 'queued', crashes = ?, is_suspect = ?
  WHERE key = ? AND attempt = ? AND state IN {_states(RunInput.LOST)}"""
_NOTE_RUN = f"""
  UPDATE run SET state = 'running', started_at = coalesce(started_at, ?)
  WHERE key = ? AND attempt = ? AND state IN {_states(RunInput.NOTED)}"""
_DUE_RUN = (
    f"UPDATE run SET state = 'queued', due_at = NULL, rank = ? WHERE key = ? AND state IN {_states(RunInput.DUE)}"
)
_CANCEL_RUN = f"""
  UPDATE run SET state = 'cancelled', due_at = NULL, ended_at = ?
  WHERE key = ? AND state IN {_states(RunInput.CANCEL)}"""
_HANDLE_REQUEST = "UPDATE request SET handled_at = ? WHERE key = ? AND handled_at IS NULL"
_STORED_EVENT = "key, id, is_id_given, name, ts, data, user, v, received_at"
_QUEUED_RUN = """key, id, function, partition, event, rank, attempt, crashes, is_suspect,
  NOT EXISTS (SELECT 1 FROM step WHERE step.run = run.key)"""

MIGRATIONS: tuple[str, ...] = ((files("fanout.journal") / "sqlite_schema.sql").read_text(),)
"""Each brings a journal from the version of its index to the next; `user_version` says where a journal is."""


class SqliteJournal:
    """A journal open for writing. See `fanout.journal.Journal` for what its methods mean."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open the journal at `path`, making it or bringing it up to date first.

        Raises:
            JournalError: it can't be opened, is no journal, or was written by a newer fanout.
        """
        self._path = path
        self._new_id = UlidFactory()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives the files beside it the rights of this one: nobody else reads payloads. Only a new file is
            # opened here: to close any descriptor of an old one would take away the locks that SQLite holds on it for
            # this process, and another SQLite tool could then remove the write-ahead log under our other connections.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise JournalError(f"the journal `{path}` can't be opened: {error.strerror}") from None
        try:
            self._connection = open_connection(path, apsw.SQLITE_OPEN_READWRITE)
            with readable_errors(path):
                self._execute = self._connection.execute
                self._prepare(migrations)
                self._data_version = self._scalar("PRAGMA data_version")
        except BaseException:
            if hasattr(self, "_connection"):
                self._connection.close()
            raise

    def _prepare(self, migrations: Sequence[str]) -> None:
        if (
            self._scalar("SELECT count(*) FROM sqlite_schema")
            and self._scalar("PRAGMA application_id") != APPLICATION_ID
        ):
            raise not_ours(self._path)
        self._switch_log_on()
        self._execute("PRAGMA synchronous = full")
        self._execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        check_version(self._path, self._scalar("PRAGMA user_version"), len(migrations))
        if self._scalar("PRAGMA user_version") < len(migrations):
            with self._transaction():
                # Read again under the lock: another process may just have done it.
                version = self._scalar("PRAGMA user_version")
                for script in migrations[version:]:
                    # A statement that returns rows would stop the script there until they are taken.
                    self._execute(script).fetchall()
                self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._execute(f"PRAGMA user_version = {len(migrations)}")

    def _switch_log_on(self) -> None:
        # SQLite does not ask the busy handler here: of several processes that make a journal, all but one would fail.
        has_patience, tries = Patience(), 0
        while True:
            try:
                if self._scalar("PRAGMA journal_mode") != "wal":
                    self._execute("PRAGMA journal_mode = wal")
            except apsw.BusyError:
                if not has_patience(tries):
                    raise
                tries += 1
            else:
                return

    def close(self) -> None:
        self._connection.close()

    def _scalar(self, sql: str, bindings: tuple[Any, ...] = ()) -> Any:
        row = self._execute(sql, bindings).fetchone()
        return row[0] if row else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that reads first and then wants to write can't wait for the lock, it can only fail.
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    # Any process.

    def append_events(self, events: Sequence[NewEvent], now: int) -> list[AcceptedEvent]:
        with readable_errors(self._path), self._transaction():
            last = self._scalar("SELECT seq FROM sqlite_sequence WHERE name = 'event'") or 0
            accepted = []
            rows = []
            given: set[str] = set()
            for key, event in enumerate(events, last + 1):
                is_duplicate = event.id is not None and (event.id in given or self._is_known(event.id, now))
                event_id = self._new_id(now) if event.id is None else event.id
                if event.id is not None:
                    given.add(event.id)
                accepted.append(AcceptedEvent(key, event_id, event.name, is_duplicate))
                ts = now if event.ts is None else event.ts
                rows.append((key, event_id, event.id is not None, event.name, ts, event.data, event.user, event.v, now))
            self._connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return accepted

    def _is_known(self, event_id: str, now: int) -> bool:
        since = now - DUPLICATE_WINDOW_MS
        return bool(self._scalar("SELECT 1 FROM event WHERE id = ? AND received_at > ? LIMIT 1", (event_id, since)))

    def append_request(self, kind: str, body: dict[str, Any], now: int) -> int:
        with readable_errors(self._path), self._transaction():
            text = msgspec.json.encode(body).decode()
            self._execute("INSERT INTO request (kind, body, made_at) VALUES (?, ?, ?)", (kind, text, now))
            return int(self._connection.last_insert_rowid())

    # The engine.

    def recover(self, now: int) -> None:
        with readable_errors(self._path), self._transaction():
            self._execute("UPDATE run SET state = 'queued' WHERE state = 'running'")
            self._execute(
                """UPDATE run SET state = 'waiting', due_at = (SELECT max(due_at) FROM step WHERE run = run.key)
                   WHERE state = 'queued' AND key IN (SELECT run FROM step WHERE due_at > ?)""",
                (now,),
            )

    def commit(self, writes: Writes) -> None:
        with readable_errors(self._path), self._transaction():
            if writes.routed_to is not None:
                self._execute("UPDATE meta SET value = ? WHERE name = 'routed_to'", (writes.routed_to,))
            for sql, rows in (
                (_INSERT_RUN, writes.runs),
                (_CARRY_STEPS, writes.carried),
                (_SHOW_STEP, writes.running),
                (_INSERT_FAILURE, writes.failures),
            ):
                if rows:
                    self._connection.executemany(sql, rows)
            for sql, changes in (
                (_NOTE_RUN, writes.noted),
                (_DUE_RUN, writes.due),
                (_UPSERT_STEP, writes.steps),
                (_RETRY_RUN, writes.retried),
                (_LOSE_RUN, writes.lost),
                (_END_RUN, writes.ended),
                (_CANCEL_RUN, writes.cancelled),
                (_HANDLE_REQUEST, writes.handled),
            ):
                if changes:
                    self._guarded(sql, changes)

    def _guarded(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Each row has to change exactly one: anything else means that two believe to own a run."""
        before = self._connection.total_changes()
        self._connection.executemany(sql, rows)
        changed = self._connection.total_changes() - before
        if changed != len(rows):
            raise JournalError(
                f"the journal `{self._path}` refused {len(rows) - changed} of {len(rows)} changes",
                hint="another program has changed it; nothing was written, start again",
            )

    def has_news(self) -> bool:
        version = self._scalar("PRAGMA data_version")
        if version == self._data_version:
            return False
        self._data_version = version
        return True

    def last_run_key(self) -> int:
        return self._scalar("SELECT max(key) FROM run") or 0

    def last_rank(self) -> int:
        return self._scalar("SELECT rank FROM run ORDER BY key DESC LIMIT 1") or 0

    def routed_to(self) -> int:
        return int(self._scalar("SELECT value FROM meta WHERE name = 'routed_to'"))

    def unrouted(self, after: int, limit: int) -> list[StoredEvent]:
        rows = self._execute(
            f"SELECT {_STORED_EVENT} FROM event WHERE key > ? ORDER BY key LIMIT ?",
            (after, limit),
        )
        return [StoredEvent._make(row) for row in rows]

    def functions_with_id(self, event_id: str, since: int) -> set[str]:
        rows = self._execute(
            "SELECT run.function FROM event JOIN run ON run.event = event.key WHERE event.id = ? AND received_at > ?",
            (event_id, since),
        )
        return {row[0] for row in rows}

    def event(self, key: int) -> StoredEvent:
        row = self._execute(f"SELECT {_STORED_EVENT} FROM event WHERE key = ?", (key,)).fetchall()
        return StoredEvent._make(row[0])

    def partitions(self) -> Iterable[tuple[str, str]]:
        # A skip-scan: one look-up for each partition, however many runs each has.
        here: tuple[str, str] = ("", "")
        while row := self._execute(
            """SELECT function, partition FROM run INDEXED BY run_queued
               WHERE state = 'queued' AND (function, partition) > (?, ?) ORDER BY function, partition LIMIT 1""",
            here,
        ).fetchone():
            here = (row[0], row[1])
            yield here

    def queued(self, function: str, partition: str, after: tuple[int, int], limit: int) -> list[QueuedRun]:
        rows = self._execute(
            f"""SELECT {_QUEUED_RUN} FROM run INDEXED BY run_queued
                WHERE state = 'queued' AND function = ? AND partition = ? AND (rank, key) > (?, ?)
                ORDER BY rank, key LIMIT ?""",
            (function, partition, *after, limit),
        )
        return [QueuedRun._make(row) for row in rows]

    def due(self, now: int, limit: int) -> list[QueuedRun]:
        rows = self._execute(
            f"""SELECT {_QUEUED_RUN} FROM run INDEXED BY run_due
                WHERE state = 'waiting' AND due_at <= ? ORDER BY due_at LIMIT ?""",
            (now, limit),
        )
        return [QueuedRun._make(row) for row in rows]

    def next_due(self) -> int | None:
        due_at: int | None = self._scalar("SELECT min(due_at) FROM run INDEXED BY run_due WHERE state = 'waiting'")
        return due_at

    def steps(self, run: int) -> tuple[RecordedStep, ...]:
        rows: list[tuple[Any, ...]] = self._execute(
            "SELECT key, state, attempts, output FROM step WHERE run = ?", (run,)
        ).fetchall()
        return tuple(
            RecordedStep(key, StepState(state), attempts, output, self._last_failure(run, key, state))
            for key, state, attempts, output in rows
        )

    def _last_failure(self, run: int, step: str, state: str) -> Failure | None:
        if state != StepState.FAILED:
            return None
        row = self._execute(
            "SELECT type, message, traceback FROM failure WHERE run = ? AND step = ? ORDER BY rowid DESC LIMIT 1",
            (run, step),
        ).fetchone()
        return Failure(*row) if row else None

    def open_requests(self, limit: int) -> list[OpenRequest]:
        rows = self._execute(
            "SELECT key, kind, body FROM request WHERE handled_at IS NULL ORDER BY key LIMIT ?", (limit,)
        )
        return [OpenRequest(key, kind, msgspec.json.decode(body)) for key, kind, body in rows]

    def replayable(self, runs: Sequence[int], *, again: bool) -> list[tuple[int, str, int]]:
        chosen = []
        for run in runs:
            row = self._execute(
                """SELECT key, function, event,
                     EXISTS (SELECT 1 FROM run replay WHERE replay.replay_of = run.key
                             AND replay.state NOT IN ('cancelled', 'skipped'))
                   FROM run WHERE key = ? AND ended_at IS NOT NULL""",
                (run,),
            ).fetchone()
            if row and (again or not row[3]):
                chosen.append((row[0], row[1], row[2]))
        return chosen

    def live(self, run: int) -> tuple[str, int] | None:
        row = self._execute("SELECT state, attempt FROM run WHERE key = ? AND ended_at IS NULL", (run,)).fetchone()
        return (RunState(row[0]), row[1]) if row else None
