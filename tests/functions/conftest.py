"""What it takes to test functions alone: a context whose steps just run, and a mail server to send to."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout import Event


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
