"""Single keys from a terminal, without its echo; the terminal is put back as it was, however that comes."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from types import FrameType
from typing import Any, Self

_READ_BYTES = 64
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?")


class Keyboard:
    """Keys while stdin and stdout are a terminal that is ours; none otherwise. Use it in a `with`."""

    def __init__(self, *, is_wanted: bool = True) -> None:
        self.is_there = is_wanted and sys.stdin.isatty() and sys.stdout.isatty()
        self._fd = sys.stdin.fileno() if self.is_there else -1
        self._before: list[Any] | None = None
        self._is_taken = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.is_there:
            self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._resumed)
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
            self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def read(self) -> str:
        """The keys pressed since the last time; nothing while others have the terminal."""
        if not self.is_there:
            return ""
        if not self._is_ours():
            self._is_taken = False
            return ""
        if not self._is_taken:
            self._take()  # It was begun, or left, in the background; `fg` need not say that it has come back.
        try:
            if not select.select([self._fd], [], [], 0)[0]:
                return ""
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self.is_there = False  # The terminal is gone.
        # Arrows and the like are several characters, none of which was meant.
        return _SEQUENCE.sub(b"", data).decode("ascii", "ignore")

    def _is_ours(self) -> bool:
        """Whoever changes or reads a terminal from the background is stopped."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return False

    def _take(self) -> None:
        if self._is_ours():
            with suppress(termios.error):
                self._before = self._before or termios.tcgetattr(self._fd)
                tty.setcbreak(self._fd, termios.TCSANOW)
                self._is_taken = True

    def _give_back(self) -> None:
        if self._before is not None and self._is_ours():
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # It goes on behind this line.
        signal.signal(signal.SIGTSTP, self._suspend)

    def _resumed(self, _number: int, _frame: FrameType | None) -> None:
        self._take()
