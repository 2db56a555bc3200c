"""A journal open for reading, whoever else writes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import apsw

from fanout.errors import JournalError, NotFoundError
from fanout.journal.sqlite_connection import check_version, open_connection, readable_errors
from fanout.journal.sqlite_file import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class ReadOnlyJournal:
    """Use it in a `with`."""

    def __init__(self, path: Path, *, redact: tuple[str, ...] = ()) -> None:
        """Open it. What stands under the keys `redact` is not told, wherever it is read by people.

        Raises:
            NotFoundError: there is no journal yet.
            JournalError: it can't be read, or was written by a newer fanout.
        """
        if not path.exists():
            raise NotFoundError(f"there is no journal at `{path}` yet", hint="send an event first: `fanout send FILE`")
        self.path = path
        self.redact = redact
        self._connection = open_connection(path, apsw.SQLITE_OPEN_READONLY)
        try:
            self._check_version()
        except BaseException:
            self._connection.close()
            raise

    def _check_version(self) -> None:
        version = self._all("PRAGMA user_version")[0][0]
        check_version(self.path, version, len(MIGRATIONS))
        if version < len(MIGRATIONS):
            raise JournalError(
                f"the journal `{self.path}` is from an older fanout", hint="any `fanout send` brings it up to date"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object = None, error: object = None, _trace: object = None) -> None:
        self._connection.close()
        if isinstance(error, Exception):
            with readable_errors(self.path):
                raise error

    def _all(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with readable_errors(self.path):
            return self._connection.execute(sql, tuple(bindings)).fetchall()

    def _each(self, sql: str, bindings: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with readable_errors(self.path):
            yield from self._connection.execute(sql, tuple(bindings))
