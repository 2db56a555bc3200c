"""A site over a journal: in this process, or as the real process that people reach."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fanout.config import Config, load
from fanout.web.access import access
from fanout.web.app import application
from fanout.web.process import WebProcess, listening_socket
from fanout.web.server import Server
from tests.acceptance.conftest import Project, until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client's own, about the library that it is built on
    from starlette.testclient import TestClient

TOML = '[app]\nid = "test"\nfunctions = ["work"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Settings of a project without code; its journal is made by whatever writes first."""
    return config_in(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with code, driven through the real command."""
    return Project(tmp_path)


def config_in(folder: Path, *, toml: str = TOML) -> Config:
    path = folder / "fanout.toml"
    path.write_text(toml)
    return load(path)


@pytest.fixture
def browser(config: Config) -> Iterator[TestClient]:
    """Asks the site without a server; redirects are not followed."""
    with client_of(config) as client:
        yield client


def client_of(config: Config, *, token: str | None = None, event_key: str | None = None) -> TestClient:
    """Use it in a `with`: the site begins and ends with that."""
    given = {"FANOUT_TOKEN": token, "FANOUT_EVENT_KEY": event_key}
    allowed = access({name: value for name, value in given.items() if value is not None}, config.host, config.port)
    return TestClient(
        application(config, allowed),
        base_url=f"http://127.0.0.1:{config.port}",
        follow_redirects=False,
        raise_server_exceptions=False,
    )


class Running:
    """A web process and what it has said."""

    def __init__(self, config: Config, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.said: list[str] = []
        self.process = WebProcess(config, host=host, port=port, on_line=self.said.append)

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def until(self, holds: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self.process.look()
            return holds()

        until(look, what)


@pytest.fixture
def running(config: Config) -> Iterator[Running]:
    """A real web process of this project, on a port of its own. What it does not answer yet waits in its socket."""
    site = Running(config)
    try:
        yield site
    finally:
        site.process.close()


class Served:
    """A real server in a thread of this process: what it is bounded by can be changed."""

    def __init__(self, config: Config) -> None:
        listener = listening_socket("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self.server = Server(application(config, access({}, "127.0.0.1", self.port)))
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            yield connection

    def said(self, request: bytes) -> bytes:
        """All that comes until the server closes the connection, which ends a test that it never does."""
        with self.connected() as connection:
            connection.sendall(request)
            return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    said = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


@pytest.fixture
def served(config: Config) -> Iterator[Served]:
    site = Served(config)
    try:
        yield site
    finally:
        site.server.end()
        site.thread.join(30)
        assert not site.thread.is_alive()
