"""A copy of a journal while an engine goes on writing to it: all of it as of one moment, or no file at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import apsw

from fanout.errors import JournalError, UsageError
from fanout.journal.sqlite_care import CareReader
from fanout.journal.sqlite_connection import open_connection, readable_errors

_PAGES_A_STEP = 2_048
_BESIDE = ("", "-wal", "-shm", "-journal")


def back_up(
    journal: Path, copy: Path, *, replaces: bool, tell: Callable[[int, int], None] = lambda _left, _of: None
) -> int:
    """Copy the journal to `copy`; its size in bytes. `tell` hears how many pages are left, and of how many.

    Raises:
        NotFoundError: there is no journal.
        UsageError: `copy` is there already, and is not to be replaced.
        JournalError: it can't be read, or the copy can't be written; then there is no copy.
    """
    if os.path.lexists(copy) and not replaces:
        raise _is_there(copy)
    if os.path.realpath(copy) == os.path.realpath(journal):
        raise UsageError(f"`{copy}` is the journal itself")
    draft = copy.with_name(f".{copy.name}.{os.getpid()}.new")
    try:
        with CareReader(journal) as reader:
            try:
                os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                _copy(reader, journal, draft, tell)
            except apsw.FullError:
                raise JournalError(f"there is no room for `{copy}`") from None
            except (apsw.CantOpenError, apsw.IOError):
                raise JournalError(f"`{copy}` can't be written") from None
        _check(draft, copy)
        _put(draft, copy, replaces=replaces)
    except OSError as error:
        raise JournalError(f"`{copy}` can't be written: {error.strerror or error}") from None
    finally:
        for suffix in _BESIDE:
            with suppress(OSError):
                os.unlink(f"{draft}{suffix}")  # noqa: PTH108 - a suffix behind the suffix
    return copy.stat().st_size


def _copy(reader: CareReader, journal: Path, draft: Path, tell: Callable[[int, int], None]) -> None:
    source = reader.connection
    with closing(apsw.Connection(str(draft))) as target:
        target.execute("PRAGMA synchronous = full")
        # Within a transaction of ours: SQLite would begin again whenever somebody has written in between.
        with readable_errors(journal):
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        try:
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(_PAGES_A_STEP)
                    tell(backup.remaining, backup.page_count)
        finally:
            source.execute("ROLLBACK")


def _check(draft: Path, copy: Path) -> None:
    """It opens as a journal, and SQLite finds no damage where it looks quickly."""
    with CareReader(draft) as reader:
        try:
            found = [text for (text,) in reader.connection.execute("PRAGMA quick_check(3)")]
        except apsw.CorruptError as error:
            found = [str(error)]
    if found != ["ok"]:
        raise JournalError(
            f"`{copy}` was not made: the journal is damaged", hint="`fanout journal verify` says more about it"
        )
    # The log is empty, and what is beside the copy goes: one file is all there is to keep.
    with closing(open_connection(draft, apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(draft: Path, copy: Path, *, replaces: bool) -> None:
    if replaces:
        # Of a copy that is being replaced nothing may be left beside the new one.
        for suffix in _BESIDE[1:]:
            with suppress(FileNotFoundError):
                os.unlink(f"{copy}{suffix}")  # noqa: PTH108 - as above
        draft.replace(copy)
    else:
        try:
            copy.hardlink_to(draft)  # Not a rename, which would replace what has come meanwhile.
        except FileExistsError:
            raise _is_there(copy) from None
        except OSError:  # a file system without links
            draft.rename(copy)
    folder = os.open(copy.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_there(copy: Path) -> UsageError:
    return UsageError(f"`{copy}` is there already", hint="`--force` replaces it")
