"""What functions print and log while they are tested: it goes where it goes, and a copy is kept."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TextIO

from msgspec.structs import replace

from fanout.protocol import Logged
from fanout.worker import capture, threads


class _Heard:
    """A stream as it is, but that what functions write is also taken."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        capture.take(self._name, text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Hearing:
    """The lines of all runs of a test, with the test's own time."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.lines: list[Logged] = []

    def take(self, lines: list[Logged]) -> None:
        now = self._clock()
        self.lines += [replace(line, at=now) for line in lines]

    def of(self, run_id: str) -> list[Logged]:
        return [line for line in self.lines if line.run_id == run_id]


class _Streams:
    """The process's streams, shared by all tests that run at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._is_logging_heard = False
        self._ours: Any = None
        self._theirs: Any = None
        self._has_level = False

    def install(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            if not self._is_logging_heard:
                self._is_logging_heard = True
                capture.hear_logging()
                threads.carried.append(lambda: partial(_here.set, _here.get()))
                threads.follow()
            root = logging.getLogger()
            self._has_level = root.level == logging.WARNING
            if self._has_level:
                root.setLevel(logging.INFO)
            self._theirs = sys.stdout, sys.stderr
            self._ours = _Heard(sys.stdout, "stdout"), _Heard(sys.stderr, "stderr")
            sys.stdout, sys.stderr = self._ours
            capture.heard = _take

    def remove(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            capture.heard = None
            if (sys.stdout, sys.stderr) == self._ours:
                sys.stdout, sys.stderr = self._theirs
            root = logging.getLogger()
            if self._has_level and root.level == logging.INFO:
                root.setLevel(logging.WARNING)


_streams = _Streams()
_here: ContextVar[Hearing | None] = ContextVar("fanout_hearing", default=None)
"""Whose functions are executed: their threads and tasks have it, too."""


def _take(lines: list[Logged]) -> None:
    hearing = _here.get()
    if hearing is not None:
        hearing.take(lines)


@contextmanager
def heard(hearing: Hearing) -> Iterator[None]:
    """While functions are executed. Unless logging is set up, INFO and above is heard, as in a worker."""
    _streams.install()
    token = _here.set(hearing)
    try:
        yield
    finally:
        _here.reset(token)
        _streams.remove()
