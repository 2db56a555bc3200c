"""One peer's program for one round: started in an empty folder, told what to do, measured from outside, ended."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import measure
from benchmarks.measure import BenchmarkError, percentile
from benchmarks.peers.peer import PROGRAMS, Peer

STEPS, FUNCTIONS = 2, 3
_LONGEST_S = 300.0
_PATIENCE_S = 20.0
_WARM_UP = 10


@dataclass(frozen=True)
class Round:
    """What one round found. `start_s` is from the program's start until one event was worked off.

    `cpu_ms_a_run` and `memory_mb` are of the whole tree: the client, the workers, and whatever server there is.
    """

    start_s: float
    steps_per_s: float
    cpu_ms_a_run: float
    p50_ms: float
    p99_ms: float
    memory_mb: float


def run_round(python: str, peer: Peer, scale: float) -> Round:
    """Start it, and do a round's work.

    Raises:
        BenchmarkError: it ended by itself, or took too long.
    """
    events, repeats = (max(1, round(number * scale)) for number in (peer.events, peer.repeats))
    with TemporaryDirectory(prefix="fanout-peer-") as folder:
        began = time.monotonic()
        program = _Program(python, peer, Path(folder))
        try:
            program.hear()
            start_s = time.monotonic() - began
            program.ask(f"fan_out {max(1, events // _WARM_UP)}")
            cpu_before = measure.tree_cpu_s(program.pid)
            wall_s = program.ask(f"fan_out {events}")["wall_s"]
            cpu_s = measure.tree_cpu_s(program.pid) - cpu_before
            memory_mb = measure.tree_peak_mb(program.pid)
            times = program.ask(f"latency {repeats}")["times_ms"]
        finally:
            program.end()
    runs = events * FUNCTIONS
    return Round(
        start_s, runs * STEPS / wall_s, cpu_s / runs * 1000, percentile(times, 50), percentile(times, 99), memory_mb
    )


def _environment(peer: Peer) -> dict[str, str]:
    """Ours has this package, too: what W1 is, is said in one place."""
    if peer.packages:
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (str(PROGRAMS.parents[2]), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


class _Program:
    def __init__(self, python: str, peer: Peer, folder: Path) -> None:
        self._log = folder / "program.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, str(PROGRAMS / f"{peer.program}.py"), *peer.arguments],
                cwd=folder,
                env=_environment(peer),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.pid = self._process.pid
        self._title = peer.title

    def ask(self, what: str) -> dict[str, Any]:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{what}\n".encode())
            self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Its next answer."""
        out = self._process.stdout
        if out is None:
            raise BenchmarkError("it has no stdout")
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            line = out.readline() if selector.select(_LONGEST_S) else b""
        if not line:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise BenchmarkError(f"{self._title} has ended, or does nothing any more\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """It ends when its stdin does, with all that it has started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
