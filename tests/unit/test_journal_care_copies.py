"""Backups, exports and sizes of a journal that is in use, and how far its log may grow."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from fanout.core.retention import Keep, cutoffs
from fanout.errors import FanoutError, JournalError, NotFoundError, UsageError
from fanout.journal import sqlite_backup
from fanout.journal.pruning import Pruned
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_backup import back_up
from fanout.journal.sqlite_care import CareReader
from fanout.model import RunState
from tests.unit.filled import NOW, Filled, event_id, filled, run_id
from tests.unit.journals import dump, event
from tests.unit.test_journal_care_checks import whole

MB = 2**20


# Backups.


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if not each.name.startswith("journal.db"))


def test_a_backup_is_the_journal_as_it_was_in_one_file_of_its_owner(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with filled(tmp_path) as made:
        whole(made)
        size = back_up(made.path, copy, replaces=False)
        assert dump(copy) == dump(made.path)
    assert (size, stat.S_IMODE(copy.stat().st_mode)) == (copy.stat().st_size, 0o600)
    for suffix in ("-wal", "-shm"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
    assert names(tmp_path) == ["copy.db"]
    with closing(SqliteJournal(copy)) as again:
        assert again.last_run_key() == 13
        again.append_events([event()], NOW)


def test_a_backup_has_one_moment_whatever_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_backup, "_PAGES_A_STEP", 5)
    with filled(tmp_path) as made:
        whole(made)
        before = dump(made.path)
        steps = 0

        def write(_left: int, _of: int) -> None:
            nonlocal steps
            steps += 1
            with closing(SqliteJournal(made.path)) as journal:
                journal.append_events([event(data='"' + "x" * 20_000 + '"')], NOW)

        back_up(made.path, tmp_path / "copy.db", replaces=False, tell=write)
        assert steps > 5
        assert dump(tmp_path / "copy.db") == before


def test_a_backup_replaces_a_file_only_if_it_is_told_to(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    with filled(tmp_path) as made:
        with pytest.raises(UsageError) as raised:
            back_up(made.path, copy, replaces=False)
        assert (raised.value.message, raised.value.hint) == (f"`{copy}` is there already", "`--force` replaces it")
        assert copy.read_text() == "mine"
        back_up(made.path, copy, replaces=True)
        with CareReader(copy):
            pass
        with pytest.raises(UsageError):
            back_up(made.path, made.path, replaces=True)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_backup_that_fails_leaves_nothing_and_takes_nothing_away(tmp_path: Path, replaces: bool) -> None:
    copy = tmp_path / "copy.db"
    if replaces:
        copy.write_text("mine")

    def fail(_left: int, _of: int) -> None:
        raise KeyboardInterrupt

    with filled(tmp_path) as made:
        whole(made)
        with pytest.raises(KeyboardInterrupt):
            back_up(made.path, copy, replaces=replaces, tell=fail)
        made.event(99)
    assert names(tmp_path) == (["copy.db"] if replaces else [])
    assert not replaces or copy.read_text() == "mine"


def test_a_damaged_journal_is_not_copied(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        for key in range(1, 100):
            made.event(key, data='"' + "x" * 3_000 + '"')
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = made.path
    content = bytearray(path.read_bytes())
    middle = content.rindex(b"x" * 2_000) // 4096 * 4096
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(JournalError) as raised:
        back_up(path, tmp_path / "copy.db", replaces=False)
    assert raised.value.hint == "`fanout journal verify` says more about it"
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["gone/copy.db", "."])
def test_where_no_file_can_be_it_says_so(tmp_path: Path, where: str) -> None:
    with filled(tmp_path) as made, pytest.raises(FanoutError) as raised:
        back_up(made.path, tmp_path / where, replaces=True)
    assert "can't be written" in raised.value.message


def test_without_a_journal_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        back_up(tmp_path / "none.db", tmp_path / "copy.db", replaces=False)
    assert names(tmp_path) == []


# Exports.


def exported(made: Filled, since: int = 0, function: str | None = None) -> list[dict[str, object]]:
    with CareReader(made.path) as reader:
        return [json.loads(line) for line in reader.export(since=since, function=function)]


def test_an_export_has_everything_line_by_line(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        made.event(1, "app/go", data='{"n":1}')
        made.run(1, "f", 1, "failed", reason="crashed")
        made.step(1, "a", output='{"x":[1]}')
        made.step(1, "b", "failed", position=1)
        made.failure(1, "b", "ValueError", "no\nway")
        lines = exported(made)
    assert lines == [
        {
            "kind": "event", "id": event_id(1), "name": "app/go", "ts": NOW, "data": {"n": 1}, "user": None, "v": None,
            "received_at": NOW, "sent_by": None,
        },
        {
            "kind": "run", "id": run_id(1), "function": "f", "event_id": event_id(1), "event_ids": [],
            "state": "failed", "reason": "crashed", "failed_attempts": 0, "crashes": 0, "max_attempts": 5,
            "queued_at": NOW, "due_at": None, "started_at": NOW + 1, "ended_at": NOW + 9, "output": None,
            "replay_of": None, "parent": None, "parent_step": None, "item": None, "item_key": None,
        },
        {
            "kind": "step", "run_id": run_id(1), "name": "a", "step_kind": "run", "state": "completed", "branch": "",
            "attempts": 1, "started_at": NOW + 2, "ended_at": NOW + 5, "due_at": None, "output": {"x": [1]},
        },
        {
            "kind": "step", "run_id": run_id(1), "name": "b", "step_kind": "run", "state": "failed", "branch": "",
            "attempts": 1, "started_at": NOW + 2, "ended_at": NOW + 5, "due_at": None, "output": None,
        },
        {
            "kind": "failure", "run_id": run_id(1), "step": "b", "attempt": 0, "type": "ValueError",
            "message": "no\nway", "traceback": "", "at": NOW + 5,
        },
    ]  # fmt: skip


def test_an_export_can_be_of_one_function_and_of_what_is_new(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        for key in range(1, 500):
            made.event(key, received_at=NOW + key)
            made.run(key, "even" if key % 2 == 0 else "odd", key, queued_at=NOW + key)
        made.insert("run_event", run=2, position=1, event=2)
        made.insert("run_event", run=2, position=2, event=3)
        found = [(line["kind"], line["id"]) for line in exported(made, function="even")]
        assert found == [
            *[("event", event_id(key)) for key in range(1, 500) if key % 2 == 0 or key == 3],
            *[("run", run_id(key)) for key in range(2, 500, 2)],
        ]
        assert [line["id"] for line in exported(made, since=NOW + 499)] == [event_id(499), run_id(499)]
        assert exported(made, function="none") == []


def test_an_empty_journal_exports_nothing(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        assert exported(made) == []


# Sizes.


def test_what_is_said_of_a_journal(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        whole(made)
        with CareReader(made.path) as reader:
            found = reader.information(cutoffs(Keep(0, 0), NOW + 10**8))
    assert found.runs == {
        RunState.COMPLETED: 5, RunState.FAILED: 1, RunState.QUEUED: 2, RunState.RUNNING: 2, RunState.WAITING: 3,
    }  # fmt: skip
    assert (found.oldest_run, found.newest_run) == ((run_id(1), NOW), (run_id(13), NOW))
    assert (found.rows["event"], found.rows["run"], found.rows["step"]) == (4, 13, 4)
    assert found.file_bytes + found.log_bytes > 50_000
    assert found.is_shrinkable
    assert found.prunable.runs > 0


def test_of_an_empty_journal_there_is_little_to_say(tmp_path: Path) -> None:
    with filled(tmp_path) as made, CareReader(made.path) as reader:
        found = reader.information(cutoffs(Keep(None, None), NOW))
    assert (found.runs, found.oldest_run, found.newest_run, found.prunable) == ({}, None, None, Pruned())


# The log.


def write(journal: SqliteJournal, megabytes: int) -> None:
    for _ in range(megabytes):
        journal.append_events([event(data='"' + "x" * (MB - 4_096) + '"')], NOW)


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_the_log_does_not_grow_while_others_read_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        for _ in range(10):
            write(journal, 5)
            with CareReader(path) as reader:
                assert not [each for each in reader.findings() if each.number]
                lines = reader.export(since=0, function=None)
                next(lines)
                # The portion is read; whoever takes the lines may take his time.
                write(journal, 5)
        assert log_size(path) < 20 * MB


def test_after_a_long_reader_the_log_is_used_again_and_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(SqliteJournal(path)) as journal:
        write(journal, 1)
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM event").fetchall()
            write(journal, 90)
            assert log_size(path) > 80 * MB
            other.execute("ROLLBACK")
        write(journal, 10)
        assert log_size(path) <= 64 * MB
