"""Sees all that becomes durable and all that is said, and says so at once if it must not be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from tests.engine.scripts import Entry, What
from tests.simulation.admissions import Admissions
from tests.simulation.commits import Commit
from tests.simulation.model import Change, Model, read
from tests.simulation.rules import FOR_WORKERS_THAT_ARE_WHOLE, RULES
from tests.simulation.traffic import Traffic


class Observer:
    """`reader` is a connection of its own, on which it looks at the journal as everybody may."""

    def __init__(
        self,
        reader: apsw.Connection,
        clock: Callable[[], int],
        log: list[Entry],
        *,
        has_broken_workers: bool,
        has_jumps: bool,
    ) -> None:
        self.model = Model(reader)
        self.traffic = Traffic(self.model, has_broken_workers=has_broken_workers, has_jumps=has_jumps)
        self.admissions = Admissions(has_jumps=has_jumps)
        self.commits = 0
        self._rules = RULES if has_broken_workers else (*RULES, *FOR_WORKERS_THAT_ARE_WHOLE)
        self._clock = clock
        self._log = log

    def committed(self, changes: dict[str, dict[Any, Change]], *, is_engine: bool) -> None:
        if not changes:
            return
        self.commits += 1
        self.model.apply(changes)
        commit = Commit(self.model, changes, self._clock(), is_engine)
        self._write_down(commit)
        for rule in self._rules:
            rule(commit)
        self.admissions.check(commit)

    def _write_down(self, commit: Commit) -> None:
        """As it happened: what has come ended what waited, and came before what waits."""
        now = commit.now

        def run_id(key: int) -> str:
            return str(self.model.run(key).id)

        self._log += [
            Entry(What.RECORDED, now, run_id(step.run), step.key, step.attempts, step.output)
            for step in commit.completed_steps()
        ]
        for event in sorted(commit.new("event"), key=lambda event: abs(event.key)):
            if event.key > 0:
                self._log.append(Entry(What.ACCEPTED, event.received_at, event=event.key))
        for _, before, after in commit.changed("step"):
            if after is not None and after.state == "waiting" and before is None:
                self._log.append(Entry(What.WAITS, now, run_id(after.run), after.key, after.attempts, ""))

    def settle(self, changes: dict[str, dict[Any, Change]], reader: apsw.Connection, *, is_engine: bool) -> None:
        """The disk failed in the middle of these changes: all of them are there, or none."""
        if self.model.differs_from(reader):
            self.committed(changes, is_engine=is_engine)
            self.is_whole(reader)

    def come_back(self, failed: Sequence[tuple[dict[str, dict[Any, Change]], bool]], reader: apsw.Connection) -> None:
        """What was written, and could not be synced, may be there after all once the power was gone."""
        for changes, is_engine in failed:
            found = read(reader, self.model.shapes)
            rows = [(table, key, change.after) for table, some in changes.items() for key, change in some.items()]
            is_there = all(found[table].get(key) == after for table, key, after in rows)
            if is_there and any(self.model.tables[table].get(key) != after for table, key, after in rows):
                self.committed(changes, is_engine=is_engine)

    def is_whole(self, reader: apsw.Connection) -> None:
        """All that was durable is there, and nothing else."""
        differences = self.model.differs_from(reader)
        assert not differences, "\n".join(differences[:5])
