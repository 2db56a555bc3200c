"""The keys of runs that have ended, as the engine sends them: taken at once, so that it never has to wait."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

NEW_SETTINGS = 0
"""In place of a key: `fanout.toml` says something else now."""
MOST_WAITING = 500_000
RUNS_A_BATCH = 64
GATHER_S = 0.5
"""How long the first run of a batch waits for others."""
_READ_BYTES = 64 * 1024
_KEY = struct.Struct("<q")


class Inbox:
    def __init__(self, fd: int, *, on_news: Callable[[], None], on_last: Callable[[], None]) -> None:
        """Both are called in a thread: when there are new settings, and when no more can come."""
        self._fd = fd
        self._on_news = on_news
        self._on_last = on_last
        self._keys: SimpleQueue[int | None] = SimpleQueue()
        self._is_over = False
        self.dropped = 0
        threading.Thread(target=self._read, daemon=True).start()

    def __len__(self) -> int:
        return max(0, self._keys.qsize() - self._is_over)  # The last thing in it is that it is over.

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._fd, _READ_BYTES):
            rest += data
            whole = len(rest) - len(rest) % _KEY.size
            for (key,) in _KEY.iter_unpack(rest[:whole]):
                if key == NEW_SETTINGS:
                    self._on_news()
                elif self._keys.qsize() < MOST_WAITING:
                    self._keys.put(key)
                else:
                    self.dropped += 1
            rest = rest[whole:]
        self._is_over = True
        self._keys.put(None)
        self._on_last()

    def batch(self) -> tuple[list[int], bool]:
        """The next keys, and whether these are the last."""
        first = self._keys.get()
        keys: list[int] = []
        until = time.monotonic() + GATHER_S
        while first is not None:
            keys.append(first)
            if len(keys) >= RUNS_A_BATCH:
                return keys, False
            try:
                first = self._keys.get(timeout=max(0, until - time.monotonic()))
            except Empty:
                return keys, False
        return keys, True
