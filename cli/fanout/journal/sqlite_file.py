"""The file of a journal: made, opened, brought up to date, and changed in transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from fanout.errors import JournalError
from fanout.journal.sqlite_connection import (
    Files,
    Patience,
    check_version,
    full,
    moved,
    not_ours,
    open_connection,
    place_of,
    readable_errors,
)

APPLICATION_ID = 0x66616E6F
"""`fano` in ASCII: tells our files from other people's databases, which are left alone."""
_WAL_LIMIT_BYTES = 64 * 1024 * 1024
_LEAST_ROOM_BYTES = 1024 * 1024
MIGRATIONS: tuple[str, ...] = (Path(__file__).with_name("sqlite_schema.sql").read_text(),)
"""Each brings a journal from the version of its index to the next; `user_version` says where a journal is."""


class JournalFile:
    """A journal's file, open for writing."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open the journal at `path`, making it or bringing it up to date first.

        Raises:
            JournalError: it can't be opened, is no journal, or was written by a newer fanout.
        """
        self._path = path
        self._make_file()
        before = place_of(path)
        try:
            self._connection = open_connection(path, apsw.SQLITE_OPEN_READWRITE)
            with readable_errors(path):
                self._execute = self._connection.execute
                self._prepare(migrations)
                self._data_version = self._scalar("PRAGMA data_version")
            self._files = Files(path, before)
        except BaseException:
            if hasattr(self, "_connection"):
                self._connection.close()
            raise

    def _make_file(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives the files beside it the rights of this one: nobody else reads payloads. Only a new file is
            # opened here: to close any descriptor of an old one would take away the locks that SQLite holds on it for
            # this process, and another SQLite tool could then remove the write-ahead log under our other connections.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise JournalError(f"the journal `{self._path}` can't be opened: {error.strerror}") from None

    def _prepare(self, migrations: Sequence[str]) -> None:
        is_new = not self._scalar("SELECT count(*) FROM sqlite_schema")
        if not is_new and self._scalar("PRAGMA application_id") != APPLICATION_ID:
            raise not_ours(self._path)
        if is_new:
            # Pages can then be given back without a VACUUM of it all. Later it would do nothing, and yet be written.
            self._execute("PRAGMA auto_vacuum = incremental")
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
        with readable_errors(self._path):
            self._connection.close()

    def readable(self) -> AbstractContextManager[None]:
        """Whatever is read within: an error of SQLite's, or of what it finds, is a JournalError."""
        return readable_errors(self._path)

    def is_gone(self) -> bool:
        """Another file is in its place, or none."""
        return self._files.are_gone()

    def check_place(self) -> None:
        """That the file is where it was: what is written to one that is gone, nobody ever reads.

        Raises:
            JournalError: it was removed, or another one is there.
        """
        if self._files.are_gone():
            raise moved(self._path)

    def check_room(self) -> None:
        """That it can be written, and for more than a moment.

        Raises:
            JournalError: it can't.
        """
        with readable_errors(self._path), self._transaction():
            self._execute("UPDATE meta SET value = value")
        disk = os.statvfs(self._path.parent)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < _LEAST_ROOM_BYTES:  # some tell no size
            raise full(self._path)

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
