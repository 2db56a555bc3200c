"""Journals filled by hand, as an engine would leave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_reader import JournalReader

NOW = 1_760_000_000_000
"""08:53:20 UTC on 9 October 2025."""
_FINAL = ("completed", "failed", "cancelled", "skipped")


def run_id(key: int) -> str:
    return f"01R{key:023}"


def event_id(key: int) -> str:
    """Those of the engine's own events, which have negative keys, begin otherwise."""
    return f"01E{key:023}" if key > 0 else f"01F{-key:023}"


class Filled:
    """Keys are given and ids follow from them. Events count from 1; the engine's own from -1 down."""

    def __init__(self, path: Path) -> None:
        self.path = path
        SqliteJournal(path).close()
        self._connection = apsw.Connection(str(path))

    def close(self) -> None:
        self._connection.close()

    def execute(self, sql: str, *bindings: Any) -> None:
        self._connection.execute(sql, bindings)

    @contextmanager
    def reader(self) -> Iterator[JournalReader]:
        with JournalReader(self.path) as reader:
            yield reader

    def insert(self, table: str, **values: Any) -> None:
        marks = ", ".join("?" * len(values))
        self.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())

    def event(self, key: int, name: str = "app/go", origin: int | None = None, **values: Any) -> None:
        made = {
            "key": key, "id": event_id(key), "is_id_given": 0, "name": name, "ts": NOW, "data": "{}",
            "received_at": NOW, "origin": origin,
        }  # fmt: skip
        self.insert("event", **made | values)
        self.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'routed_to'", key)

    def run(self, key: int, function: str, event: int, state: str = "completed", **values: Any) -> None:
        """Times: queued at once, started after 1 ms, ended after 9."""
        is_final = state in _FINAL
        made = {
            "key": key, "id": run_id(key), "function": function, "event": event, "rank": NOW, "state": state,
            "max_attempts": 5, "queued_at": NOW, "started_at": None if state == "queued" else NOW + 1,
            "ended_at": NOW + 9 if is_final else None, "output": "1" if state == "completed" else None,
        }  # fmt: skip
        self.insert("run", **made | values)
        self.execute("UPDATE run SET event_name = (SELECT name FROM event WHERE key = ?) WHERE key = ?", event, key)

    def child(self, key: int, function: str, parent: int, step: str, state: str = "completed", **values: Any) -> None:
        """With an event of its own, whose key is that of the run, negative."""
        self.event(-key, "fanout/function.invoked", origin=parent)
        self.run(key, function, -key, state, parent=parent, parent_step=step, **values)

    def step(self, run: int, key: str, state: str = "completed", kind: str = "run", **values: Any) -> None:
        """Times: started after 2 ms, ended after 5."""
        made = {
            "run": run, "key": key, "kind": kind, "branch": "", "state": state, "position": 0, "attempts": 1,
            "output": "1" if state == "completed" else None, "started_at": NOW + 2,
            "ended_at": None if state in ("running", "waiting") else NOW + 5,
        }  # fmt: skip
        self.insert("step", **made | values)

    def failure(self, run: int, step: str, type_: str, message: str, attempt: int = 0) -> None:
        self.insert(
            "failure", run=run, step=step, attempt=attempt, type=type_, message=message, traceback="", at=NOW + 5
        )

    def routed_to(self, key: int) -> None:
        self.execute("UPDATE meta SET value = ? WHERE name = 'routed_to'", key)

    def request(self, kind: str, *, is_handled: bool, run: int | None = None) -> int:
        self.insert("request", kind=kind, body="{}", made_at=NOW, handled_at=NOW if is_handled else None, run=run)
        return int(self._connection.last_insert_rowid())


@contextmanager
def filled(folder: Path) -> Iterator[Filled]:
    with closing(Filled(folder / "journal.db")) as made:
        yield made
