"""Connections to the journal's file: how they wait for locks, and SQLite's errors as ours."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import msgspec

from fanout.errors import JournalError

_BUSY_LIMIT_S = 30.0


def open_connection(path: Path, flags: int) -> apsw.Connection:
    """A connection that waits for locks. The waiting is set up before anything else touches the file."""
    with readable_errors(path):
        connection = apsw.Connection(str(path), flags=flags, statementcachesize=256)
        connection.set_busy_handler(Patience())
        return connection


class Patience:
    """Waits for another process's lock in short random naps.

    SQLite's own busy timeout backs off to 100 ms naps; beside an engine that commits a thousand times a second
    that loses nearly every race.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._until = now + _BUSY_LIMIT_S
        if now > self._until:
            return False
        time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - spreads the waiting, hides nothing
        return True


def place_of(path: Path) -> tuple[int, int] | None:
    """Which file that is now: another one if somebody has put another there. None: there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


class Files:
    """A journal's files as they are now: to be made when it has just been opened, and asked before it is closed.

    `before` is its place before it was opened, if it was there.
    """

    def __init__(self, path: Path, before: tuple[int, int] | None) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self.place = place_of(path)
        self._log_place = place_of(self._log)
        if before is not None and before != self.place:
            # It was replaced meanwhile. Which of the two is open nobody knows, nor whose the log is.
            self.place, self._log_place = before, None

    def are_gone(self) -> bool:
        """Whether another journal is in its place, or none.

        The log that is left of the old one is moved out of the new one's way: SQLite would take it for that one's, and
        show the old journal instead. As long as that is open here, no other file can have its number.
        """
        place = place_of(self._path)
        if place == self.place:
            return False
        if place is not None and self._log_place is not None and place_of(self._log) == self._log_place:
            with suppress(OSError):
                self._log.rename(self._path.with_name(f"{self._path.name}.before-wal"))
                self._path.with_name(f"{self._path.name}-shm").unlink()
        return True


def moved(path: Path) -> JournalError:
    """Whoever has it open writes to a file that nobody else sees."""
    what = "another file has been put in the place of" if path.exists() else "somebody has removed"
    return JournalError(f"{what} the journal `{path}` while it was in use", hint="what was in that one is with it")


def full(path: Path) -> JournalError:
    return JournalError(f"the disk of the journal `{path}` is full")


def damaged(path: Path, what: str) -> JournalError:
    return JournalError(
        f"the journal `{path}` is damaged: {what}",
        hint="`fanout journal verify` looks through all of it; a backup has what it had",
    )


def not_ours(path: Path) -> JournalError:
    return JournalError(
        f"`{path}` is not a fanout journal", hint="move that file away, or name another in `[journal] path`"
    )


def check_version(path: Path, version: int, known: int) -> None:
    if version > known:
        raise JournalError(
            f"the journal `{path}` was written by a newer fanout (its version {version}, known here {known})",
            hint="upgrade fanout, or name another journal in `[journal] path`",
        )


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: what happened to which file, and what to do."""
    try:
        yield
    except apsw.BusyError:
        raise JournalError(
            f"the journal `{path}` has been locked by another program for {_BUSY_LIMIT_S:.0f} s",
            hint="close what holds it: another SQLite tool with an open transaction, most likely",
        ) from None
    except apsw.NotADBError:
        raise not_ours(path) from None
    except apsw.FullError:
        raise full(path) from None
    except apsw.CorruptError as error:
        raise damaged(path, str(error)) from None
    except apsw.Error as error:
        raise JournalError(f"the journal `{path}` can't be used: {error}") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        # What comes from elsewhere is checked where it comes in: only a journal can have such text.
        raise damaged(path, f"a text in it can't be read: {error}") from error
