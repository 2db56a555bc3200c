"""The logs of runs in a SQLite file of their own, outside of what the journal makes durable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import apsw
import msgspec

from fanout.errors import JournalError
from fanout.journal.logs import MOST_LINES, LogLine, LogSize
from fanout.journal.sqlite_connection import Patience, place_of
from fanout.protocol import Logged

APPLICATION_ID = 0x66616E6C
"""`fanl` in ASCII."""
VERSION = 1
_SIZE_LIMIT_BYTES = 64 * 1024 * 1024
_MOST_WAITING = 20_000
_MOST_KNOWN = 4_096
_RUNS_A_DELETE = 100
_PAUSE_S = 60.0
_HINT = "no run needs them: move that file away, and a new one is made"


class _Run:
    __slots__ = ("key", "left_out", "lines")

    def __init__(self, key: int, lines: int, left_out: int) -> None:
        self.key = key
        self.lines = lines
        self.left_out = left_out


class SqliteLogs:
    """The logs of a journal's runs, open for writing as soon as there is something to write."""

    def __init__(self, path: Path, *, warn: Callable[[str], None] = lambda _text: None) -> None:
        """The logs at `path`. What is wrong with them is said once, by `warn`."""
        self._path = path
        self._warn = warn
        self._has_warned = False
        self._off_until = 0.0
        self._waiting: list[Logged] = []
        self._runs: dict[str, _Run] = {}
        """What is known of the runs that have written lately."""
        self._connection: apsw.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._data_version = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.catch_up()
        self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._runs.clear()

    def write(self, lines: Sequence[Logged]) -> None:
        """Keep these; whatever is in the way, this returns soon and raises nothing."""
        if self._off_until:
            if time.monotonic() < self._off_until:
                return
            self._off_until = 0.0
        waiting = self._waiting
        waiting += lines
        try:
            connection = self._opened()
            with _transaction(connection):
                self._insert(connection, waiting)
        except apsw.BusyError:
            self._runs.clear()
            del waiting[:-_MOST_WAITING]
        except (apsw.Error, OSError, JournalError) as error:
            self._give_up(error)
        else:
            waiting.clear()

    def catch_up(self) -> None:
        """Keep what could not be before, because somebody had the file."""
        if self._waiting:
            self.write(())

    def _give_up(self, error: Exception) -> None:
        """For a while: a full disk may have room again."""
        self._waiting.clear()
        self._off_until = time.monotonic() + _PAUSE_S
        with suppress(apsw.Error):
            self._let_go()
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"warning: what functions print is not kept: `{self._path}` can't be written: {error}")

    def _insert(self, connection: apsw.Connection, lines: list[Logged]) -> None:
        version = connection.pragma("data_version")
        if version != self._data_version or len(self._runs) > _MOST_KNOWN:
            self._runs.clear()  # Somebody has removed runs, it may be some of these.
            self._data_version = version
        rows, changed = [], {}
        for line in lines:
            run = self._runs.get(line.run_id) or self._learn(connection, line.run_id)
            changed[run.key] = run
            if run.lines >= MOST_LINES:
                run.left_out += 1
                continue
            run.lines += 1
            rows.append((run.key, run.lines, line.step, line.attempt, line.at, line.source, line.logger, line.text))
        connection.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany(
            "UPDATE run SET lines = ?, left_out = ? WHERE key = ?",
            [(run.lines, run.left_out, run.key) for run in changed.values()],
        )

    def _learn(self, connection: apsw.Connection, id_: str) -> _Run:
        # The change changes nothing, but makes it return a row that was there.
        row: Any = connection.execute(
            "INSERT INTO run (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET id = id RETURNING key, lines, left_out",
            (id_,),
        ).fetchall()[0]
        self._runs[id_] = run = _Run(*row)
        return run

    def delete(self, runs: Sequence[str]) -> None:
        """Remove what the runs with these ids have written. Any process may.

        Raises:
            JournalError: it can't be removed.
        """
        if not self._path.exists():
            return
        with _readable_errors(self._path):
            connection = self._opened()
            try:
                connection.set_busy_handler(Patience())
                for first in range(0, len(runs), _RUNS_A_DELETE):
                    ids = msgspec.json.encode(runs[first : first + _RUNS_A_DELETE]).decode()
                    with _transaction(connection):
                        there = "(SELECT key FROM run WHERE id IN (SELECT value FROM json_each(?)))"
                        connection.execute(f"DELETE FROM line WHERE run IN {there}", (ids,))
                        connection.execute(f"DELETE FROM run WHERE key IN {there}", (ids,))
                connection.execute("PRAGMA incremental_vacuum").fetchall()
            finally:
                connection.set_busy_handler(None)
                self._runs.clear()

    def forget(self, runs: Sequence[str]) -> None:
        """As `delete`, but whatever is in the way raises nothing: then they stay."""
        with suppress(JournalError, OSError):
            self.delete(runs)

    def _opened(self) -> apsw.Connection:
        """The connection; a new one if somebody has taken the file away."""
        if self._connection is not None and place_of(self._path) == self._place:
            return self._connection
        self._let_go()
        with suppress(FileExistsError):
            # As with the journal: nobody else reads what functions print, and no descriptor of an old file is closed.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            _prepare(connection, self._path)
            self._data_version = connection.pragma("data_version")
        except BaseException:
            connection.close()
            raise
        self._connection, self._place = connection, place_of(self._path)
        return connection


