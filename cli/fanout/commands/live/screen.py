"""Where a live log is written: by a thread of its own, so that a terminal that is stopped stops nothing else."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

_MOST_WAITING = 500
_PATIENCE_S = 1.0
_CLEAR = "\x1b[2J\x1b[3J\x1b[H"


class Screen:
    """Takes lines for stdout and stderr, and writes them in their order; what nobody reads is left out, and counted."""

    def __init__(self, *, out: int = 1, err: int = 2) -> None:
        self._descriptors = (out, err)
        self._queue: queue.Queue[tuple[int, str] | None] = queue.Queue(_MOST_WAITING)
        self._left_out = 0
        self.hide: Callable[[str], str] = str
        """What becomes of talk before it is written."""
        self.is_gone = False
        """Nobody reads any more."""
        self._thread = threading.Thread(target=self._write, name="screen", daemon=True)
        self._thread.start()

    def print_lines(self, lines: Sequence[str]) -> None:
        """Lines of data, to stdout."""
        self._put(0, lines)

    def say(self, line: str, *, is_for_people_here: bool = False) -> None:
        """Talk, to stderr. What is for the people here has nothing that is to be hidden from them."""
        self._put(1, (line if is_for_people_here else self.hide(line),))

    def clear(self) -> None:
        self._put(0, (_CLEAR,), end="")

    def _put(self, which: int, lines: Sequence[str], end: str = "\n") -> None:
        if not lines or self.is_gone:
            return
        text = end.join(lines) + end
        if self._left_out:
            text = f"... {self._left_out:,} lines left out: nobody has read them\n{text}" if which else text
        try:
            self._queue.put_nowait((which, text))
        except queue.Full:
            self._left_out += len(lines)
        else:
            self._left_out = 0 if which else self._left_out

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            which, text = item
            encoding = (sys.stderr if which else sys.stdout).encoding or "utf-8"
            data = memoryview(text.encode(encoding, "backslashreplace"))
            try:
                while data:
                    data = data[os.write(self._descriptors[which], data) :]
            except BlockingIOError:
                continue  # Somebody has made the terminal one that does not wait: these lines are lost.
            except OSError:
                self.is_gone = True

    def close(self) -> None:
        """Write what is there, but wait for nobody who does not read."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=_PATIENCE_S)
        self._thread.join(_PATIENCE_S)
