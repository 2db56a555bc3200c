"""The web process, seen from the one that starts it: its socket, its end, its next beginning.

The socket is bound here and inherited: while the process is started again, connections wait in it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from fanout.config import Config
from fanout.errors import UsageError
from fanout.web.access import access, in_url

_BACKLOG = 1024
_NAP_S = 0.02
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before it is started again: the n-th time in a row."""
_STEADY_S = 60.0
"""It has been well for so long: what was before does not count any more."""
_STOP_PATIENCE_S = 3.0
_READ_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 8 * 1024


def listening_socket(host: str, port: int, patience_s: float = 0.0) -> socket.socket:
    """A socket that listens there. With patience it waits so long for who listens there now to end.

    Raises:
        UsageError: it can't, with what to do about it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UsageError(f"there is no address `{host}`", hint="`--host 127.0.0.1` listens on this machine") from None
    until = time.monotonic() + patience_s
    while True:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise _refusal(error, host, port) from None
            time.sleep(_NAP_S)
        else:
            return listener


def _refusal(error: OSError, host: str, port: int) -> UsageError:
    place = f"`{in_url(host)}:{port}`"
    match error.errno:
        case errno.EADDRINUSE:
            return UsageError(
                f"{place} is in use by another program", hint="`--port 0` takes any port that is free; or stop that one"
            )
        case errno.EACCES:
            return UsageError(f"{place} can't be listened on: permission denied", hint="take a port above 1023")
        case errno.EADDRNOTAVAIL:
            return UsageError(
                f"{place} can't be listened on: this machine does not have that address",
                hint="`--host 127.0.0.1` listens on this machine",
            )
        case _:
            return UsageError(f"{place} can't be listened on: {error.strerror}")


class WebProcess:
    """Lives from its making to `close`, however often the process itself has to be started again."""

    def __init__(
        self, config: Config, *, host: str, port: int, on_line: Callable[[str], None], patience_s: float = 0.0
    ) -> None:
        """Listen there, and start the process. `on_line` is called with what there is to say, in `look`.

        Raises:
            UsageError: the address can't be had, or not without a token.
        """
        access(os.environ, host, port)  # Refuses before anything is bound.
        self._config = config
        self._host = host
        self._on_line = on_line
        self._socket = listening_socket(host, port, patience_s)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self._start_at: float | None = None
        self._unread = b""
        self._is_renewing = False
        self._told = b""
        self._life = self._alive = -1
        try:
            self._start()
        except BaseException:
            self._socket.close()
            raise

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where people find the site; from this machine, if it listens at all of its addresses."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared, not bound
        return f"http://{in_url(host)}:{self.port}"

    @property
    def link(self) -> str:
        """What opens the site in a browser; the token is in it, if there is one."""
        token = access(os.environ, self._host, self.port).token
        return self.url if token is None else f"{self.url}/?token={quote(token, safe='')}"

    @property
    def pid(self) -> int | None:
        """None while it is not there."""
        return None if self._process is None else self._process.pid

    def look(self) -> None:
        """Pass on what the process has said, and start it again if it has ended."""
        if self._process is not None:
            self._read()
            if self._process.poll() is not None:
                self._note_end(self._process.returncode)
        if self._process is None and self._start_at is not None and time.monotonic() >= self._start_at:
            try:
                self._start()
            except OSError as error:  # There are no descriptors or no memory: that may pass.
                again = self._again(time.monotonic())
                self._on_line(f"the web process can't be started: {error.strerror}; it is tried again {again}")

    def tell(self, problem: str | None) -> None:
        """What `/health` is to say that is wrong with the engine; None: nothing is."""
        self._told = b"%s\n" % " ".join((problem or "").split()).encode()
        with suppress(OSError):
            os.write(self._alive, self._told)

    def renew(self, config: Config) -> None:
        """Have a process with the settings as they are now. Connections wait in the socket meanwhile."""
        self._config = config
        if self._process is not None:
            self._is_renewing = True
            self._end_life()

    def _begin_life(self) -> None:
        """A pipe for each process: what one before it has not read is not for this one."""
        self._end_life()
        # The process reads its end, which ends when nobody has this one any more: however we die.
        self._life, self._alive = os.pipe()
        os.set_blocking(self._alive, False)  # Who does not read holds nobody up.

    def _end_life(self) -> None:
        ends = self._alive, self._life
        self._life = self._alive = -1
        for descriptor in ends:
            with suppress(OSError):
                os.close(descriptor)

    def close(self) -> None:
        """End the process: what it was asked to store is stored and answered first."""
        self._start_at = None
        self._end_life()
        self._socket.close()
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._read()
        self._forget()

    def _start(self) -> None:
        self._started_at, self._start_at = time.monotonic(), None
        self._begin_life()
        self._process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "fanout.web", "--config", str(self._config.path),
                "--journal", str(self._config.journal), "--host", self._host,
                "--socket", str(self._socket.fileno()), "--life", str(self._life),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(self._socket.fileno(), self._life),
            start_new_session=True,  # A terminal's Ctrl-C is for us: we end it when there is nothing more to say.
        )  # fmt: skip
        if self._process.stderr is not None:
            os.set_blocking(self._process.stderr.fileno(), False)
        if self._told:
            os.write(self._alive, self._told)

    def _read(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        while True:
            try:
                read = os.read(self._process.stderr.fileno(), _READ_BYTES)
            except BlockingIOError:
                return
            if not read:
                return
            *lines, self._unread = (self._unread + read).split(b"\n")
            if len(self._unread) > _LONGEST_LINE_BYTES:
                lines, self._unread = [*lines, self._unread], b""
            for line in lines:
                self._on_line(line.decode(errors="replace"))

    def _note_end(self, code: int) -> None:
        self._read()
        self._forget()
        now = time.monotonic()
        if self._is_renewing:
            self._is_renewing, self._start_at = False, now
            return
        self._on_line(f"the web process {_ended(code)}; it is started again {self._again(now)}")

    def _again(self, now: float) -> str:
        """After a failure: when it is started again, in words."""
        self._failures = 1 if now - self._started_at > _STEADY_S else self._failures + 1
        pause = _PAUSES_S[min(self._failures, len(_PAUSES_S)) - 1]
        self._start_at = now + pause
        return f"in {pause:g} s" if pause else "at once"

    def _forget(self) -> None:
        if self._unread:
            self._on_line(self._unread.decode(errors="replace"))
        self._unread = b""
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
        self._process = None


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
