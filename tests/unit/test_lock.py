from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.engine.lock import EngineLock, Holder, holder
from fanout.errors import JournalBusyError, JournalError

HINT = "one engine at a time can run a journal; stop that one first"

HOLD = """
import sys
from pathlib import Path
from fanout.engine.lock import EngineLock

lock = EngineLock(Path(sys.argv[1]))
if len(sys.argv) > 2:
    lock.announce(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""

TRY = """
import sys
from pathlib import Path
from fanout.engine.lock import EngineLock
from fanout.errors import JournalBusyError

try:
    EngineLock(Path(sys.argv[1]))
except JournalBusyError as error:
    print(error.message)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@contextmanager
def held_elsewhere(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that has taken the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(journal: Path) -> tuple[str, str | None]:
    with pytest.raises(JournalBusyError) as raised:
        EngineLock(journal)
    return raised.value.message, raised.value.hint


def test_a_second_engine_is_refused_and_told_the_pid_of_the_first(journal: Path) -> None:
    lock = EngineLock(journal)
    lock.announce("/run/bell")
    message = f"the journal `{journal}` is in use by the engine with pid {os.getpid()}"
    assert refusal(journal) == (message, HINT)
    result = subprocess.run(
        [sys.executable, "-c", TRY, str(journal)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (result.stdout, result.stderr) == (f"{message}\n", "")
    lock.release()


def test_an_engine_that_has_not_announced_itself_yet_is_one_all_the_same(journal: Path) -> None:
    lock = EngineLock(journal)
    assert refusal(journal) == (f"the journal `{journal}` is in use", HINT)
    assert holder(journal) == Holder(0, "")
    lock.release()


def test_a_refusal_leaves_the_lock_as_it_was(journal: Path) -> None:
    lock = EngineLock(journal)
    lock.announce("/run/bell")
    for _ in range(3):
        refusal(journal)
    assert holder(journal) == Holder(os.getpid(), "/run/bell")
    lock.release()


def test_a_released_lock_can_be_taken_again(journal: Path) -> None:
    for _ in range(3):
        lock = EngineLock(journal)
        lock.announce("/run/bell")
        assert holder(journal) == Holder(os.getpid(), "/run/bell")
        lock.release()
        assert holder(journal) is None


def test_nobody_holds_what_nobody_has_ever_run(journal: Path) -> None:
    assert holder(journal) is None
    assert holder(journal.parent / "missing" / "journal.db") is None
    assert list(journal.parent.iterdir()) == []


def test_two_journals_have_two_locks(tmp_path: Path) -> None:
    one, other = EngineLock(tmp_path / "one.db"), EngineLock(tmp_path / "other.db")
    one.release()
    other.release()


def test_a_killed_engine_holds_nothing_although_its_pid_is_still_there(journal: Path) -> None:
    with held_elsewhere(journal, "/run/its-bell") as process:
        assert holder(journal) == Holder(process.pid, "/run/its-bell")
        assert refusal(journal) == (f"the journal `{journal}` is in use by the engine with pid {process.pid}", HINT)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        assert holder(journal) is None
        assert journal.with_name("journal.db.lock").read_text() == f"{process.pid}\n/run/its-bell\n"
        lock = EngineLock(journal)
    assert holder(journal) == Holder(0, "")
    lock.announce("/x")
    assert holder(journal) == Holder(os.getpid(), "/x")
    lock.release()


def test_asking_who_holds_it_never_keeps_an_engine_out(journal: Path) -> None:
    """Also where a killed engine has left its pid in the file."""
    lock_file = journal.with_name("journal.db.lock")
    lock_file.touch()
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            holder(journal)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for round_ in range(100):
            if round_ % 2:
                lock_file.write_text("1\n/a-dead-engines/bell\n")
            EngineLock(journal).release()
    finally:
        is_over.set()
        for asker in askers:
            asker.join()


@pytest.mark.parametrize("left", ["", "1\n/a-dead-engines/bell\n"])
def test_an_engine_waits_for_an_asker_that_is_slow(journal: Path, left: str) -> None:
    lock_file = journal.with_name("journal.db.lock")
    lock_file.write_text(left)
    file = os.open(lock_file, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_SH)
    slow = threading.Timer(0.02, os.close, [file])
    slow.start()
    lock = EngineLock(journal)
    slow.join()
    assert holder(journal) == Holder(0, "")
    lock.release()


def test_two_engines_that_wait_for_a_slow_asker_do_not_keep_each_other_out(journal: Path) -> None:
    for _ in range(10):
        lock_file = journal.with_name("journal.db.lock")
        lock_file.touch()
        file = os.open(lock_file, os.O_RDWR)
        fcntl.flock(file, fcntl.LOCK_SH)
        results: list[EngineLock | JournalBusyError] = []

        def engine(results: list[EngineLock | JournalBusyError] = results) -> None:
            try:
                results.append(EngineLock(journal))
            except JournalBusyError as error:
                results.append(error)

        engines = [threading.Thread(target=engine) for _ in range(2)]
        for each in engines:
            each.start()
        os.close(file)
        for each in engines:
            each.join()
        taken = [each for each in results if isinstance(each, EngineLock)]
        assert (len(taken), len(results)) == (1, 2)
        taken[0].release()


def test_of_many_that_start_at_once_exactly_one_gets_it(journal: Path) -> None:
    start = threading.Barrier(8)
    taken: list[EngineLock] = []
    refused: list[JournalBusyError] = []

    def engine() -> None:
        start.wait()
        try:
            taken.append(EngineLock(journal))
        except JournalBusyError as error:
            refused.append(error)

    engines = [threading.Thread(target=engine) for _ in range(8)]
    for each in engines:
        each.start()
    for each in engines:
        each.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()


def test_only_its_owner_can_read_who_runs_it(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "folder" / "journal.db"
    lock = EngineLock(journal)
    assert oct(journal.with_name("journal.db.lock").stat().st_mode & 0o777) == oct(0o600)
    assert oct(journal.parent.stat().st_mode & 0o777) == oct(0o700)
    lock.release()


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = tmp_path / "file" / "journal.db"
    with pytest.raises(JournalError) as raised:
        EngineLock(journal)
    assert type(raised.value) is JournalError
    assert raised.value.message == f"the journal `{journal}` can't be locked: File exists"
    assert raised.value.hint == "`[journal] path` in `fanout.toml` puts it where it can be written"
    with pytest.raises(JournalError) as raised:
        EngineLock(tmp_path / "file" / "below" / "journal.db")
    assert raised.value.message == f"the journal `{tmp_path}/file/below/journal.db` can't be locked: Not a directory"


def test_it_is_known_whether_the_one_before_has_let_it_go(journal: Path) -> None:
    with held_elsewhere(journal, "/an/address") as process:
        process.kill()
        process.wait()
    lock = EngineLock(journal)
    assert lock.follows_a_death
    lock.announce("/an/address")
    lock.release()
    lock = EngineLock(journal)
    assert not lock.follows_a_death
    lock.release()
