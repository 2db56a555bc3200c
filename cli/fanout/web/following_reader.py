"""A reader of the journal that is at its path now: people take journals away, and put others in their place."""

from __future__ import annotations

from pathlib import Path

from fanout.journal.sqlite_connection import Files, place_of
from fanout.journal.sqlite_reader import JournalReader


class FollowingReader:
    """Belongs to one thread."""

    def __init__(self, path: Path, *, redact: tuple[str, ...] = ()) -> None:
        self._path = path
        self._redact = redact
        self._reader: JournalReader | None = None
        self._files: Files | None = None

    def reader(self) -> JournalReader:
        """The reader, until the next call.

        Raises:
            NotFoundError: there is no journal yet, or no more.
            JournalError: it can't be read.
        """
        if self._files is not None and self._files.are_gone():
            self.close()
        if self._reader is None:
            before = place_of(self._path)
            self._reader = JournalReader(self._path, redact=self._redact)
            self._files = Files(self._path, before)
        return self._reader

    def version(self) -> tuple[object, ...]:
        """Another one whenever the journal has changed.

        Raises:
            NotFoundError, JournalError: as `reader`.
        """
        version = self.reader().data_version()
        return None if self._files is None else self._files.place, version

    def close(self) -> None:
        if self._reader is not None:
            self._reader.__exit__()
            self._reader = self._files = None
