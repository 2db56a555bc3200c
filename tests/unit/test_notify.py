from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fanout.engine.notify import Supervisor


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A supervisor's socket, and its address as the environment gives it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@fanout-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.setblocking(False)
        yield listener, name


def heard(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_says_when_it_is_ready_and_when_it_stops(listening: tuple[socket.socket, str]) -> None:
    listener, name = listening
    with closing(Supervisor({"NOTIFY_SOCKET": name})) as supervisor:
        supervisor.ready("serving `a`\nEXTEND_TIMEOUT_USEC=1")
        supervisor.look()
        supervisor.stopping("2 runs")
    # What is said can't become a variable of its own.
    assert heard(listener) == ["READY=1\nSTATUS=serving `a` EXTEND_TIMEOUT_USEC=1", "STOPPING=1\nSTATUS=2 runs"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WATCHDOG_USEC": "3600000000"}, ["WATCHDOG=1"]),
        ({"WATCHDOG_USEC": "3600000000", "WATCHDOG_PID": str(os.getpid())}, ["WATCHDOG=1"]),
        ({"WATCHDOG_USEC": "3600000000", "WATCHDOG_PID": "1"}, []),
        ({"WATCHDOG_USEC": "0"}, []),
        ({"WATCHDOG_USEC": "soon"}, []),
        ({}, []),
    ],
)
def test_it_is_alive_once_in_half_of_the_time(
    listening: tuple[socket.socket, str], variables: dict[str, str], words: list[str]
) -> None:
    listener, name = listening
    with closing(Supervisor({"NOTIFY_SOCKET": name, **variables})) as supervisor:
        supervisor.look()
        supervisor.look()
    assert heard(listener) == words


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all", "@nobody-is-there"])
def test_without_anybody_who_listens_it_says_nothing(address: str) -> None:
    with closing(Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})) as supervisor:
        supervisor.ready("serving")
        supervisor.look()
        supervisor.stopping("stopping")
