"""Connections to the journal's file: how they wait for locks, and SQLite's errors as ours."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

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
        raise JournalError(f"the disk of the journal `{path}` is full") from None
    except apsw.Error as error:
        raise JournalError(f"the journal `{path}` can't be used: {error}") from None
