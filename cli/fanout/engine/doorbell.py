"""Datagrams between an engine and the processes that send or follow: they only ever say "look at the journal".

A lost one costs a fraction of a second, never an event: both sides also look by themselves.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# The system's limit for the path of a socket is 104 bytes on macOS and 108 on Linux.
_MAX_PATH_BYTES = 100
_FOLLOW = b"follow"
_NUDGE = b"nudge"
_FOLLOWER_EXPIRES_S = 5.0


class _Mailbox:
    """A datagram socket with a path of its own, in a folder that only this user can enter."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = str(folder / f"{name}-{os.getpid()}.sock")
        self._own_folder: str | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if _is_too_long(self.path):
                # The folder for temporary files may be too deep as well; this one never is.
                parent = None if not _is_too_long(f"{tempfile.gettempdir()}/fanout-12345678/{name}") else "/tmp"  # noqa: S108 - a folder of our own is made in it
                self._own_folder = tempfile.mkdtemp(prefix="fanout-", dir=parent)
                self.path = str(Path(self._own_folder) / name)
            with suppress(FileNotFoundError):
                Path(self.path).unlink()
            self.socket.bind(self.path)
            self.socket.setblocking(False)
        except BaseException:
            self.close()  # Ctrl-C may come at any moment, and leaves no folder behind.
            raise

    def close(self) -> None:
        self.socket.close()
        with suppress(OSError):
            Path(self.path).unlink()
        if self._own_folder:
            with suppress(OSError):
                Path(self._own_folder).rmdir()


def _is_too_long(path: str) -> bool:
    return len(os.fsencode(path)) > _MAX_PATH_BYTES


def _remove_dead(folder: Path) -> None:
    """Who is killed leaves its socket's path. Who binds one just now may be taken for dead: it looks by itself, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        for path in (*folder.glob("engine-*.sock"), *folder.glob("follow-*.sock")):
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:  # A file that is no socket refuses, too.
                with suppress(OSError):
                    if path.is_socket():
                        path.unlink()
            except OSError:
                continue  # It is too long, or gone.


class Doorbell(_Mailbox):
    """The engine's side."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "engine")
        _remove_dead(folder)
        self._followers: dict[str, float] = {}

    def answer(self) -> bool:
        """Take what has come; True if the journal is worth a look."""
        has_rung = False
        while True:
            try:
                message, sender = self.socket.recvfrom(64)
            except (BlockingIOError, InterruptedError):
                return has_rung
            if message == _FOLLOW and sender:
                self._followers[sender] = time.monotonic() + _FOLLOWER_EXPIRES_S
            has_rung = True

    def ring(self) -> None:
        """Wake this engine itself, from a signal's handler."""
        with suppress(OSError):
            self.socket.sendto(_NUDGE, self.path)

    def tell_followers(self) -> None:
        """Something that people watch has changed."""
        for follower, until in list(self._followers.items()):
            try:
                if until < time.monotonic():
                    raise ConnectionRefusedError
                self.socket.sendto(_NUDGE, follower)
            except (BlockingIOError, InterruptedError):
                pass  # It has unread ones already: it will look.
            except OSError:
                del self._followers[follower]


class Follower(_Mailbox):
    """The side of whoever waits for what an engine does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, f"follow-{os.urandom(4).hex()}")

    def follow(self, address: str) -> bool:
        """Ask the engine to be told, for the next few seconds. It also wakes the engine. False: nobody is there."""
        try:
            self.socket.sendto(_FOLLOW, address)
        except OSError:
            return False
        return True

    def wait(self, timeout_s: float) -> None:
        """Until the engine says something, or the time is over."""
        self.socket.settimeout(timeout_s)
        with suppress(TimeoutError, BlockingIOError):
            self.socket.recv(64)
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(64)


def nudge(address: str) -> None:
    """Tell the engine at this address to look at the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell, suppress(OSError):
        bell.setblocking(False)
        bell.sendto(_NUDGE, address)
