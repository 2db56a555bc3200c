"""A journal in memory, for tests of functions: the same tables and statements, without a file or another process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_rows import SMOOTH_RUN, SMOOTH_STEPS, made_with_steps, select_runs, with_steps
from fanout.model import Event, Run

_ANY_RUN = f"{select_runs(outputs=True)} WHERE run.key = ?"
_EVENTS = "SELECT key, id, name, ts, data, user, v, origin FROM event"


class Received(NamedTuple):
    """An event of the journal. `origin` is the key of the run that sent or caused it."""

    key: int
    event: Event
    origin: int | None


class MemoryJournal(SqliteJournal):
    """Its engine has it for itself, and whoever has the engine reads it between ticks."""

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))
        tables = [str(name) for (name,) in self._execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        deletes = [f"DELETE FROM {name};" for name in tables if name != "meta"]
        self._wipe = f"BEGIN; {''.join(deletes)} UPDATE meta SET value = 0 WHERE name = 'routed_to'; COMMIT"

    def _make_file(self) -> None:
        pass

    def wipe(self) -> None:
        """Make it as new. It takes a tenth of the time that a new one takes."""
        self._execute(self._wipe)

    def has_news(self) -> bool:
        return False  # Nobody else can write to it.

    def has_functions(self, specs: Mapping[str, str]) -> bool:  # noqa: ARG002 - whichever
        return True  # Whoever reads it has the code.

    # Reading.

    def _rows(self, sql: str, bindings: Any = ()) -> list[tuple[Any, ...]]:
        return self._execute(sql, bindings).fetchall()

    def run_keys(self, after: int = 0) -> list[int]:
        return [key for (key,) in self._rows("SELECT key FROM run WHERE key > ? ORDER BY key", (after,))]

    def run_id(self, key: int) -> str:
        return str(self._scalar("SELECT id FROM run WHERE key = ?", (key,)))

    def is_over(self, key: int) -> bool:
        return self._scalar("SELECT ended_at FROM run WHERE key = ?", (key,)) is not None

    def has_live(self) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT 1 FROM run WHERE ended_at IS NULL)"))

    def run_with_steps(self, key: int) -> Run:
        for row in self._rows(SMOOTH_RUN, (key,)):  # A third of the time, for what tests look at most.
            return made_with_steps(row, self._rows(SMOOTH_STEPS, (key,)))
        (row,) = self._rows(_ANY_RUN, (key,))
        return with_steps(self._rows, row, outputs=True)

    def children_of(self, run: int) -> list[int]:
        """Runs that steps of this one have invoked, in the order in which they were made."""
        return [key for (key,) in self._rows("SELECT key FROM run WHERE parent = ? ORDER BY key", (run,))]

    def event_of(self, run: int) -> Event:
        (row,) = self._rows(f"{_EVENTS} WHERE key = (SELECT event FROM run WHERE key = ?)", (run,))
        return _received(row).event

    def received(self, run: int | None = None) -> list[Received]:
        """All events in the order in which they came, or those that this run has sent."""
        if run is None:
            return [_received(row) for row in self._rows(f"{_EVENTS} ORDER BY received_at, abs(key)")]
        return [_received(row) for row in self._rows(f"{_EVENTS} WHERE origin = ? AND key > 0 ORDER BY key", (run,))]

    def awaited_events(self) -> set[str]:
        """The names of events that a run waits for, or that would cancel one."""
        return {name for (name,) in self._rows("SELECT DISTINCT event FROM wait")}

    def request_answer(self, request: int) -> int | None:
        """The run that was made for it, if that is one."""
        run: int | None = self._scalar("SELECT run FROM request WHERE key = ?", (request,))
        return run


def _received(row: tuple[Any, ...]) -> Received:
    key, id_, name, ts, data, user, v, origin = row
    decode = msgspec.json.decode
    event = Event(id=id_, name=name, ts=ts, data=decode(data), user=None if user is None else decode(user), v=v)
    return Received(key, event, origin)
