"""Real projects in temporary folders, and a real `fanout serve` that runs them."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from benchmarks.measure import BenchmarkError, Deadline

COMMAND = str(Path(sys.executable).with_name("fanout"))
_MODULES = Path(__file__).parent / "project"
_STOP_PATIENCE_S = 20.0
_NAP_S = 0.002
_STOPPED_BY_CTRL_C = 130


@dataclass(frozen=True)
class Project:
    """A folder with a fanout.toml and one module of functions."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "fanout.toml"


@dataclass(frozen=True)
class Engine:
    """A `fanout serve` that has loaded the code. `start_s` is from the process's start to then.

    `url` is where its web process listens, and empty if it has none.
    """

    pid: int
    start_s: float
    url: str = ""


@contextmanager
def project(module: str, processes: int) -> Iterator[Project]:
    """A project with this module of `benchmarks/project`, all else at its default; gone afterwards."""
    with TemporaryDirectory(prefix="fanout-bench-") as folder:
        root = Path(folder)
        copy(_MODULES / f"{module}.py", root)
        made = Project(root)
        made.config.write_text(f'[app]\nid = "bench"\nfunctions = ["{module}"]\n\n[pool]\nprocesses = {processes}\n')
        yield made


@contextmanager
def serve(place: Project, deadline: Deadline, *, has_web: bool = False) -> Iterator[Engine]:
    """An engine for the project, stopped afterwards as by Ctrl-C.

    Raises:
        BenchmarkError: it did not start, or did not stop as it should; with the end of what it said.
    """
    log_path = place.root / "serve.log"
    with log_path.open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [COMMAND, "serve", *(["--port", "0"] if has_web else ["--no-web"]), "--config", str(place.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            _wait_until_serving(process, log_path, deadline)
            start_s = time.monotonic() - began
            at = re.search(r" at (http://\S+);", log_path.read_text())
            yield Engine(process.pid, start_s, at[1] if at else "")
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{_tail(log_path)}".rstrip()) from error
        finally:
            _stop(process)
    if process.returncode != _STOPPED_BY_CTRL_C:
        raise BenchmarkError(f"`fanout serve` ended with code {process.returncode}\n{_tail(log_path)}")


def _wait_until_serving(process: subprocess.Popen[bytes], log_path: Path, deadline: Deadline) -> None:
    while b"serving " not in log_path.read_bytes():
        if process.poll() is not None:
            raise BenchmarkError("`fanout serve` did not start")
        deadline.remaining_s()
        time.sleep(_NAP_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log_path: Path) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-20:])


@dataclass(frozen=True)
class Finished:
    """A command that has ended well. `cpu_s` counts the processes that it started too."""

    out: str
    wall_s: float
    cpu_s: float


def run_command(place: Project, arguments: list[str], deadline: Deadline) -> Finished:
    """Run `fanout` with these arguments in the project's folder; see `run_process`."""
    return run_process([COMMAND, *arguments], place.root, deadline)


def run_process(command: list[str], folder: Path, deadline: Deadline) -> Finished:
    """Run this command there.

    Raises:
        BenchmarkError: it ended with another code than 0.
    """
    before = ended_cpu_s()
    began = time.monotonic()
    said = f"`{Path(command[0]).name} {command[1]}`"
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline.remaining_s(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{said} did not end in time") from None
    wall_s = time.monotonic() - began
    if done.returncode != 0:
        raise BenchmarkError(f"{said} ended with code {done.returncode}\n{done.stdout}{done.stderr}")
    return Finished(done.stdout, wall_s, ended_cpu_s() - before)


def ended_cpu_s() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
