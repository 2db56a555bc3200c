"""How a client finds the engine of its journal, and sees that there is none any more."""

from __future__ import annotations

from pathlib import Path

from fanout.client import Connection
from fanout.engine.doorbell import Doorbell
from fanout.engine.lock import EngineLock
from fanout.journal.sqlite import SqliteJournal


def test_a_client_rings_the_engine_that_is_there_now(tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    SqliteJournal(journal).close()
    folders = [tmp_path / name for name in ("first", "second")]
    with Connection(journal) as client:
        assert not client.ring()
        for folder in folders:
            folder.mkdir()
            lock, bell = EngineLock(journal), Doorbell(folder)
            lock.announce(bell.path)
            for _ in range(3):
                assert client.ring()
                assert bell.answer()
            bell.close()
            lock.release()
            # At once, though it has just been there.
            assert not client.ring()
