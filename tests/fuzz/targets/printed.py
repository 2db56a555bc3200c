"""The pipe by which a worker says what its functions print: whatever is in it, lines that can be kept come out."""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from fanout.engine.printed import Printed
from fanout.journal.sqlite_logs import SqliteLogs

SEEDS = (
    b'["01J", "s", 0, 1700000000000, "stdout", null, "hello"]\n', b'["01J", null, 1, 5, "info", "app", "\\u0000\\ud83d\\ude00"]\n[]\n',
    b'["01J", null, 0, 1e3, "stdout", null, "x"]\n["', b'\xff\n["a"]\n', b'["a", null, -1, 99999999999999999999, "x", null, "y"]\n',
    b"[" * 200 + b"\n",
)  # fmt: skip
_FOLDER = Path(mkdtemp(prefix="fanout-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_warnings: list[str] = []
_logs = SqliteLogs(_FOLDER / "journal.logs.db", warn=_warnings.append)


def check(data: bytes) -> None:
    read, write = os.pipe()
    printed = Printed(read)
    try:
        middle = len(data) // 2
        for piece in (data[:middle], data[middle:]):
            os.write(write, piece)
            _logs.write(printed.read() or [])
            assert not _warnings, _warnings
        os.close(write)
        write = -1
        while (lines := printed.read()) is not None:
            _logs.write(lines)
        assert not _warnings, _warnings
    finally:
        printed.close()
        if write >= 0:
            os.close(write)
