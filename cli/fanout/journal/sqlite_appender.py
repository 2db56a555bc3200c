"""What any process may do to a journal, in one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.core.event_schemas import EventSchemas
from fanout.ids import UlidFactory
from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite_connection import readable_errors
from fanout.journal.sqlite_file import MIGRATIONS, JournalFile
from fanout.model import FunctionSpec

if TYPE_CHECKING:
    from fanout.events import NewEvent

# Most functions have none, and need not be decoded: within a text quotes are written otherwise.
_SPECS_WITH_SCHEMAS = (
    """SELECT spec FROM function WHERE is_present = 1 AND instr(spec, '"schemas":[{') > 0 ORDER BY id"""
)
INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteAppender(JournalFile):
    """A journal open for appending. See `fanout.journal.appender.Appender` for what its methods mean."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open it; see `JournalFile`."""
        super().__init__(path, migrations=migrations)
        self._new_id = UlidFactory()
        self._schemas: tuple[object, list[str], EventSchemas] | None = None
        """What functions say of events, of which texts that was read, and at which version of the data."""

    def event_schemas(self) -> EventSchemas:
        with readable_errors(self._path):
            version = self._scalar("PRAGMA data_version")
            if self._schemas is not None and self._schemas[0] == version:
                return self._schemas[2]
            texts = [text for (text,) in self._execute(_SPECS_WITH_SCHEMAS)]
        if self._schemas is not None and self._schemas[1] == texts:
            schemas = self._schemas[2]
        else:
            schemas = EventSchemas(msgspec.json.decode(text, type=FunctionSpec) for text in texts)
        self._schemas = version, texts, schemas
        return schemas

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
