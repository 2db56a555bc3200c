"""Telling the system's own supervisor how we are: the datagrams of sd_notify(3), where somebody listens to them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Supervisor:
    """Who has started us, by the environment; without one, nothing of this does anything. Nothing of it fails."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        # `@` stands for the null byte of an abstract address; other kinds there are (vsock) are for virtual machines.
        if address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every_s = _half_of_watchdog(environ)
        self._next = 0.0

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_one_line(status)}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def look(self) -> None:
        """To be called with each tick: says that we are alive, twice as often as we would be missed."""
        if self._every_s is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            # Nobody there, or too busy to listen: it is not for us to fail of that.
            with suppress(OSError):
                self._socket.sendto(text.encode(), self._address)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _half_of_watchdog(environ: Mapping[str, str]) -> float | None:
    """In seconds. It may be meant for another process, which has passed its environment on."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000
