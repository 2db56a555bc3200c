"""What the journal has, as SQLite itself tells of every row that changes: nothing of it comes from the engine."""

from __future__ import annotations

import json
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import apsw

Row = Any
"""A row of a table, with its columns as attributes."""

_KEYS: dict[str, tuple[str, ...]] = {
    "event": ("key",),
    "run": ("key",),
    "run_event": ("run", "position"),
    "step": ("run", "key"),
    "failure": (),
    "wait": ("run", "step", "number"),
    "map": ("run", "step"),
    "limit_state": ("function", "kind", "key"),
    "schedule": ("function", "cron"),
    "tick": ("function", "scheduled_at"),
    "function": ("id",),
    "pause": ("function",),
    "request": ("key",),
    "meta": ("name",),
}
"""By what the rows of each table are known; failures have nothing but their rowid."""
FINAL = frozenset({"completed", "failed", "cancelled", "skipped"})


class Change(NamedTuple):
    """A row before and after a transaction; None if it is not there."""

    before: Row
    after: Row


class Capture:
    """Collects what a connection's transaction changes."""

    def __init__(self, connection: apsw.Connection, shapes: Shapes) -> None:
        self._shapes = shapes
        self.changes: dict[str, dict[Any, Change]] = defaultdict(dict)
        connection.preupdate_hook(self._note)

    def take(self) -> dict[str, dict[Any, Change]]:
        changes, self.changes = self.changes, defaultdict(dict)
        return changes

    def _note(self, update: apsw.PreUpdate) -> None:
        table = update.table_name
        make, key_of = self._shapes[table]
        old, new = update.old, update.new
        before = None if old is None else make(*old)
        after = None if new is None else make(*new)
        key = key_of(before if after is None else after) if _KEYS[table] else (update.rowid,)
        changed = self.changes[table]
        known = changed.get(key)
        changed[key] = Change(before if known is None else known.before, after)


Shapes = dict[str, tuple[Callable[..., Row], Callable[[Row], Any]]]


def shapes_of(connection: apsw.Connection) -> Shapes:
    """How rows of each table are made, and what they are known by: the same for each journal."""
    if _shapes:
        return _shapes
    shapes = _shapes
    for table, keys in _KEYS.items():
        columns = [name for (name,) in connection.execute(f"SELECT name FROM pragma_table_info('{table}')")]
        make: Any = namedtuple(f"{table}_row", columns)  # type: ignore[misc]  # noqa: PYI024 - the schema names them
        places = [columns.index(name) for name in keys]
        shapes[table] = make, lambda row, places=places: tuple([row[place] for place in places])  # type: ignore[misc]
    return shapes


_shapes: Shapes = {}


class Model:
    """All rows that are durable, and what is remembered of those that were pruned."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.shapes = shapes_of(connection)
        self.tables: dict[str, dict[Any, Row]] = read(connection, self.shapes)
        self.gone: dict[int, Row] = {}
        """Runs that were pruned."""
        self.of_event: dict[tuple[int, str], set[int]] = defaultdict(set)
        """(event, function) -> runs that have the event, replays aside; for ever."""
        self.children: dict[tuple[int, str], list[int]] = defaultdict(list)
        self.of_id: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """An event's id -> (key, received_at)."""
        self.live: set[int] = set()
        self.key_of: dict[str, int] = {}

    @property
    def runs(self) -> dict[tuple[int], Row]:
        return self.tables["run"]

    @property
    def steps(self) -> dict[tuple[int, str], Row]:
        return self.tables["step"]

    @property
    def events(self) -> dict[tuple[int], Row]:
        return self.tables["event"]

    def paused(self) -> list[str]:
        """Functions that are, or were asked to be."""
        asked = [row for row in self.tables["request"].values() if row.kind == "pause"]
        are = {row.function for row in self.tables["pause"].values()}
        return sorted(are | {function for row in asked for function in json.loads(row.body)["functions"]})

    def run(self, key: int) -> Row:
        """Also one that was pruned."""
        return self.runs.get((key,)) or self.gone.get(key)

    def apply(self, changes: dict[str, dict[Any, Change]]) -> None:
        for table, changed in changes.items():
            rows = self.tables[table]
            for key, change in changed.items():
                if change.after is None:
                    rows.pop(key, None)
                else:
                    rows[key] = change.after
        for key, change in changes.get("event", {}).items():
            if change.before is None and change.after is not None:
                self.of_id[change.after.id].append((key[0], change.after.received_at))
        for change in changes.get("run", {}).values():
            self._index(change)
        for change in changes.get("run_event", {}).values():
            self._cover(change.after)

    def _index(self, change: Change) -> None:
        run = change.after
        if run is None:
            self.gone[change.before.key] = change.before
            return
        if change.before is None:
            self.key_of[run.id] = run.key
            if run.parent is not None:
                self.children[run.parent, run.parent_step].append(run.key)
        (self.live.discard if run.state in FINAL else self.live.add)(run.key)
        if run.replay_of is None:
            self.of_event[run.event, run.function].add(run.key)

    def _cover(self, collected: Row) -> None:
        run = None if collected is None else self.run(collected.run)
        if run is not None and run.replay_of is None:
            self.of_event[collected.event, run.function].add(run.key)

    def differs_from(self, connection: apsw.Connection) -> list[str]:
        """What the journal has and the model has not, or has otherwise."""
        found = read(connection, self.shapes)
        return [
            f"{table} {key}: {self.tables[table].get(key)} is {found[table].get(key)}"
            for table in _KEYS
            if found[table] != self.tables[table]
            for key in _either(found[table], self.tables[table])
            if found[table].get(key) != self.tables[table].get(key)
        ]


def _either(one: dict[Any, Row], other: dict[Any, Row]) -> Iterable[Any]:
    return sorted({*one, *other}, key=repr)


def read(connection: apsw.Connection, shapes: Shapes) -> dict[str, dict[Any, Row]]:
    tables: dict[str, dict[Any, Row]] = {}
    for table, (make, key_of) in shapes.items():
        if _KEYS[table]:
            rows = [make(*row) for row in connection.execute(f"SELECT * FROM {table}")]
            tables[table] = {key_of(row): row for row in rows}
        else:
            found = connection.execute(f"SELECT rowid, * FROM {table}")
            tables[table] = {(rowid,): make(*row) for rowid, *row in found}
    return tables
