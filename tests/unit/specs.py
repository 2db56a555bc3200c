"""Functions as the code would describe them, and as a journal has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from fanout.journal.functions import KnownFunction
from fanout.model import CronTrigger, FunctionSpec
from tests.unit.filled import NOW, Filled

NIGHTLY = CronTrigger("30 2 * * *", "Europe/Berlin")


def spec(id_: str, **settings: Any) -> FunctionSpec:
    made: dict[str, Any] = {
        "id": id_, "name": id_, "module": "work", "qualname": id_, "file": "work.py", "line": 7, "is_async": False,
        "app": "shop",
    }  # fmt: skip
    return FunctionSpec(**made | settings)


def known(made: FunctionSpec, **facts: Any) -> KnownFunction:
    usual: dict[str, Any] = {"is_present": True, "is_stale": False, "loaded_at": NOW, "paused_at": None}
    return KnownFunction(made, **usual | facts)


def add(journal: Filled, made: FunctionSpec, *, is_present: bool = True, loaded_at: int = NOW) -> None:
    text = msgspec.json.encode(made).decode()
    journal.insert("function", id=made.id, spec=text, loaded_at=loaded_at, is_present=int(is_present))


def add_tick(
    journal: Filled, run: int, function: str, trigger: CronTrigger, at: int, state: str = "completed", **values: Any
) -> None:
    """A tick, with an event of the engine's own whose key is that of the run, negative."""
    data = {"cron": trigger.expression, "timezone": trigger.zone, "scheduled_at": _iso(at)}
    journal.event(-run, "fanout/scheduled.timer", data=msgspec.json.encode(data).decode())
    journal.run(run, function, -run, state, **values)
    journal.insert("tick", function=function, scheduled_at=at, run=run)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()
