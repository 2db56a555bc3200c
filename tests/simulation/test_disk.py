"""The simulated disk: what SQLite has synced is there after a power cut, and what it has not may be gone."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from tests.simulation.disk import Disk, Trouble


def opened(path: Path, synchronous: str) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = wal").fetchall()
    connection.execute(f"PRAGMA synchronous = {synchronous}; CREATE TABLE IF NOT EXISTS t (x)").fetchall()
    return connection


def left_after_power_cut(path: Path, disk: Disk, connection: apsw.Connection, seed: int) -> int:
    log = path.with_name(f"{path.name}-wal")
    files = {each: disk.after_power_cut(each, Random(seed)) for each in (path, log)}
    connection.close()
    for each, content in files.items():
        each.write_bytes(content)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    again = apsw.Connection(str(path))
    found = again.execute("SELECT count(*) FROM t").fetchall()
    again.close()
    count: Any = found[0][0]
    return int(count)


@pytest.mark.parametrize(("synchronous", "expected"), [("full", {2}), ("normal", {1, 2})])
def test_what_was_synced_is_there_after_a_power_cut(tmp_path: Path, synchronous: str, expected: set[int]) -> None:
    left = set()
    for seed in range(8):
        disk, path = Disk(), tmp_path / f"{seed}.db"
        with disk.in_use():
            connection = opened(path, synchronous)
            connection.execute("BEGIN; INSERT INTO t VALUES (1); COMMIT; PRAGMA wal_checkpoint").fetchall()
            connection.execute("INSERT INTO t VALUES (2)")
            left.add(left_after_power_cut(path, disk, connection, seed))
    assert left == expected


@pytest.mark.parametrize("trouble", [*Trouble])
def test_a_disk_that_fails_does_so_until_it_is_mended(tmp_path: Path, trouble: Trouble) -> None:
    disk = Disk()
    with disk.in_use():
        connection = opened(tmp_path / "t.db", "full")
        disk.will_fail(trouble, 0)
        for _ in range(2):
            with pytest.raises(apsw.FullError if trouble is Trouble.FULL else apsw.IOError):
                connection.execute("INSERT INTO t VALUES (1)")
        disk.mend()
        connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT x FROM t WHERE x = 2").fetchall() == [(2,)]
        assert disk.failures == 2
        connection.close()
