"""One transaction as the observer sees it, and what functions there were when it was decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from fanout.model import EventTrigger, FunctionSpec
from tests.simulation.model import FINAL, Change, Model, Row

KEY = "event.data.user"
"""What keys of limits are made of, where there are any."""
CONDITION = "event.data.user > 0"


@lru_cache(maxsize=4096)
def spec_of(text: str) -> FunctionSpec:
    return msgspec.json.decode(text, type=FunctionSpec)


class Commit(NamedTuple):
    """`model` is as it is afterwards."""

    model: Model
    changes: dict[str, dict[Any, Change]]
    now: int
    is_engine: bool = True

    def changed(self, table: str) -> Iterator[tuple[Any, Row, Row]]:
        """(key, before, after)"""
        for key, change in self.changes.get(table, {}).items():
            yield key, change.before, change.after

    def new(self, table: str) -> list[Row]:
        return [after for _, before, after in self.changed(table) if before is None and after is not None]

    def run_before(self, key: int) -> Row:
        change = self.changes.get("run", {}).get((key,))
        return self.model.run(key) if change is None else change.before

    def ended(self) -> list[Row]:
        """Runs that end here."""
        return [
            after
            for _, before, after in self.changed("run")
            if after is not None and after.state in FINAL and (before is None or before.state not in FINAL)
        ]

    def completed_steps(self) -> list[Row]:
        """Those that have come to a result here, but for what a replay takes over."""
        found = []
        for (run, _), before, after in self.changed("step"):
            is_new = (
                after is not None and after.state == "completed" and (before is None or before.state != "completed")
            )
            if is_new and self.run_before(run) is not None:
                found.append(after)
        return found

    @property
    def has_other_functions(self) -> bool:
        return bool(self.changes.get("function"))

    def functions_before(self) -> dict[str, FunctionSpec]:
        """Those that the engine knew when it routed."""
        rows = dict(self.model.tables["function"])
        for key, before, _ in self.changed("function"):
            if before is None:
                rows.pop(key, None)
            else:
                rows[key] = before
        return {row.id: spec_of(row.spec) for row in rows.values() if row.is_present}


def functions_of(model: Model) -> dict[str, FunctionSpec]:
    return {row.id: spec_of(row.spec) for row in model.tables["function"].values() if row.is_present}


@lru_cache(maxsize=4096)
def user_of(data: str) -> Any:
    """The value of `KEY`."""
    said = json.loads(data)
    return said.get("user") if isinstance(said, dict) else None


def key_of(rule_key: str | None, event: Row) -> Any:
    assert rule_key in (None, KEY)
    return None if rule_key is None else user_of(event.data)


def holds(condition: str | None, event: Row) -> bool:
    assert condition in (None, CONDITION)
    user = user_of(event.data)
    return condition is None or (isinstance(user, int) and user > 0)


def matches(spec: FunctionSpec, event: Row) -> bool:
    return any(
        isinstance(each, EventTrigger) and each.listens_to(event.name) and holds(each.if_, event)
        for each in spec.triggers
    )


def names(spec: FunctionSpec, name: str) -> bool:
    return any(isinstance(each, EventTrigger) and each.listens_to(name) for each in spec.triggers)


def was_matched(model: Model, run: Row) -> bool:
    """An event that matched has started it: nobody asked for it by name, and no clock."""
    return run.event > 0 and run.parent is None and run.replay_of is None
