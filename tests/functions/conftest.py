"""What it takes to test functions alone: a context whose steps just run, and a mail server to send to.

And to test them in earnest: a project of these functions, driven through the real command.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import shutil
import socketserver
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout import Event
from tests.acceptance.conftest import Project, Result

ROOT = Path(__file__).parents[2]


class Steps:
    """Runs each step at once, and gives its result back as the journal would: through JSON."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.names.append(name)
        return json.loads(json.dumps(fn(*args, **kwargs)))


class AsyncSteps(Steps):
    async def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.names.append(name)
        result = fn(*args, **kwargs)
        return json.loads(json.dumps(await result if inspect.isawaitable(result) else result))


class FakeContext:
    def __init__(self, event: Event, step: Steps) -> None:
        self.event = event
        self.events = [event]
        self.run_id = "run_1"
        self.attempt = 0
        self.logger = logging.getLogger("functions")
        self.step = step


class Runner:
    """`run(function, data)` gives the function's result; `run.steps` are the names of the steps it took."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, function: Callable[..., Any], data: dict[str, Any], event_id: str = "evt_1") -> Any:
        event = Event(id=event_id, name="test/event", ts=1_760_000_000_000, data=data)  # 9 October 2025, 08:53:20 UTC
        is_async = inspect.iscoroutinefunction(function)
        context = FakeContext(event, AsyncSteps() if is_async else Steps())
        self.steps = context.step.names
        return asyncio.run(function(context)) if is_async else function(context)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """In an empty folder, without a mail server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTP_HOST", raising=False)
    return Runner()


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail on the loopback interface. `refusals` maps an address to the reply that it gets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailSession)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.received: list[bytes] = []
        self.refusals: dict[str, str] = {}


class MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.reply("220 ready")
        while line := self.rfile.readline():
            command = line.decode().strip()
            match command[:4].upper():
                case "RCPT":
                    self.reply(self.server.refusals.get(command[command.index("<") + 1 : command.index(">")], "250 ok"))
                case "DATA":
                    self.reply("354 go on")
                    self.server.received.append(self.message())
                    self.reply("250 taken")
                case "QUIT":
                    return self.reply("221 bye")
                case _:
                    self.reply("250 ok")
        return None

    def message(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def reply(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mail_server(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A real one in a thread; `SMTP_HOST` names it."""
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("SMTP_HOST", server.host)
        yield server
        server.shutdown()
        thread.join()


class Examples(Project):
    """The functions of this repository in a folder of their own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        shutil.copytree(ROOT / "functions", root / "functions", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "fanout.toml").write_text(
            '[app]\nid = "examples"\nfunctions = ["functions"]\n[pool]\nprocesses = 2\n[dev]\nretry_delay = 0.05\n'
        )

    def send_file(self, name: str, **data: Any) -> Result:
        """Send an event of the folder, with some of its data changed."""
        event = json.loads((self.root / "functions" / "events" / name).read_text())
        return self.send(event["name"], {**event["data"], **data})

    def disturb(self, code: str) -> None:
        """Put a module beside the functions that makes something go wrong: `is_first(name)` is true once, ever."""
        (self.root / "functions" / "trouble.py").write_text(
            "import os\nfrom functools import wraps\nfrom pathlib import Path\n\n"
            "def is_first(name):\n"
            "    try:\n"
            "        Path(f'trouble-{name}').touch(exist_ok=False)\n"
            "    except FileExistsError:\n"
            "        return False\n"
            "    return True\n\n" + textwrap.dedent(code)
        )

    def runs_of(self, id_: str) -> list[dict[str, Any]]:
        """The runs that an event has caused, with their steps; `id_` is its own, or that of one of them."""
        runs: list[dict[str, Any]] = self.fanout("trace", id_, "--json").json()["runs"]
        return runs

    def outbox(self) -> list[str]:
        return sorted(file.name for file in (self.root / ".fanout" / "outbox").glob("*"))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    return Examples(tmp_path)
