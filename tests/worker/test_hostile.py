"""A real process in a worker's place that does not keep to the protocol: it is ended and explained, and nothing else is."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fanout.engine.pool import Arrival, Codebase, LocalPool, Lost
from fanout.engine.printed import Printed
from fanout.protocol import Load, LoadFailed, Logged, RunEvicted, frame, logged_encoder

FENCE_S = 20
HEAD = (
    f"#!{sys.executable}\n"
    """
import os, socket, sys, time
link = socket.socket(fileno=int(sys.argv[4]))
printed = int(sys.argv[5])
"""
)
GOOD = bytes(frame([RunEvicted(7)]))
LINE = logged_encoder.encode(Logged("r", None, 0, 5, "stdout", None, "kept")) + b"\n"

IN_A_CHILD = """
if os.fork() == 0:
    os.setsid()
    while link.recv(4096):
        pass
os._exit(3)
"""

Start = Callable[[str], LocalPool]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A pool with one worker, which is this script."""
    pools = []

    def make(script: str) -> LocalPool:
        path = tmp_path / "python"
        path.write_text(HEAD + script)
        path.chmod(0o755)
        pool = LocalPool({"a": Codebase(str(path), Load(str(tmp_path), (), 1))})
        pool.start("a")
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.shut_down()


def until_lost(pool: LocalPool) -> tuple[list[Arrival], Lost]:
    fence, arrivals = time.monotonic() + FENCE_S, list[Arrival]()
    while time.monotonic() < fence:
        arrivals += pool.wait(0.05)
        if arrivals and isinstance(arrivals[-1][1], Lost):
            return arrivals[:-1], arrivals[-1][1]
    raise AssertionError(f"it is still there, and said {arrivals}")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\0\0\x05\x91\x92\x1b\xff\xff", b"\0\0\0\x06\x91\x93\x15\xa1\xff\xc0", b"\0\0\0\0", b"\0\0\0\x01\xc1",
        b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x02\x91\x90", b"\0\0\0\x0c\x91\x92\x1b\xcf" + b"\xff" * 8,
    ],
    ids=["garbage", "not UTF-8", "empty", "no msgpack", "endless", "HTTP", "no message", "a number out of range"],
)  # fmt: skip
def test_nonsense_ends_it_and_what_it_said_before_counts(start: Start, nonsense: bytes) -> None:
    said, lost = until_lost(
        start(
            f"link.sendall({GOOD!r}); time.sleep(0.05); link.sendall({nonsense!r} + {GOOD!r}); time.sleep(0.05); link.sendall({GOOD!r}); time.sleep(60)"
        )
    )
    assert said == [(1, RunEvicted(7))]
    assert "spoke nonsense to the engine" in lost.reason


@pytest.mark.parametrize("cut", [1, 3, 4, len(GOOD) - 1])
def test_the_end_in_the_middle_of_a_frame_is_an_end(start: Start, cut: int) -> None:
    said, lost = until_lost(start(f"link.sendall({GOOD!r} + {GOOD[:cut]!r}); sys.exit(3)"))
    assert said == [(1, RunEvicted(7))]
    assert "exited with code 3" in lost.reason


def test_a_flood_is_taken_in_parts(start: Start) -> None:
    pool = start(f"while True: link.sendall({GOOD * 1000!r})")
    most = rounds = 0
    fence = time.monotonic() + FENCE_S
    while rounds < 20:
        assert time.monotonic() < fence
        came = len(pool.wait(0.05))
        rounds += bool(came)
        most = max(most, came)
    assert most <= 256 * 1024 // len(GOOD) + 1
    pool.kill(1)
    assert "SIGKILL" in until_lost(pool)[1].reason


def test_lines_that_are_none_are_left_out_of_what_is_printed(start: Start) -> None:
    """Found by fuzzing: text that is not UTF-8 ended the engine."""
    garbage = b'["\xff", null, 0, 5, "stdout", null, "x"]\n' + b"\xc3(\n" + b'["r", null, -1, 9e99, 1, 2, 3]\n'
    kept: list[Logged] = []
    pool = start(f"os.write(printed, {garbage + LINE + garbage!r}); sys.exit(0)")
    pool.on_printed = kept.extend
    until_lost(pool)
    assert [line.text for line in kept] == ["kept"]


def test_what_prints_for_ever_does_not_hold_the_engine(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have left the worker's group, and write faster than we read."""
    reads = 0

    def read(_: Printed) -> list[Logged]:
        nonlocal reads
        reads += 1
        assert reads < 1_000, "it is read for ever"
        return [Logged("r", None, 0, 5, "stdout", None, "more")]

    pool = start("time.sleep(0.1); sys.exit(4)")
    monkeypatch.setattr(Printed, "read", read)
    assert "exited with code 4" in until_lost(pool)[1].reason


def test_no_descriptors_are_no_fault_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    pool = LocalPool({"a": Codebase(sys.executable, Load(str(tmp_path), (), 1))})
    for _ in range(5):
        pool.start("a")
    said = [message for _, message in pool.wait(0)]
    assert (
        said == [LoadFailed("a worker can't be started: Too many open files", "it is tried again", is_passing=True)] * 5
    )
    pool.shut_down()
    assert before == 0 or len(list(Path("/proc/self/fd").iterdir())) == before


def test_its_end_is_seen_without_a_pidfd_though_its_child_has_the_socket(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("fanout.engine.pool.os.pidfd_open", refuse, raising=False)
    _, lost = until_lost(start(IN_A_CHILD))
    assert "exited with code 3" in lost.reason
