"""Real projects in temporary folders, driven through the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FENCE_S = 60
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Who begins the tests in the background has it ignored, and all that they start would ignore their Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
COMMAND = str(Path(sys.executable).parent / "fanout")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A folder with a fanout.toml and one module, `work`, of functions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / ".fanout" / "journal.db"

    def write(self, code: str, *, toml: str = "") -> None:
        put(
            self.root / "work.py",
            "import os, time\nimport fanout\nfrom fanout import AsyncContext, Context\n"
            "from pathlib import Path\n\nHERE = Path(__file__).parent\n\n"
            "def note(line):\n"
            "    with open(HERE / 'notes.txt', 'a') as file:\n"
            "        file.write(line + '\\n')\n\n" + textwrap.dedent(code),
        )
        text = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\n[dev]\nretry_delay = 0.05\n'
        put(self.root / "fanout.toml", toml or text)

    def notes(self) -> list[str]:
        path = self.root / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FANOUT_", "COLUMNS"))}
        return {**kept, "NO_COLOR": "1", "COLUMNS": "100"}

    def start(
        self, *arguments: str, command: tuple[str, ...] = (COMMAND,), into: Path | None = None
    ) -> subprocess.Popen[str]:
        with (into or Path(os.devnull)).open("w") as file:
            return subprocess.Popen(
                [*command, *arguments], cwd=self.root, env=self.environment(), text=True,
                stdin=subprocess.DEVNULL, stdout=file if into else subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

    def fanout(self, *arguments: str, stdin: str | bytes = "", **environment: str) -> Result:
        done = subprocess.run(
            [COMMAND, *arguments], cwd=self.root, env=self.environment() | environment, capture_output=True, timeout=FENCE_S,
            input=stdin if isinstance(stdin, bytes) else stdin.encode(), check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def send(self, name: str, data: dict[str, Any] | None = None) -> Result:
        return self.fanout("send", "--name", name, "--data", json.dumps(data or {}), "--json")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        import apsw

        connection = apsw.Connection(str(self.journal), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(10_000)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """An engine in a process of its own, ready."""
        process = self.start("serve", "--no-web")
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("serving"), first
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=15)
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def put(path: Path, text: str) -> None:
    """At once, as an editor does, beside it first: who watches never sees the half of it."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    beside.replace(path)


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does; the time is only a fence."""
    fence = time.monotonic() + FENCE_S
    while not holds():
        assert time.monotonic() < fence, f"never: {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has reaped yet is dead.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
