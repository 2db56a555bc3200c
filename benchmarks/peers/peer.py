"""Who is compared: with which versions, how durable, and how much of the work at a time. Facts, no processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Peer:
    """`events` is a round's fan-out, of a size that takes it a second or so on a quiet machine with two cores.

    `packages` are installed into an environment of its own; without any it is this one.
    """

    title: str
    program: str
    packages: tuple[str, ...]
    events: int
    repeats: int
    has_durable_steps: bool
    durability: str
    arguments: tuple[str, ...] = ()
    needs: str | None = None
    """A command that has to be there besides."""


_FANOUT = "SQLite, WAL, synchronous=FULL"
PEERS = {
    "fanout": Peer("fanout, plain functions", "with_fanout", (), 2_000, 200, True, _FANOUT, ("plain",)),
    "fanout-async": Peer("fanout, async functions", "with_fanout", (), 2_000, 200, True, _FANOUT, ("async",)),
    "huey": Peer(
        "Huey, SQLite, 2 processes", "with_huey", ("huey==3.5.4",), 200, 50, False, "SQLite, WAL, synchronous=FULL"
    ),
    "celery": Peer(
        "Celery, Redis, prefork 2", "with_celery", ("celery[redis]==5.7.0", "redis==8.1.0"), 200, 100, False,
        "Redis with its defaults: a snapshot now and then, no fsync", needs="redis-server",
    ),
    "dbos": Peer(
        "DBOS, SQLite, threads", "with_dbos", ("dbos==3.4.0", "sqlalchemy==2.1.9"), 20, 50, True,
        "SQLite, rollback journal, synchronous=FULL",
    ),
    "prefect": Peer(
        "Prefect, SQLite, threads", "with_prefect", ("prefect==3.8.8", "fastapi==0.139.2"), 2, 5, True,
        "SQLite, WAL, synchronous=NORMAL",
    ),
}  # fmt: skip


def environments_folder() -> Path:
    """Where the environments are kept unless somebody says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fanout-benchmarks"
