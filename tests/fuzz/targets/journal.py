"""A journal whose bytes have changed: whoever reads it says so in plain words, or does not notice. Nobody hangs.

The first byte says who reads, then four bytes each say which byte is changed, and how. It ends there if the file does.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import random
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from fanout.commands import app
from fanout.engine.loop import Engine
from fanout.engine.settings import Settings
from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.journal.sqlite import SqliteJournal
from tests.fuzz.hostile import BEGINNING, Bell, HostilePool, Scene
from tests.fuzz.targets.worker import Choices, play

_SHARED = "/dev/shm" if Path("/dev/shm").is_dir() else None
_ROOT = Path(mkdtemp(prefix="fanout-fuzz-", dir=_SHARED))
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)
_MOST_CHANGES = 24
_TICKS = 40
_READERS: tuple[tuple[str, ...], ...] = (
    (), ("runs",), ("runs", "--json"), ("events", "--json"), ("events",), ("stats",), ("functions",), ("journal", "info"),
    ("journal", "verify"), ("trace", "{event}"), ("trace", "{event}", "--json"), ("runs", "{run}"), ("runs", "{run}", "--json"),
    ("why", "{run}"), ("logs", "{run}"), ("journal", "export"), ("replay", "--dry-run", "--failed"), ("cron", "list"), ("graph",),
    ("journal", "prune", "--completed", "1h"), ("send", "--name", "x", "--no-wait"), ("cancel", "{run}"),
)  # fmt: skip


def _made() -> tuple[bytes, str, str]:
    """A journal with a bit of everything, and the ids of a run and of an event in it."""
    with TemporaryDirectory(dir=_SHARED) as folder:
        path = Path(folder, "journal.db")
        for seed in range(6):
            scene = Scene(path, runs=4)
            play(scene, Choices(random.Random(seed).randbytes(200)))
            ((run, event),) = scene.rows(
                "SELECT run.id, event.id FROM run JOIN event ON event.key = run.event WHERE event.key > 0 LIMIT 1"
            )
            scene.journal.close()
        return path.read_bytes(), run, event


_JOURNAL, _RUN, _EVENT = _made()
_PAGES = len(_JOURNAL) // 4096
SEEDS = tuple(
    bytes([reader, *(b for page in pages for b in (page % 256, page // 256, offset % 251, 1 + offset % 255))])
    for reader in range(len(_READERS))
    for pages, offset in (((0, 1, 2), reader * 7), (tuple(range(0, _PAGES, 3)), reader * 31 + 100))
)


def check(data: bytes) -> None:
    path = _ROOT / ".fanout" / "journal.db"
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.iterdir():
        old.unlink()
    path.write_bytes(_changed(data[1:]))
    reader = _READERS[data[0] % len(_READERS)] if data else ()
    if reader:
        _command([part.format(run=_RUN, event=_EVENT) for part in reader])
    else:
        _engine(path)


def _changed(data: bytes) -> bytes:
    """Each change is (page, page's high byte, place in it, xor); a page beyond the last one ends the file there."""
    journal = bytearray(_JOURNAL)
    for first in range(0, min(len(data), 4 * _MOST_CHANGES) - 3, 4):
        low, high, place, change = data[first : first + 4]
        page = low + 256 * (high & 3)
        # Most of what decides is at the beginning of a page, where the places of its cells are; the rest is at its end.
        offset = place if high & 4 else 4095 - place * 16 + (high >> 4)
        if page < _PAGES:
            journal[page * 4096 + offset] ^= change
        elif high & 8:
            del journal[len(journal) * change // 256 :]
            return bytes(journal)
    return bytes(journal)


def _engine(path: Path) -> None:
    pool, now = HostilePool(lambda _: True), BEGINNING + 10**9
    try:
        journal = SqliteJournal(path)
    except JournalError:
        return
    with contextlib.suppress(JournalError):
        try:
            with journal.readable():
                engine = Engine(
                    journal,
                    pool,
                    Bell(),
                    Settings(processes=1, slots=4),
                    clock=lambda: now,
                    chance=random.Random(1).random,
                )
                for tick in range(_TICKS):
                    now += 1_000
                    engine.tick()
                    if tick == _TICKS // 2:
                        journal.append_events([NewEvent("go", "{}")], now)
        finally:
            journal.close()


class _Out(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")


def _command(arguments: list[str]) -> None:
    (_ROOT / "fanout.toml").write_text('[app]\nid = "test"\nfunctions = ["work"]\n')
    before = Path.cwd()
    os.chdir(_ROOT)
    out, err = _Out(), _Out()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            app.run(arguments)
    except SystemExit as ended:
        assert ended.code in {0, 1, 2, 3, 4, None}, ended.code  # noqa: PT017 - as it is said to a shell
    finally:
        os.chdir(before)
    sys.stdout.flush()
    err.flush()
    assert b"Traceback" not in err.buffer.getvalue()  # type: ignore[attr-defined]
