"""A journal with a long past, made without running any of it: what commands that read have to be fast on.

    python -m benchmarks.history FOLDER [--runs 1000000] [--days 30]

writes a project into the folder, with `.fanout/journal.db`. Half of all runs are one of three of an event, a third
come from events that steps have sent, the others are children and ticks. Two in a hundred failed, as many had a retry.
The same numbers give the same journal, but for the ids and the time at which it ends.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, islice
from math import sin, tau
from pathlib import Path
from typing import Any

import apsw
import msgspec

from fanout.ids import UlidFactory
from fanout.journal.sqlite import SqliteJournal
from fanout.model import CronTrigger, EventTrigger, FunctionSpec

RUNS = 1_000_000
DAYS = 30
_DAY_MS = 24 * 3600 * 1000
_TICK_MS = 15 * 60 * 1000
_CHUNK = 20_000
_LIVE = 200
"""So many of the newest runs are not over."""
_WAVE = 0.7
"""How much the busiest hour of a day differs from the mean."""
_OUTPUT = '"' + "x" * 200 + '"'
_TRACEBACK = "Traceback (most recent call last):\n" + '  File "shop/orders.py", line 7, in pay\n' * 12
_ERRORS = (
    ("ConnectionError", "the server is away"),
    ("TimeoutError", "no answer within 10 s"),
    ("KeyError", "'customer'"),
    ("ValueError", "order {n} has no lines\n  (looked at all of them)"),
)
_TABLES = {
    "event": "key, id, is_id_given, name, ts, data, received_at, origin",
    "run": "key, id, function, event, rank, state, max_attempts, queued_at, started_at, ended_at, output, parent, "
    "parent_step, due_at",
    "step": "run, key, kind, branch, state, position, attempts, output, started_at, ended_at",
    "failure": "run, step, attempt, type, message, traceback, at",
    "tick": "function, scheduled_at, run",
}
Rows = dict[str, list[tuple[Any, ...]]]


def make(path: Path, *, runs: int = RUNS, days: int = DAYS, now: int | None = None) -> None:
    """A journal at `path`, which must not be there yet, with so many runs in the days before `now` (milliseconds)."""
    SqliteJournal(path).close()
    until = time.time_ns() // 1_000_000 if now is None else now
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = off")
    past = _Past(runs, until - days * _DAY_MS, until)
    chunks = past.chunks()
    while chunk := list(islice(chunks, _CHUNK)):
        with connection:
            for table, columns in _TABLES.items():
                marks = ", ".join("?" * len(columns.split(",")))
                rows = [row for each in chunk for row in each.get(table, ())]
                connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
    with connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'routed_to'", (past.last_event,))
        connection.execute("UPDATE run SET event_name = (SELECT name FROM event WHERE key = run.event)")
        for spec in specs():
            row = (spec.id, msgspec.json.encode(spec).decode(), until)
            connection.execute("INSERT INTO function (id, spec, loaded_at, is_present) VALUES (?, ?, ?, 1)", row)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def specs() -> list[FunctionSpec]:
    """The functions whose runs these are."""

    def made(id_: str, *triggers: EventTrigger | CronTrigger) -> FunctionSpec:
        return FunctionSpec(
            id=id_, name=id_, module="shop", qualname=id_, file="shop.py", line=1, is_async=False, triggers=triggers
        )

    return [
        *(made(id_, EventTrigger("shop/order")) for id_ in ("reserve-stock", "send-receipt", "update-ledger")),
        made("ship-order", EventTrigger("shop/order.paid")),
        made("book-courier"),
        made("reconcile", CronTrigger("*/15 * * * *")),
    ]


class _Past:
    """Makes what happened, event by event, as rows of the journal's tables."""

    def __init__(self, runs: int, since: int, until: int) -> None:
        self._runs, self._since, self._until = runs, since, until
        self._random = random.Random(7)
        self._new_id = UlidFactory()
        self._run_keys, self._own_keys = count(1), count(-1, -1)
        self._made = 0
        self._next_tick = since - since % _TICK_MS + _TICK_MS
        self.last_event = 0

    def chunks(self) -> Iterator[Rows]:
        while self._made < self._runs:
            at = self._since + int((self._until - self._since) * self._made / self._runs)
            # More by day than by night: the wave is never steep enough to turn time back.
            at += int(_WAVE * _DAY_MS * sin(tau * (self._until - at) / _DAY_MS) / tau)
            rows: Rows = {}
            if at >= self._next_tick:
                self._tick(rows, at)
            else:
                self._order(rows, at)
            yield rows

    def _order(self, rows: Rows, at: int) -> None:
        """An order: three functions; one of them sends an event, whose run invokes a child."""
        order = self._event(rows, "shop/order", at)
        first, *_ = (self._run(rows, id_, order, at) for id_ in ("reserve-stock", "send-receipt", "update-ledger"))
        if self._random.random() < 0.9:
            paid = self._event(rows, "shop/order.paid", at + 40, origin=first)
            shipping = self._run(rows, "ship-order", paid, at + 41)
            if self._random.random() < 0.5:
                key = self._event(rows, "fanout/function.invoked", at + 60, origin=shipping, is_own=True)
                self._run(rows, "book-courier", key, at + 61, parent=shipping)

    def _tick(self, rows: Rows, at: int) -> None:
        scheduled = datetime.fromtimestamp(self._next_tick / 1000, UTC).isoformat()
        said = {"cron": "*/15 * * * *", "timezone": "UTC", "scheduled_at": scheduled}
        data = msgspec.json.encode(said).decode()
        key = self._event(rows, "fanout/scheduled.timer", at, is_own=True, data=data)
        run = self._run(rows, "reconcile", key, at)
        rows.setdefault("tick", []).append(("reconcile", self._next_tick, run))
        self._next_tick += _TICK_MS

    def _event(
        self, rows: Rows, name: str, at: int, *, origin: int | None = None, is_own: bool = False, data: str = '{"n":7}'
    ) -> int:
        if is_own:
            key = next(self._own_keys)
        else:
            key = self.last_event = self.last_event + 1
        rows.setdefault("event", []).append((key, self._new_id(at), 0, name, at, data, at, origin))
        return key

    def _run(self, rows: Rows, function: str, event: int, at: int, parent: int | None = None) -> int:
        key = next(self._run_keys)
        self._made += 1
        queued_ms, step_ms = int(self._random.expovariate(1 / 20)), int(self._random.lognormvariate(4, 1))
        began = at + queued_ms
        ended: int | None = began + 2 * step_ms + 2
        state, fate = "completed", self._random.random()
        if self._made > self._runs - _LIVE:
            state, ended = ("queued", "running", "waiting")[self._made % 3], None
        elif fate < 0.02:
            state = "failed"
        is_done, is_waiting = state == "completed", state == "waiting"
        rows.setdefault("run", []).append((
            key, self._new_id(at), function, event, at, state, 5, at, None if state == "queued" else began, ended,
            _OUTPUT if is_done else None, parent, None if parent is None else "book",
            self._until if is_waiting else None,
        ))  # fmt: skip
        if state in ("completed", "failed"):
            has_retried = 0.02 <= fate < 0.04
            self._steps(rows, function, key, began, step_ms, is_failed=not is_done, attempts=2 if has_retried else 1)
        return key

    def _steps(
        self, rows: Rows, function: str, run: int, began: int, step_ms: int, *, is_failed: bool, attempts: int
    ) -> None:
        half = began + step_ms
        steps, failures = rows.setdefault("step", []), rows.setdefault("failure", [])
        steps.append((run, "load", "run", "", "completed", 0, 1, _OUTPUT, began, half))
        state = "failed" if is_failed else "completed"
        kind = "send" if function == "reserve-stock" else "run"
        output = None if is_failed else _OUTPUT
        steps.append((run, "store", kind, "", state, 1, attempts, output, half, half + step_ms))
        if is_failed or attempts > 1:
            type_, message = self._random.choice(_ERRORS)
            said = message.format(n=run % 5)
            failures.append((run, "store", 0, type_, said, _TRACEBACK, half + step_ms))
            if is_failed:
                passed_on = f"step `store` failed: {type_}: {said}"
                failures.append((run, "", 0, "StepError", passed_on, _TRACEBACK, half + step_ms + 1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the project")
    parser.add_argument("--runs", type=int, default=RUNS, help="how many (%(default)s)")
    parser.add_argument("--days", type=int, default=DAYS, help="how long they took (%(default)s)")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "fanout.toml").write_text('[app]\nid = "history"\nfunctions = ["shop"]\n')
    path = asked.folder / ".fanout" / "journal.db"
    if path.exists():
        parser.error(f"`{path}` is there already")
    began = time.monotonic()
    make(path, runs=asked.runs, days=asked.days)
    print(f"{asked.runs:,} runs, {path.stat().st_size / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s: {path}")


if __name__ == "__main__":
    main()
