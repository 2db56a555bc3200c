"""The logs of runs: bounded, in order, and never in anybody's way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from fanout.errors import JournalError
from fanout.journal import sqlite_logs
from fanout.journal.logs import LogLine, LogSize, logs_path
from fanout.journal.sqlite_logs import LogReader, SqliteLogs
from fanout.protocol import Logged


def line(text: str, run: str = "01R", step: str | None = None) -> Logged:
    return Logged(run, step, 0, 5, "stdout", None, text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.logs.db"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def logs(file: Path, warnings: list[str]) -> Iterator[SqliteLogs]:
    with SqliteLogs(file, warn=warnings.append) as made:
        yield made


@pytest.fixture
def reader(file: Path) -> Iterator[LogReader]:
    with LogReader(file) as made:
        yield made


def texts(reader: LogReader, run: str = "01R", *, after: int = 0, limit: int = -1) -> list[str]:
    return [each.text for each in reader.lines(run, after=after, limit=limit)]


def test_the_file_is_beside_the_journal() -> None:
    assert logs_path(Path("/x/.fanout/journal.db")) == Path("/x/.fanout/journal.logs.db")
    assert logs_path(Path("/x/j")) == Path("/x/j.logs")


def test_nothing_is_made_until_there_is_something_to_keep(logs: SqliteLogs, reader: LogReader, file: Path) -> None:
    logs.catch_up()
    logs.delete(["01R"])
    assert not file.exists()
    assert (reader.size("01R"), reader.lines("01R")) == (LogSize(), [])
    logs.write([line("one")])
    assert file.stat().st_mode & 0o777 == 0o600
    assert reader.size("01R") == LogSize(1)


def test_lines_come_back_in_order_and_by_step(logs: SqliteLogs, reader: LogReader) -> None:
    logs.write([line("a"), line("other", "01S"), line("b", step="pay")])
    logs.write([Logged("01R", "pay", 2, 7, "warning", "shop", "c\nd")])
    assert reader.lines("01R") == [
        LogLine(1, None, 0, 5, "stdout", None, "a"),
        LogLine(2, "pay", 0, 5, "stdout", None, "b"),
        LogLine(3, "pay", 2, 7, "warning", "shop", "c\nd"),
    ]
    assert [each.number for each in reader.lines("01R", step="pay")] == [2, 3]
    assert texts(reader, after=1, limit=1) == ["b"]
    assert texts(reader, "01S") == ["other"]
    assert reader.lines("no such run") == []


def test_a_new_engine_goes_on_counting(logs: SqliteLogs, reader: LogReader, file: Path) -> None:
    logs.write([line("a")])
    with SqliteLogs(file) as other:
        other.write([line("b")])
    logs.write([line("c")])
    assert [each.number for each in reader.lines("01R")] == [1, 2, 3]


def test_what_is_too_much_is_counted(logs: SqliteLogs, reader: LogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_logs, "MOST_LINES", 3)
    logs.write([line(str(number)) for number in range(5)])
    logs.write([line("more"), line("of another", "01S")])
    assert texts(reader) == ["0", "1", "2"]
    assert (reader.size("01R"), reader.size("01S")) == (LogSize(3, 3), LogSize(1))


def test_deleting(logs: SqliteLogs, reader: LogReader, file: Path) -> None:
    runs = [f"run {number}" for number in range(250)]
    logs.write([line("x" * 1000, run) for run in [*runs, "kept"]])
    with SqliteLogs(file) as elsewhere:
        elsewhere.delete([*runs, "no such run"])
    assert [reader.size(run).lines for run in (*runs, "kept")] == [0] * 250 + [1]
    # Who writes must not go on from what it knew of them.
    logs.write([line("again", "run 7")])
    assert [each.number for each in reader.lines("run 7")] == [1]
    logs.delete(["kept"])
    logs.write([line("new", "kept")])
    assert texts(reader, "kept") == ["new"]


def test_deleting_gives_its_space_back(logs: SqliteLogs, file: Path) -> None:
    logs.write([line("x" * 8000, f"run {number}") for number in range(500)])
    logs.close()
    before = file.stat().st_size
    logs.delete([f"run {number}" for number in range(500)])
    logs.close()
    assert file.stat().st_size < before / 10


def test_who_has_the_file_is_not_waited_for(logs: SqliteLogs, reader: LogReader, file: Path) -> None:
    logs.write([line("a")])
    with closing(apsw.Connection(str(file))) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        logs.write([line("b")])
        logs.write([line("c")])
        logs.catch_up()
        assert time.monotonic() - began < 1
        other.execute("ROLLBACK")
    assert texts(reader) == ["a"]
    logs.catch_up()
    assert texts(reader) == ["a", "b", "c"]


def test_what_waits_is_bounded(
    logs: SqliteLogs, reader: LogReader, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_logs, "_MOST_WAITING", 2)
    logs.write([line("a")])
    with closing(apsw.Connection(str(file))) as other:
        other.execute("BEGIN IMMEDIATE")
        logs.write([line(str(number)) for number in range(5)])
        other.execute("ROLLBACK")
    logs.catch_up()
    assert texts(reader) == ["a", "3", "4"]


@pytest.mark.parametrize("content", [b"no database at all, whatever its name says" * 100, b"SQLite format 3\0" * 100])
def test_a_broken_file_is_said_once_and_left_alone(
    logs: SqliteLogs, reader: LogReader, file: Path, warnings: list[str], content: bytes
) -> None:
    file.write_bytes(content)
    for _ in range(3):
        logs.write([line("a")])
    logs.close()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: what functions print is not kept: `{file}` can't be written: ")
    assert file.read_bytes() == content
    for ask in (lambda: reader.size("01R"), lambda: logs.delete(["01R"])):
        with pytest.raises(JournalError) as raised:
            ask()
        assert raised.value.hint == "no run needs them: move that file away, and a new one is made"


def test_other_peoples_databases_are_left_alone(logs: SqliteLogs, file: Path, warnings: list[str]) -> None:
    with closing(apsw.Connection(str(file))) as theirs:
        theirs.execute("CREATE TABLE line (a)")
    logs.write([line("a")])
    assert warnings == [
        f"warning: what functions print is not kept: `{file}` can't be written: `{file}` does not hold logs of fanout"
    ]


def test_a_newer_file_is_left_alone(logs: SqliteLogs, file: Path, warnings: list[str]) -> None:
    logs.write([line("a")])
    logs.close()
    with closing(apsw.Connection(str(file))) as newer:
        newer.pragma("user_version", 2)
    logs.write([line("b")])
    assert warnings[0].endswith("was written by a newer fanout")


def test_a_folder_that_is_gone_harms_nobody(tmp_path: Path, warnings: list[str]) -> None:
    with SqliteLogs(tmp_path / "no" / "logs.db", warn=warnings.append) as logs:
        logs.write([line("a")])
    assert len(warnings) == 1


def test_it_tries_again_after_a_while(
    logs: SqliteLogs, reader: LogReader, file: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    file.write_bytes(b"nonsense" * 100)
    logs.write([line("a")])
    file.unlink()
    logs.write([line("b")])
    assert not file.exists()
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    logs.write([line("c")])
    assert texts(reader) == ["c"]
    assert len(warnings) == 1


def test_a_file_that_was_taken_away_is_made_again(logs: SqliteLogs, file: Path) -> None:
    logs.write([line("a")])
    for path in file.parent.glob("journal.logs.db*"):
        path.unlink()
    logs.write([line("b")])
    with LogReader(file) as reader:
        assert texts(reader) == ["b"]


def test_a_reader_finds_a_file_that_is_made_later(logs: SqliteLogs, reader: LogReader, file: Path) -> None:
    file.touch()  # as far as it has come when somebody looks
    assert reader.lines("01R") == []
    logs.write([line("a")])
    assert texts(reader) == ["a"]
