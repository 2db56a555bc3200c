"""A journal with a past, for pages to show: made without running anything."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import msgspec

from benchmarks import history
from fanout.config import Config
from fanout.events import parse
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite_appender import SqliteAppender

RUNS = 600
_TICK_MS = 15 * 60 * 1000


def make_past(config: Config, now: int, *, runs: int = RUNS) -> None:
    """So many runs of a day that ended less than a quarter of an hour ago; a few failed, or are not over. Which these
    are is always the same: the ticks are at the same places.
    """
    config.journal.parent.mkdir(parents=True, exist_ok=True)
    config.journal.write_bytes(_made(now - now % _TICK_MS, runs))


@cache
def _made(now: int, runs: int) -> bytes:
    """The file, made once for all tests of a module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        history.make(path, runs=runs, days=1, now=now)
        return path.read_bytes()


def send(config: Config, now: int, *events: dict[str, Any]) -> list[AcceptedEvent]:
    """Events that no engine has looked at."""
    journal = SqliteAppender(config.journal)
    accepted = journal.append_events(parse(msgspec.json.encode(events), "events"), now)
    journal.close()
    return accepted


def rows(config: Config, sql: str, *bindings: object) -> list[tuple[Any, ...]]:
    """What the journal has."""
    connection = apsw.Connection(str(config.journal), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return list(connection.execute(sql, bindings))
    finally:
        connection.close()


def requests(config: Config) -> list[tuple[str, Any]]:
    """What the engine has been asked for."""
    found = rows(config, "SELECT kind, body FROM request ORDER BY key")
    return [(kind, msgspec.json.decode(body)) for kind, body in found]


def in_order(text: str, *parts: str) -> bool:
    """Whether all of these are in it, one after the other."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
