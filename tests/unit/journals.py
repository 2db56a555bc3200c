"""What the tests of journals write, and what they see of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.journal.rows import (
    EndedRun,
    EventRow,
    FailureRow,
    LostRun,
    MapRow,
    NewRun,
    NotedRun,
    ParkedRun,
    QueuedRun,
    RetriedRun,
    StepRow,
    WaitRow,
)
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import RunState

NOW = 1_760_000_000_000
REFUSED_HINT = "another program has changed it; nothing was written, start again"

Dump = dict[str, list[dict[str, Any]]]


def dump(path: Path) -> Dump:
    """All that is in the journal.

    With the same SQLite as the journal's: a second one in a process (Python's own) drops the first one's locks.
    """
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").fetchall()
        return {str(name): rows_of(connection, str(name)) for (name,) in tables}


def rows_of(connection: apsw.Connection, table: str) -> list[dict[str, Any]]:
    columns = [str(name) for (name,) in connection.execute(f"SELECT name FROM pragma_table_info('{table}')")]
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]


def run_row(path: Path, key: int) -> dict[str, Any]:
    return next(row for row in dump(path)["run"] if row["key"] == key)


def step_row(path: Path, run: int, key: str) -> dict[str, Any]:
    return next(row for row in dump(path)["step"] if (row["run"], row["key"]) == (run, key))


def refused(journal: SqliteJournal, attempted: Writes) -> tuple[str, str | None]:
    with pytest.raises(JournalError) as raised:
        journal.commit(attempted)
    return raised.value.message, raised.value.hint


def one_refused(path: Path, of: int = 1) -> tuple[str, str]:
    return f"the journal `{path}` refused 1 of {of} changes", REFUSED_HINT


# Rows.


def writes(**fields: Any) -> Writes:
    made = Writes()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def event(name: str = "app/hello", **fields: Any) -> NewEvent:
    return NewEvent(name, fields.pop("data", "{}"), **fields)


def event_row(key: int | None = None, name: str = "app/sent", **fields: Any) -> EventRow:
    made = EventRow(key, f"EVENT{name}", False, name, NOW, "{}", None, None, NOW, 1)
    return made._replace(**fields)


def new_run(key: int, **fields: Any) -> NewRun:
    made = NewRun(
        key=key, id=f"RUN{key}", function=f"f{key}", event=1, partition="", rank=NOW, state="queued", max_attempts=5,
        queued_at=NOW, due_at=None, replay_of=None, parent=None, parent_step=None, item=None, item_key=None,
        deadline_at=None,
    )  # fmt: skip
    return made._replace(**fields)


def child(key: int, parent: int = 1, step: str = "map", **fields: Any) -> NewRun:
    return new_run(key, function="child", event=-key, parent=parent, parent_step=step, **fields)


def children(*runs: NewRun) -> Writes:
    """The runs, each with the event that it is for."""
    return writes(events=[event_row(run.event, "fanout/function.invoked") for run in runs], runs=list(runs))


def queued_run(key: int, **fields: Any) -> QueuedRun:
    """As the journal gives a run that `new_run` has made."""
    return QueuedRun(key, f"RUN{key}", f"f{key}", "", 1, NOW, 0, 0, False, is_fresh=True)._replace(**fields)


def step(run: int, key: str, state: str = "completed", position: int = 1, **fields: Any) -> StepRow:
    output = '"kept"' if state == "completed" else None
    ended_at = None if state in ("running", "waiting") else NOW + 5
    made = StepRow(run, key, "run", "", state, position, 1, output, NOW, ended_at)
    return made._replace(**fields)


def waiting(run: int, key: str, kind: str = "sleep", due_at: int | None = NOW + 100, **fields: Any) -> StepRow:
    return step(run, key, "waiting", kind=kind, due_at=due_at, **fields)


def retrying(run: int, key: str, due_at: int | None = NOW + 100, **fields: Any) -> StepRow:
    return step(run, key, "retrying", due_at=due_at, **fields)


def wait(run: int, step: str = "wait", event: str = "app/paid", **fields: Any) -> WaitRow:
    return WaitRow(run, step, 0, event, "", "", None, None)._replace(**fields)


def map_row(run: int = 1, step: str = "map", **fields: Any) -> MapRow:
    return MapRow(run, step, "child", 0, 0, False, 10, False)._replace(**fields)


def ended(run: int, state: str = "completed", *, attempt: int = 0) -> EndedRun:
    return EndedRun(state, None, '"out"' if state == "completed" else None, NOW + 1, NOW + 9, 0, run, attempt)


def noted(run: int, *, attempt: int = 0) -> NotedRun:
    return NotedRun(NOW, None, run, attempt)


def parked(run: int, *, attempt: int = 0) -> ParkedRun:
    return ParkedRun(NOW, None, run, attempt)


def retried(run: int, *, due_at: int = NOW + 50, next_attempt: int = 1, attempt: int = 0) -> RetriedRun:
    return RetriedRun(due_at, next_attempt, NOW, None, run, attempt)


def lost(run: int, *, attempt: int = 0) -> LostRun:
    return LostRun(0, False, NOW, None, run, attempt)


def failure(run: int, step: str = "", attempt: int = 0, message: str = "no") -> FailureRow:
    return FailureRow(run, step, attempt, "ValueError", message, "Traceback", NOW + 5)


def to_state(run: int, state: RunState) -> Writes:
    """What brings a queued run to this state."""
    match state:
        case RunState.QUEUED:
            return writes()
        case RunState.RUNNING:
            return writes(noted=[noted(run)])
        case RunState.WAITING:
            return writes(retried=[retried(run, next_attempt=0)])
        case _:
            return writes(ended=[ended(run, state)])
