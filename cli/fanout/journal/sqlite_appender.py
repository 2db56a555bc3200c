"""What any process may do to a journal, in one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.ids import UlidFactory
from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite_connection import readable_errors
from fanout.journal.sqlite_file import MIGRATIONS, JournalFile

if TYPE_CHECKING:
    from fanout.events import NewEvent

INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteAppender(JournalFile):
    """A journal open for appending. See `fanout.journal.appender.Appender` for what its methods mean."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open it; see `JournalFile`."""
        super().__init__(path, migrations=migrations)
        self._new_id = UlidFactory()

    def append_events(self, events: Sequence[NewEvent], now: int) -> list[AcceptedEvent]:
        self.check_place()
        with readable_errors(self._path), self._transaction():
            last = self._scalar("SELECT seq FROM sqlite_sequence WHERE name = 'event'") or 0
            accepted = []
            rows = []
            given: set[str] = set()
            for key, event in enumerate(events, last + 1):
                is_duplicate = event.id is not None and (event.id in given or self._is_known(event.id, now))
                event_id = self._new_id(now) if event.id is None else event.id
                if event.id is not None:
                    given.add(event.id)
                accepted.append(AcceptedEvent(key, event_id, event.name, is_duplicate))
                ts = now if event.ts is None else event.ts
                rows.append(
                    (key, event_id, event.id is not None, event.name, ts, event.data, event.user, event.v, now, None)
                )
            self._connection.executemany(INSERT_EVENT, rows)
        return accepted

    def _is_known(self, event_id: str, now: int) -> bool:
        since = now - DUPLICATE_WINDOW_MS
        return bool(self._scalar("SELECT 1 FROM event WHERE id = ? AND received_at > ? LIMIT 1", (event_id, since)))

    def append_request(self, kind: str, body: dict[str, Any], now: int) -> int:
        self.check_place()
        with readable_errors(self._path), self._transaction():
            text = msgspec.json.encode(body).decode()
            self._execute("INSERT INTO request (kind, body, made_at) VALUES (?, ?, ?)", (kind, text, now))
            return int(self._connection.last_insert_rowid())
