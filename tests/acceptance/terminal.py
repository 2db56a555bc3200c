"""A command at a terminal of its own, as people have it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.acceptance.conftest import COMMAND, FENCE_S, Project, until


def _own_terminal() -> None:
    """What is started is in the foreground of its terminal, as from a shell."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command at a terminal of its own, and all that it shows."""

    def __init__(self, project: Project, *arguments: str, columns: int = 100, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        kept = project.environment() | {"TERM": "xterm-256color"} | environment
        del kept["COLUMNS"]
        self._modes = termios.tcgetattr(theirs)
        self._theirs = theirs  # Kept, so that its modes can be looked at when the command is over.
        self._shown = b""
        self._is_there = True
        self.process = subprocess.Popen(
            [COMMAND, *arguments], cwd=project.root, env=kept, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=_own_terminal,  # noqa: PLW1509 - it only calls the system
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while data := self._more():
            self._shown += data
            if b"\0end\0" in self._shown:
                return

    def _more(self) -> bytes:
        try:
            return os.read(self._ours, 65_536)
        except OSError:
            return b""  # Nobody has its other end any more.

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def saw(self, pattern: str) -> None:
        try:
            until(lambda: re.search(pattern, self.shown) is not None, pattern)
        except AssertionError:
            raise AssertionError(f"never: {pattern}\n{self.shown}") from None

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def is_restored(self) -> bool:
        return termios.tcgetattr(self._theirs) == self._modes

    def end(self) -> int:
        code = self.process.wait(FENCE_S)
        if self._reader.is_alive():
            os.write(self._theirs, b"\0end\0")  # What was written before has been read, then.
            self._reader.join()
        return code

    def hang_up(self) -> None:
        """As if its window were closed."""
        os.write(self._theirs, b"\0end\0")
        self._reader.join()
        for descriptor in (self._theirs, self._ours):
            os.close(descriptor)
        self._is_there = False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._is_there:
            self.end()
            os.close(self._ours)
            os.close(self._theirs)


@contextmanager
def watching(project: Project, *arguments: str, **options: Any) -> Iterator[Terminal]:
    terminal = Terminal(project, "dev", "watch", *arguments, **options)
    try:
        yield terminal
    finally:
        terminal.close()
