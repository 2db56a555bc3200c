"""What a workload was told, and what it ran with: every figure is published with both."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

import fanout
from benchmarks.engine import Project
from benchmarks.measure import Figure
from fanout import config

Setting = int | float | str
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


@dataclass(frozen=True)
class Options:
    """What the command line asks for. `scale` multiplies every workload's size."""

    processes: int = 2
    rounds: int = 5
    batch: int = 100
    scale: float = 1.0
    runs: int = 1_000_000
    timeout_s: float = 1800.0

    def scaled(self, size: int) -> int:
        return max(1, round(size * self.scale))


@dataclass(frozen=True)
class Sample:
    """A moment of a long workload: runs done so far, and what was measured then, or since the last sample.

    `cpu_s` is what the engine took for 1,000 runs: unlike the throughput it does not depend on what else the machine
    does. `wal_mb` is the most that the write-ahead log had.
    """

    runs: int
    runs_per_s: float
    cpu_s: float
    memory_mb: float
    wal_mb: float
    descriptors: int
    processes: int


@dataclass(frozen=True)
class Result:
    """What a workload found out."""

    figures: Mapping[str, Figure]
    settings: Mapping[str, Setting]
    samples: tuple[Sample, ...] = field(default=())


def settings_of(place: Project, client: fanout.Client, **own: Setting) -> dict[str, Setting]:
    """What the product ran with, as the product says; `own` are the workload's settings."""
    loaded = config.load(place.config)
    return {
        "cores": config.usable_cpus(),
        "processes": loaded.processes,
        "slots": loaded.slots,
        "synchronous": _synchronous(client),
        **own,
        "fanout": fanout.__version__,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "system": f"{platform.system()} {os.uname().release} {platform.machine()}",
    }


def _synchronous(client: fanout.Client) -> str:
    # Every writer of the journal, the engine too, opens it in the same way; nothing public shows how.
    return _SYNCHRONOUS[client._connection._journal._scalar("PRAGMA synchronous")]  # noqa: SLF001
