"""A project's `fanout serve`, with its workers and its web process, as the processes that they are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from shutil import copy

from tests.acceptance.conftest import COMMAND

SOURCE = Path(__file__).with_name("work.py")
BUSY, _NOT_LOADED = 4, 2
STOP_FENCE_S = 60.0
_TOML = (
    '[app]\nid = "crash"\nfunctions = ["work"]\n'
    '[pool]\nprocesses = {processes}\nslots = {slots}\npark = "{park}"\n[web]\nport = {port}\n'
)


class Product:
    """Started, ended and started again. What its processes say is in files, `said-1.txt` and so on."""

    def __init__(self, root: Path, *, processes: int, slots: int, park: str) -> None:
        self.root = root
        self.journal = root / ".fanout" / "journal.db"
        self.port = a_free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.strays: dict[int, int] = {}
        """Workers that were stopped when their engine was killed, since when: only time ends them, once they go on."""
        self.stopped: dict[int, int] = {}
        """Who is stopped now, since when: nanoseconds, as in the effects."""
        self.complaints: list[str] = []
        self._numbers = count(1)
        self._said = root
        self.killed: set[int] = set()
        (root / "asked").mkdir()
        copy(SOURCE, root)
        (root / "fanout.toml").write_text(_TOML.format(processes=processes, slots=slots, park=park, port=self.port))

    def _file(self) -> Path:
        return self.root / f"said-{next(self._numbers)}.txt"

    def command(
        self, *arguments: str, out: int = subprocess.DEVNULL, into: Path | None = None
    ) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FANOUT_", "COLUMNS"))}
        with (into or self._file()).open("wb") as said:
            return subprocess.Popen(
                [COMMAND, *arguments], cwd=self.root, env={**kept, "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL, stdout=out, stderr=said,
            )  # fmt: skip

    @property
    def engine(self) -> subprocess.Popen[bytes]:
        """The engine. One is started if there is none."""
        if self.process is not None and self.process.poll() is not None:
            # Or else a command was the engine when this one began, or workers were killed while they loaded the code.
            if self.process.returncode not in (BUSY, _NOT_LOADED) or "serving " in self._said.read_text():
                self.complaints.append(f"`fanout serve` ended by itself, with code {self.process.returncode}")
            self.process = None
        if self.process is None:
            self._said = self._file()
            self.process = self.command("serve", into=self._said)
        return self.process

    def is_serving(self) -> bool:
        """It has loaded the code, and runs what there is. Otherwise one begins."""
        return self.engine.poll() is None and "serving " in self._said.read_text()

    def workers(self) -> list[int]:
        return self._children("fanout.worker")

    def web(self) -> list[int]:
        return self._children("fanout.web")

    def _children(self, module: str) -> list[int]:
        engine = self.engine.pid
        found: list[int] = []
        with suppress(OSError):
            for task in Path(f"/proc/{engine}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return [pid for pid in found if module in command_line(pid)]

    def kill(self, pid: int) -> None:
        self.killed.add(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def stop(self, pid: int) -> None:
        self.stopped[pid] = time.time_ns()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def go_on(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self.stopped.pop(pid, None)

    def kill_engine(self) -> None:
        engine = self.engine
        self.killed.update(self.workers())  # They end with it, sooner or later.
        self.strays |= self.stopped
        engine.kill()
        engine.wait()
        self.process = None

    def end_engine(self, how: signal.Signals = signal.SIGTERM) -> None:
        """As whoever runs it would: it has to end well."""
        is_serving, engine = self.is_serving(), self.engine
        self.process = None
        engine.send_signal(how)
        try:
            code = engine.wait(STOP_FENCE_S)
        except subprocess.TimeoutExpired:
            self.complaints.append(f"`fanout serve` did not end within {STOP_FENCE_S} s of {how.name}")
            engine.kill()
            engine.wait()
            return
        # Before it serves, nothing has happened that would need an orderly end.
        if code not in (0, BUSY) and (is_serving or code != -how):
            self.complaints.append(f"`fanout serve` ended with code {code} after {how.name}")

    def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        for pid in processes_in(self.root):
            self.kill(pid)
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def processes_in(root: Path) -> list[int]:
    """Living processes whose working directory that is: the product's, and nobody else's."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == root:
                found.append(int(entry.name))
    return found
