from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from fanout.worker.branches import Branch, branch, inside
from fanout.worker.execution import Desk, Execution
from fanout.worker.link import Link
from tests.unit.executions import Engine, executed

# A worker's side, for tests of executions.


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with closing(here), closing(there):
        yield here, there


@pytest.fixture
def engine(sockets: tuple[socket.socket, socket.socket]) -> Engine:
    return Engine(sockets[1])


@pytest.fixture
def desk(sockets: tuple[socket.socket, socket.socket]) -> Desk:
    return Desk(Link(sockets[0], idle_ms=250))


@pytest.fixture
def execution(desk: Desk) -> Iterator[Execution]:
    """Of a plain function, with the test's thread as its own."""
    made = executed(desk)
    before, step = branch.set(Branch(made)), inside.set(None)
    yield made
    inside.reset(step)
    branch.reset(before)