def _prepare(connection: apsw.Connection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchall() != [(0,)]:
        _check(connection, path)
    else:
        connection.pragma("auto_vacuum", "incremental")
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    connection.pragma("journal_size_limit", _SIZE_LIMIT_BYTES)
    if connection.pragma("user_version") == 0:
        with _transaction(connection):
            if connection.pragma("user_version") == 0:  # Another process may just have done it.
                connection.execute((files("fanout.journal") / "sqlite_logs_schema.sql").read_text())
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", VERSION)


def _check(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise JournalError(f"`{path}` does not hold logs of fanout", hint=_HINT)
    if connection.pragma("user_version") > VERSION:
        raise JournalError(f"`{path}` was written by a newer fanout", hint="upgrade fanout, or move that file away")


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise JournalError(
            f"the logs `{path}` can't be used: {error}",
            hint=_HINT,
        ) from None


class LogReader:
    """The logs of runs, for people: read-only, one statement at a time. Use it in a `with`."""

    def __init__(self, path: Path, *, redact: tuple[str, ...] = ()) -> None:
        """The logs at `path`; until there are any, no run has any.

        What was written before these keys were hidden is hidden when it is read.
        """
        self._path = path
        self._redact = redact
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def size(self, run: str) -> LogSize:
        """How much there is of the run with this id.

        Raises:
            JournalError: the logs can't be read; as all of these may.
        """
        rows = self._all("SELECT lines, left_out FROM run WHERE id = ?", (run,))
        return LogSize(*rows[0]) if rows else LogSize()

    def lines(self, run: str, *, after: int = 0, step: str | None = None, limit: int = -1) -> list[LogLine]:
        """The lines behind this number, in order; only those of a step, if one is given."""
        rows = self._all(
            """SELECT number, step, attempt, at, source, logger, text FROM line
               WHERE run = (SELECT key FROM run WHERE id = ?1) AND number > ?2 AND (?3 IS NULL OR step = ?3)
               ORDER BY number LIMIT ?4""",
            (run, after, step, limit),
        )
        if not self._redact:
            return [LogLine(*row) for row in rows]
        from fanout.core.redaction import redaction_of  # lazy: few have anything to hide

        hide = redaction_of(self._redact)
        return [line._replace(text=hide.text(line.text)) for line in (LogLine(*row) for row in rows)]

    def _all(self, sql: str, bindings: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with _readable_errors(self._path):
            connection = self._opened()
            return [] if connection is None else connection.execute(sql, bindings).fetchall()

    def _opened(self) -> apsw.Connection | None:
        if self._connection is None and self._path.exists():
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                connection.set_busy_handler(Patience())
                if connection.pragma("user_version") == 0 and not connection.pragma("application_id"):
                    connection.close()  # It is being made at this moment.
                    return None
                _check(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
