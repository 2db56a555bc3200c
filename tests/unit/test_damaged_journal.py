"""A journal with something in it that nobody has written: it is said to be damaged, whoever meets that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from fanout.errors import FanoutError, JournalError
from fanout.journal.filters import EVERY_RUN
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState, StepKind, StepState
from tests.unit.filled import Filled

NOT_UTF_8 = "CAST(x'C328FF' AS TEXT)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    filled = Filled(tmp_path / "journal.db")
    filled.event(1)
    filled.run(1, "f", 1)
    filled.close()
    return filled.path


def damage(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA ignore_check_constraints = on")
    connection.execute("PRAGMA writable_schema = on")
    connection.execute(sql)
    connection.close()


def refused(path: Path, read: Callable[[], object]) -> str:
    with pytest.raises(JournalError) as raised:
        read()
    assert raised.value.message.startswith(f"the journal `{path}` is damaged: ")
    assert raised.value.hint is not None
    assert "fanout journal verify" in raised.value.hint
    assert raised.value.exit_code == 4
    return raised.value.message


def listed(path: Path) -> object:
    with JournalReader(path) as reader:
        return reader.runs(EVERY_RUN, limit=5, outputs=True)


@pytest.mark.parametrize("value", [NOT_UTF_8, "'paused'"])
def test_people_are_told(path: Path, value: str) -> None:
    assert listed(path)
    damage(path, f"UPDATE run SET state = {value}")
    refused(path, lambda: listed(path))


def test_a_run_that_is_only_in_an_index(path: Path) -> None:
    with JournalReader(path) as reader:
        ((run,),) = reader._all("SELECT id FROM run")
        reader.runs_with_steps = lambda *_, **__: {}  # type: ignore[method-assign]
        refused(path, lambda: reader.run(run))


def test_an_engine_is_told(path: Path) -> None:
    journal = SqliteJournal(path)
    damage(path, f"UPDATE event SET name = {NOT_UTF_8}")

    def read() -> None:
        with journal.readable():
            journal.unrouted(0, 10)

    refused(path, read)
    journal.close()


def test_pages_that_are_none(path: Path) -> None:
    pages = bytearray(path.read_bytes())
    pages[4096:] = b"\x55" * (len(pages) - 4096)
    path.write_bytes(pages)
    refused(path, lambda: listed(path))


@pytest.mark.parametrize("kind", [RunState, StepState, StepKind])
def test_a_state_that_there_is_not_is_a_value_error_still(kind: type[RunState]) -> None:
    with pytest.raises(ValueError, match="'paused' is no"):
        kind("paused")


def test_the_error_of_whoever_reads_is_their_own(path: Path) -> None:
    for error in (ValueError("mine"), KeyError("mine"), FanoutError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, JournalReader(path):
            raise error
        assert raised.value is error
