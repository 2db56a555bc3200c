"""One engine per journal: a lock on a file beside it, which names the engine's pid and how to reach it."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fanout.errors import JournalBusyError, JournalError


class Holder(NamedTuple):
    """The engine that holds a journal. `address` is the path of its datagram socket, empty while it starts."""

    pid: int
    address: str


_PATIENCE_S = 1.0
_NAP_S = 0.001


def _path(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")


class EngineLock:
    """Held until `release` or the end of the process, however that comes: the kernel lets it go."""

    def __init__(self, journal: Path) -> None:
        """Take the lock.

        Raises:
            JournalBusyError: another engine has it.
        """
        self._journal = journal
        try:
            journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(_path(journal), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"the journal `{journal}` can't be locked: {error.strerror}",
                hint="`[journal] path` in `fanout.toml` puts it where it can be written",
            ) from None
        if not self._take():
            os.close(self._file)
            held_by = holder(journal)
            who = f" by the engine with pid {held_by.pid}" if held_by and held_by.pid else ""
            raise JournalBusyError(
                f"the journal `{journal}` is in use{who}",
                hint="one engine at a time can run a journal; stop that one first",
            ) from None
        self.follows_a_death = os.fstat(self._file).st_size > 0
        """Who had it before did not let it go: what that one has started may still be about to end."""
        os.ftruncate(self._file, 0)

    def _take(self) -> bool:
        # Whoever asks who holds the lock shares it for microseconds: that must not pass for an engine. What the file
        # says can't tell them apart, an engine that was killed leaves its pid there; whether sharing is refused can.
        patience = time.monotonic() + _PATIENCE_S
        while not _has_locked(self._file, fcntl.LOCK_EX):
            if not _has_locked(self._file, fcntl.LOCK_SH) or time.monotonic() > patience:
                return False
            fcntl.flock(self._file, fcntl.LOCK_UN)
            time.sleep(_NAP_S)
        return True

    def announce(self, address: str) -> None:
        """Say how this engine can be reached.

        Raises:
            JournalError: it can't be said.
        """
        try:
            os.pwrite(self._file, f"{os.getpid()}\n{address}\n".encode(), 0)
        except OSError as error:
            raise JournalError(
                f"the lock of the journal `{self._journal}` can't be written: {error.strerror}"
            ) from None

    def release(self) -> None:
        with suppress(OSError):  # It only says who had it; the disk may be read-only by now.
            os.ftruncate(self._file, 0)
        os.close(self._file)


def holder(journal: Path) -> Holder | None:
    """The engine that holds the journal now, or None."""
    try:
        file = os.open(_path(journal), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _has_locked(file, fcntl.LOCK_SH):
            return None
        lines = os.pread(file, 4096, 0).decode().splitlines()
        return Holder(int(lines[0]), lines[1]) if len(lines) >= 2 else Holder(0, "")  # noqa: PLR2004 - pid, address
    finally:
        os.close(file)


def _has_locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
