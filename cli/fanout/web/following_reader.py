"""A reader of the journal that is at its path now: people take journals away, and put others in their place."""

from __future__ import annotations

from pathlib import Path

from fanout.journal.sqlite_connection import place_of
from fanout.journal.sqlite_reader import JournalReader


class FollowingReader:
    """Belongs to one thread."""

    def __init__(self, path: Path, *, redact: tuple[str, ...] = ()) -> None:
        self._path = path
        self._redact = redact
        self._reader: JournalReader | None = None
        self._place: tuple[int, int] | None = None

    def reader(self) -> JournalReader:
        """The reader, until the next call.

        Raises:
            NotFoundError: there is no journal yet, or no more.
            JournalError: it can't be read.
        """
        if self._reader is not None and place_of(self._path) != self._place:
            self.close()
        if self._reader is None:
            self._place = place_of(self._path)
            self._reader = JournalReader(self._path, redact=self._redact)
        return self._reader

    def version(self) -> tuple[object, ...]:
        """Another one whenever the journal has changed.

        Raises:
            NotFoundError, JournalError: as `reader`.
        """
        version = self.reader().data_version()
        return self._place, version

    def close(self) -> None:
        if self._reader is not None:
            self._reader.__exit__()
            self._reader = None
