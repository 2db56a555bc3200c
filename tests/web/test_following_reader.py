"""What looks at a journal for long looks at the one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.journal.sqlite_appender import SqliteAppender
from fanout.journal.sqlite_connection import open_connection
from fanout.journal.sqlite_reader import JournalReader
from fanout.web import following_reader
from fanout.web.following_reader import FollowingReader


def _with_event(path: Path, name: str) -> Path:
    appender = SqliteAppender(path)
    appender.append_events([NewEvent(name, "{}")], 1)
    appender.close()
    return path


def test_a_journal_that_is_replaced_while_it_is_opened_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = _with_event(tmp_path / "journal.db", "one"), _with_event(tmp_path / "other.db", "other")

    def open_slowly(path: Path, **options: Any) -> JournalReader:
        reader = JournalReader(path, **options)
        if other.exists():
            other.replace(path)
        return reader

    monkeypatch.setattr(following_reader, "JournalReader", open_slowly)
    following = FollowingReader(path, redact=())
    following.reader()
    assert [event.name for event in following.reader().events_by_key([1])] == ["other"]
    following.close()


def test_nothing_is_written_to_a_journal_that_was_replaced_while_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = _with_event(tmp_path / "journal.db", "one"), _with_event(tmp_path / "other.db", "other")

    def open_slowly(*arguments: Any) -> Any:
        connection = open_connection(*arguments)
        connection.execute("SELECT 1 FROM event").fetchall()  # From here on it has the log open, too.
        other.replace(path)
        return connection

    monkeypatch.setattr("fanout.journal.sqlite_file.open_connection", open_slowly)
    appender = SqliteAppender(path)
    with pytest.raises(JournalError, match="another file has been put in the place of"):
        appender.append_events([NewEvent("lost", "{}")], 2)
    appender.close()
