"""Counting time, processor and memory: of a tree of processes, and over several rounds. It knows nothing of fanout."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_PROC = Path("/proc")
_MB = 2**20
# Places in /proc/PID/stat behind the name in parentheses, which may hold spaces (proc(5), counted from `state`).
_PARENT, _FIRST_TIME, _LAST_TIME = 1, 11, 14


class BenchmarkError(Exception):
    """A workload did not do what it has to do: its figures would be worth nothing."""


@dataclass(frozen=True)
class Figure:
    """A figure's median over the rounds, and its extremes. They are all the same after a single round."""

    median: float
    lowest: float
    highest: float


def figure(*rounds: float) -> Figure:
    """The figure of these rounds, one at least."""
    return Figure(median(rounds), min(rounds), max(rounds))


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that is not below `percent` of them (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True)
class Deadline:
    """The moment, on the monotonic clock, by which a workload has to be over."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds that are left.

        Raises:
            BenchmarkError: none are.
        """
        remaining = self.at_s - time.monotonic()
        if remaining <= 0:
            raise BenchmarkError("the time is over; `--timeout` allows more")
        return remaining


def can_see_processes() -> bool:
    """Whether this system shows other processes in /proc, as Linux does."""
    return (_PROC / "self" / "stat").exists()


def tree_cpu_s(root: int) -> float:
    """Processor seconds that the process and all that it has started have used so far, the ended ones included."""
    ticks = sum(
        sum(int(part) for part in stat[_FIRST_TIME : _LAST_TIME + 1])
        for pid in _tree(root)
        if (stat := _stat(pid)) is not None
    )
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Processor seconds that one process has used so far, without what it has started; 0 for one that has ended."""
    stat = _stat(pid)
    own = stat[_FIRST_TIME : _FIRST_TIME + 2] if stat else ()
    return sum(map(int, own)) / os.sysconf("SC_CLK_TCK")


def tree_size(root: int) -> int:
    """How many processes it and all that it has started and that still lives are."""
    return len(_tree(root))


def descriptors(pid: int) -> int:
    """How many files and sockets one process has open; 0 for one that has ended."""
    try:
        return sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return 0


def tree_peak_mb(root: int) -> float:
    """The sum of the peak memories (VmHWM) of the process and all that it has started and that still lives."""
    return sum(_status_mb(pid, "VmHWM") for pid in _tree(root))


def peak_mb(pid: int) -> float:
    """The most resident memory (VmHWM) that one process has had."""
    return _status_mb(pid, "VmHWM")


def memory_mb(pid: int) -> float:
    """The resident memory (VmRSS) of one process now."""
    return _status_mb(pid, "VmRSS")


def memory_by_process(root: int) -> dict[int, float]:
    """The resident memory, by pid, of the process and all that it has started and that still lives."""
    return {pid: memory_mb(pid) for pid in _tree(root)}


def _tree(root: int) -> list[int]:
    if not can_see_processes():
        return []
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(int(stat[_PARENT]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _status_mb(pid: int, name: str) -> float:
    """A line of /proc/PID/status, in MB; 0 for a process that has ended."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith(f"{name}:")), 0.0)
