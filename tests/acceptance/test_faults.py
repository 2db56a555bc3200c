"""What the machine does to a `fanout serve`: it says what is wrong, loses nothing, and goes on when that is over."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Project, until
from .failing import CODE, Served, run_states, served


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own, of memory; only root may make one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    ) if sys.platform == "linux" and os.getuid() == 0 else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip(f"a small disk can't be made here: {'that takes root on Linux' if made is None else made.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def test_a_full_disk_is_told_of_and_waited_for(project: Project) -> None:
    folder, closed = project.journal.parent, project.root / "closed"
    with small_disk(folder, 4), served(project) as it:
        assert it.send(0)
        it.until_done()
        closed.touch()
        assert it.send(1)
        until(lambda: "begun 1" in project.notes(), "a step is at work")
        filler = fill(folder)
        while it.send(len(it.accepted) + len(it.refused)):
            pass
        assert it.health()[0] == 503
        closed.unlink()  # Now the engine has something to write, too.
        until(lambda: bool(it.errors()), "it says so")
        status, health = it.health()
        assert (status, health["status"], health["problem"]) == (503, "failing", "the disk of the journal is full")
        filler.unlink()
        until(it.is_well, "it is well again")
        assert it.send(100)
        it.until_done()
        # The step at work when the disk was full may have run again: nobody was told that it had ended.
        assert set(it.effects().values()) - {it.effects()[1]} == {1}
        until(lambda: set(run_states(project)) == {"completed"}, "all runs have ended")
    said = f"error: the disk of the journal `{project.journal}` is full; going on as soon as it can be used again"
    assert it.errors() == [said]
    assert [line for line in it.said if line.startswith("the journal can be used again")]


def test_a_read_only_disk_is_one_clear_line(project: Project) -> None:
    folder = project.journal.parent
    project.write(CODE)
    with small_disk(folder, 4):
        assert project.send("app/go", {"n": 1}).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for command in (("serve", "--no-web"), ("send", "--name", "app/go", "--data", '{"n": 2}')):
            result = project.fanout(*command)
            assert result.code == 4
            assert result.err.splitlines() == [
                f"error: the journal `{project.journal}` can't be locked: Read-only file system",
                "hint: `[journal] path` in `fanout.toml` puts it where it can be written",
            ]
        assert len(project.fanout("runs", "--json").out.splitlines()) == 1
        assert (
            project.fanout("runs").code == project.fanout("stats").code == project.fanout("journal", "verify").code == 0
        )


def test_a_journal_that_is_removed_is_told_of_and_a_new_one_begun(project: Project) -> None:
    with served(project) as it:
        assert it.send(0)
        it.until_done()
        shutil.rmtree(project.journal.parent)
        until(lambda: bool(it.errors()), "it says so")
        until(it.is_well, "it is well again")
        assert it.send(1)
        it.until_done()
        until(lambda: set(run_states(project)) == {"completed"}, "the run has ended")
        assert project.send("app/go", {"n": 2}).code == 0
    said = f"error: somebody has removed the journal `{project.journal}` while it was in use"
    assert it.errors() == [f"{said}; going on as soon as it can be used again"]
    assert it.effects() == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_asked_to_stop_stops_also_when_the_journal_fails_then(project: Project, number: signal.Signals) -> None:
    with served(project) as it:
        assert it.send(0)
        it.until_done()
        os.kill(it.process.pid, signal.SIGSTOP)
        shutil.rmtree(project.journal.parent)
        os.kill(it.process.pid, number)
        os.kill(it.process.pid, signal.SIGCONT)
        assert it.process.wait(15) == (0 if number is signal.SIGTERM else 130)
    assert it.said[-1] == "stopped; what was left goes on next time"
    # It may also stop before it looks at the journal again.
    assert it.errors() in ([], [f"error: somebody has removed the journal `{project.journal}` while it was in use"])


def test_a_journal_that_is_replaced_is_told_of_and_the_new_one_is_run(project: Project, tmp_path: Path) -> None:
    folder, other = project.journal.parent, tmp_path / "other"
    project.write(CODE)
    assert project.fanout("send", "--name", "app/go", "--data", '{"n": 7}', "--no-wait").code == 0
    folder.rename(other)
    with served(project) as it:
        assert it.send(0)
        it.until_done()
        folder.rename(tmp_path / "before")
        other.rename(folder)
        it.accepted.append(7)
        it.until_done()
        until(it.is_well, "it is well again")
        assert it.send(1)
        it.until_done()
        until(lambda: run_states(project) == {"completed": 2}, "the runs of this one have ended")
        assert project.fanout("journal", "verify").code == 0
    assert len(it.errors()) == 1, it.said
    assert "while it was in use" in it.errors()[0]
    assert it.effects() == {0: 1, 1: 1, 7: 1}


def test_a_backup_that_is_moved_over_the_journal_is_what_there_is_then(project: Project, tmp_path: Path) -> None:
    """The log of the old one was left: SQLite took it for the new one's, and the backup was overwritten by it."""
    project.write(CODE)
    for number in (70, 71):
        assert project.send("app/go", {"n": number}).code == 0
    assert project.fanout("journal", "backup", str(tmp_path / "backup.db")).code == 0
    shutil.rmtree(project.journal.parent)
    with served(project) as it:
        assert all(it.send(number) for number in range(10))
        it.until_done()
        (tmp_path / "backup.db").rename(project.journal)
        until(lambda: bool(it.errors()), "it says so")
        until(it.is_well, "it is well again")
        assert it.send(10)
        it.until_done()
        until(lambda: run_states(project) == {"completed": 3}, "the runs of the backup, and one more")
        assert project.fanout("journal", "verify").code == 0
        # What the old one had only in its log is still there, for whoever still has the rest of it.
        assert (project.journal.parent / "journal.db.before-wal").stat().st_size > 0


