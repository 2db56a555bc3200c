"""The pipe by which a worker says what its functions print and log."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import msgspec

from fanout.protocol import Logged, logged_decoder

Listener = Callable[[list[Logged]], None]
_READ_BYTES = 64 * 1024
"""So much at a time, which is what a pipe holds: a worker that prints more waits for us, as we don't for it."""


class Printed:
    """The reading end. A line that can't be read is left out: code may write to descriptors that are not its own."""

    __slots__ = ("_rest", "fd")

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._rest = b""

    def close(self) -> None:
        os.close(self.fd)
        self.fd = -1

    def read(self) -> list[Logged] | None:
        """What has come; None if nothing more can."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return None
        lines, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._rest = (self._rest + data)[-_READ_BYTES:]
            return []
        lines, self._rest = self._rest + lines, rest
        try:
            return logged_decoder.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _readable(lines.split(b"\n"))


def _readable(lines: list[bytes]) -> list[Logged]:
    found = []
    for line in lines:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(logged_decoder.decode(line))
    return found
