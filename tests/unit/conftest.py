from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fanout.journal.sqlite import SqliteJournal
from fanout.worker.branches import Branch, branch, inside
from fanout.worker.execution import Desk, Execution
from fanout.worker.link import Link
from tests.unit.executions import Engine, executed
from tests.unit.journals import NOW, event, new_run, writes
from tests.unit.projects import Project

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


# A journal, empty or with runs in it.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as opened:
        yield opened


@pytest.fixture
def runs(journal: SqliteJournal) -> SqliteJournal:
    """A journal with one event and three queued runs: 1, 2 and 3."""
    journal.append_events([event()], NOW)
    journal.commit(writes(routed_to=1, runs=[new_run(key) for key in (1, 2, 3)]))
    return journal


# A project.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    for name in [name for name in sys.modules if name.startswith("shop")]:
        del sys.modules[name]
