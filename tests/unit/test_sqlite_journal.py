"""The journal's file: what is SQLite's own."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from fanout.errors import JournalError
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_file import MIGRATIONS
from tests.unit.journals import NOW, dump, ended, event, step, writes


def test_a_commit_is_synced_to_the_disk_and_readers_do_not_wait(journal: SqliteJournal) -> None:
    assert (journal._scalar("PRAGMA synchronous"), journal._scalar("PRAGMA journal_mode")) == (2, "wal")


def test_only_its_owner_can_read_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        journal.append_events([event()], NOW)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("journal.db", "journal.db-shm", "journal.db-wal"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_was_written_is_there_when_it_is_opened_again(runs: SqliteJournal, path: Path) -> None:
    runs.commit(writes(ended=[ended(1)], steps=[step(1, "s", "completed")]))
    before = dump(path)
    runs.close()
    with closing(SqliteJournal(path)) as again:
        assert dump(path) == before
        assert (again.last_run_key(), again.routed_to()) == (3, 1)
        assert [each.key for each in again.append_events([event()], NOW)] == [2]


OTHER_TOOL = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM event").fetchone()[0])
connection.close()
"""


def count_with_another_tool(path: Path) -> int:
    result = subprocess.run(
        [sys.executable, "-c", OTHER_TOOL, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(result.stdout)


def test_another_tool_that_looks_does_not_take_the_log_away_from_a_process_that_opened_it_twice(
    journal: SqliteJournal, path: Path
) -> None:
    """To close any descriptor of the file drops SQLite's locks on it; the other would then think to be the last."""
    with closing(SqliteJournal(path)) as second:
        assert count_with_another_tool(path) == 0
        journal.append_events([event()], NOW)
        second.append_events([event()], NOW)
        assert count_with_another_tool(path) == 2


def add_column(table: str) -> str:
    return f"ALTER TABLE {table} ADD COLUMN note TEXT; UPDATE {table} SET note = 'old'; "


def version(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return connection.pragma("user_version")  # type: ignore[no-any-return]


def test_an_older_journal_is_brought_up_to_date_step_by_step(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    runs.close()
    later = (*MIGRATIONS, add_column("event"), add_column("meta"))
    with closing(SqliteJournal(path, migrations=later)) as journal:
        after = dump(path)
        journal.recover()
    for table in ("event", "meta"):
        before[table] = [row | {"note": "old"} for row in before[table]]
    assert (after, version(path)) == (before, len(later))
    with closing(SqliteJournal(path, migrations=later)):
        assert dump(path) == after


def test_every_statement_of_a_migration_is_executed_also_after_one_that_returns_rows(path: Path) -> None:
    script = f"SELECT 1 UNION SELECT 2; {add_column('meta')}"
    with closing(SqliteJournal(path, migrations=(*MIGRATIONS, script))):
        assert dump(path)["meta"] == [{"name": "routed_to", "value": 0, "note": "old"}]


@pytest.mark.parametrize("bad", ["ALTER TABLE missing ADD COLUMN x", "UPDATE meta SET value = NULL", "no SQL at all"])
def test_a_migration_that_fails_leaves_the_older_version_whole(runs: SqliteJournal, path: Path, bad: str) -> None:
    before = dump(path)
    runs.close()
    with pytest.raises(JournalError):
        SqliteJournal(path, migrations=(*MIGRATIONS, add_column("event"), add_column("meta") + bad))
    assert (dump(path), version(path)) == (before, len(MIGRATIONS))
    with closing(SqliteJournal(path)) as journal:
        assert journal.last_run_key() == 3


def test_a_newer_journal_is_refused_and_left_alone(runs: SqliteJournal, path: Path) -> None:
    runs.close()
    later = (*MIGRATIONS, add_column("event"))
    SqliteJournal(path, migrations=later).close()
    before = dump(path)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    known = len(MIGRATIONS)
    assert (raised.value.message, raised.value.hint) == (
        f"the journal `{path}` was written by a newer fanout (its version {known + 1}, known here {known})",
        "upgrade fanout, or name another journal in `[journal] path`",
    )
    assert (dump(path), version(path)) == (before, known + 1)


@pytest.mark.parametrize(
    "content", [b"not a database " * 100, b"{}", b"SQLite format 3\0 and then something else" * 50]
)
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    assert (raised.value.message, raised.value.hint) == (
        f"`{path}` is not a fanout journal",
        "move that file away, or name another in `[journal] path`",
    )
    assert path.read_bytes() == content


def in_a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "journal.db", "can't be opened: File exists"


def below_a_file(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder" / "journal.db", "can't be opened: Not a directory"


def a_folder(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, "can't be used: unable to open database file"


@pytest.mark.parametrize("make", [in_a_file, below_a_file, a_folder])
def test_a_place_where_no_journal_can_be_is_named(tmp_path: Path, make: Callable[[Path], tuple[Path, str]]) -> None:
    path, reason = make(tmp_path)
    with pytest.raises(JournalError) as raised:
        SqliteJournal(path)
    assert raised.value.message == f"the journal `{path}` {reason}"


def test_a_new_journal_waits_for_another_process_that_is_making_it(path: Path) -> None:
    """SQLite asks no busy handler when the log is switched on: the waiting is ours."""
    with closing(apsw.Connection(str(path))) as other:
        other.set_busy_timeout(10_000)  # to commit, it may have to wait for us too
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.05, other.execute, ["COMMIT"])
        release.start()
        with closing(SqliteJournal(path)) as journal:
            assert journal.routed_to() == 0
        release.join()


OPEN_AT_ONCE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from fanout.events import NewEvent
from fanout.journal.sqlite import SqliteJournal

print("ready", flush=True)
sys.stdin.readline()
journal = SqliteJournal(Path(sys.argv[1]))
print(journal.append_events([NewEvent("app/hello", "{}")], 1)[0].key)
"""


def test_processes_that_make_the_same_journal_at_once_share_it(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AT_ONCE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    keys = [each.communicate(timeout=60)[0] for each in processes]
    assert sorted(keys) == ["1\n", "2\n", "3\n", "4\n"]
    assert [each.returncode for each in processes] == [0] * 4
    assert [row["key"] for row in dump(path)["event"]] == [1, 2, 3, 4]


def test_somebody_else_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path)
    assert caught.value.message == f"`{path}` is not a fanout journal"
    assert path.read_bytes() == before


def test_a_disk_is_full_only_where_it_has_a_size(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    for blocks, error in ((0, None), (1_000, JournalError)):
        disk = SimpleNamespace(f_blocks=blocks, f_bavail=0, f_frsize=4096)
        monkeypatch.setattr("fanout.journal.sqlite_file.os.statvfs", lambda _path, disk=disk: disk)
        with nullcontext() if error is None else pytest.raises(error, match="is full"):
            journal.check_room()