def test_without_descriptors_it_goes_on_with_what_it_has(project: Project) -> None:
    with served(project) as it:
        assert it.send(0)
        it.until_done()
        (web,) = children(it, "fanout.web")
        with most_descriptors(it.process.pid, 5):
            for worker in workers(it):
                os.kill(worker, signal.SIGKILL)
            until(lambda: len(it.said) > 1, "it says so")
            assert it.send(1)
        host, port = it.url.removeprefix("http://").split(":")
        with most_descriptors(web, len(list(Path(f"/proc/{web}/fd").iterdir())) + 3):
            crowd = [socket.create_connection((host, int(port))) for _ in range(30)]
            # Those that it has no descriptor for it ends at once.
            until(lambda: any(is_ended(each) for each in crowd), "it has turned some away")
            for each in crowd:
                each.close()
        until(it.is_well, "it answers again")
        assert it.send(2)
        it.until_done()
        assert children(it, "fanout.web") == [web]
    assert it.said == [
        "warning: a worker can't be started: Too many open files", "hint: it is tried again",
        "stopped; what was left goes on next time",
    ]  # fmt: skip
    assert it.effects() == {0: 1, 1: 1, 2: 1}


@contextmanager
def most_descriptors(pid: int, number: int) -> Iterator[None]:
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def is_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def children(it: Served, module: str) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(it.process.pid), "-f", module], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def workers(it: Served) -> list[int]:
    return children(it, "fanout.worker")


def test_what_is_stopped_for_a_while_goes_on(project: Project) -> None:
    closed = project.root / "closed"
    with served(project) as it:
        for number, stopped in enumerate(([it.process.pid], workers(it), children(it, "fanout.web"))):
            closed.touch()
            assert it.send(100 * number)
            until(lambda number=number: f"begun {100 * number}" in project.notes(), "a step is at work")  # type: ignore[misc]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            closed.unlink()
            if number < 2:  # Without the web process nobody can send.
                assert all(it.send(100 * number + each) for each in range(1, 30))
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            assert it.send(100 * number + 50)
            it.until_done()
        until(lambda: set(run_states(project)) == {"completed"}, "all runs have ended")
    assert it.errors() == []
    assert set(it.effects().values()) == {1}
