"""A disk that fills up, fails, and loses what was not synced when the power goes: SQLite's files are on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

NAME = "simulated"
_BASE = "unix"


class Trouble(StrEnum):
    """What goes wrong, from some write or sync on until it is mended."""

    FULL = "full"
    WRITE = "write"
    SYNC = "sync"


class _Undo(NamedTuple):
    """What was in a file before it was written to, and how long the file was."""

    offset: int
    before: bytes
    size: int


class Disk(apsw.VFS):
    """SQLite opens its files here while it is in use. Nothing is durable but what was synced."""

    def __init__(self) -> None:
        super().__init__(NAME, _BASE)
        self.unsynced: dict[str, list[_Undo]] = {}
        self.failures = 0
        self._trouble: Trouble | None = None
        self._after = 0

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> DiskFile:
        return DiskFile(self, name, flags)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        apsw.set_default_vfs(NAME)
        try:
            yield
        finally:
            apsw.set_default_vfs(_BASE)

    def will_fail(self, trouble: Trouble, after: int) -> None:
        """So many more writes (or syncs) go well."""
        self._trouble, self._after = trouble, after

    def mend(self) -> None:
        self._trouble = None

    def written(self) -> None:
        if self._trouble not in (Trouble.FULL, Trouble.WRITE):
            return
        self._after -= 1
        if self._after < 0:
            self.failures += 1
            raise apsw.FullError if self._trouble is Trouble.FULL else apsw.IOError

    def synced(self) -> None:
        if self._trouble is not Trouble.SYNC:
            return
        self._after -= 1
        if self._after < 0:
            self.failures += 1
            raise apsw.IOError

    def after_power_cut(self, path: Path, rng: Random) -> bytes:
        """What is in the file if the power goes now: of what was not synced, some writes are lost, in any order."""
        content = bytearray(path.read_bytes())
        undone = self.unsynced.pop(str(path), [])
        lost = rng.choice([0.5, 1.0, 1.0])
        for undo in reversed(undone):
            if rng.random() < lost:
                end = undo.offset + len(undo.before)
                content[undo.offset : end] = undo.before
                if len(content) > undo.size and lost == 1.0:
                    del content[undo.size :]
        return bytes(content)


class DiskFile(apsw.VFSFile):
    """One open file of it."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(_BASE, name, flags)
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.written()
        self._remember(offset, len(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._remember(newsize, max(0, self.xFileSize() - newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.synced()
        if self._path is not None:
            self._disk.unsynced.pop(self._path, None)

    def _remember(self, offset: int, length: int) -> None:
        if self._path is None:
            return
        size = self.xFileSize()
        there = max(0, min(length, size - offset))
        before = self.xRead(there, offset) if there else b""
        self._disk.unsynced.setdefault(self._path, []).append(_Undo(offset, before, size))
