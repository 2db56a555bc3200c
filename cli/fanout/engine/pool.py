"""The pool of worker processes: starts them, carries messages, and says at once when and why one is gone.

It knows nothing of runs.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple, Protocol

import msgspec

from fanout.engine.child import EXIT_PATIENCE_S, explain, reap, start
from fanout.engine.printed import Listener, Printed
from fanout.protocol import (
    FrameError,
    FrameReader,
    Load,
    LoadFailed,
    Logged,
    ShutDown,
    ToEngine,
    ToWorker,
    frame,
    to_engine_decoder,
)

_RECEIVE_BYTES = 256 * 1024
_TAIL_LINES = 40
_LONGEST_IN_TAIL = 2_000
_LONGEST_LINE_BYTES = 16 * 1024
_READS_AT_END = 32
"""More than a pipe holds: what still writes to one after its worker's end has left the worker's group."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
_NONSENSE = (msgspec.MsgspecError, UnicodeDecodeError, FrameError)
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Lost(NamedTuple):
    """A worker has ended. `reason` is a sentence's rest: "was killed by SIGSEGV"."""

    reason: str
    tail: tuple[str, ...]
    app: str = ""


Arrival = tuple[int, "ToEngine | Lost"]


class Pool(Protocol):
    """What the engine asks of whatever executes: workers are numbers, messages are plain data."""

    @property
    def apps(self) -> Collection[str]:
        """The codebases that it has workers for."""

    def app_of(self, worker: int) -> str:
        """Whose code this worker has, or has had."""

    def workers_of(self, app: str) -> list[int]:
        """Those of this app that are there, or of which is still to be said that they could not be started."""

    def start(self, app: str) -> int:
        """Start a worker of this app, with the code as it is now."""

    def stop(self, worker: int) -> None:
        """Ask this worker, which has nothing to do, to exit."""

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None: ...

    def wait(self, timeout_s: float) -> list[Arrival]:
        """What has come, at the latest after the timeout."""

    def kill(self, worker: int) -> None:
        """End this worker now; that it is lost comes with the next arrivals."""

    def shut_down(self) -> None:
        """Ask all workers to exit, and end those that don't."""


class Codebase(NamedTuple):
    """What a worker executes, and with which interpreter."""

    python: str
    load: Load


class _Worker:
    __slots__ = ("app", "number", "out", "output", "pid", "pidfd", "pipe", "printed", "reader", "socket", "tail")

    def __init__(self, number: int, app: str, pid: int, connection: socket.socket, pipe: int, printed: Printed) -> None:
        self.number = number
        self.app = app
        self.pid = pid
        self.socket = connection
        self.pipe = pipe
        self.printed = printed
        self.pidfd = -1
        self.reader = FrameReader()
        self.out = bytearray()
        self.output = b""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)


class LocalPool:
    """Worker processes on this machine, each `python -m fanout.worker` in a process group of its own."""

    def __init__(
        self, codebases: Mapping[str, Codebase], *, on_output: Callable[[str], None] = lambda _line: None
    ) -> None:
        self.on_output = on_output
        """Called with each line that a worker prints."""
        self.hide: Callable[[str], str] = str
        """What becomes of whatever workers print before anybody gets to see it."""
        self.on_printed: Listener = lambda _lines: None
        """Called with what functions have printed and logged, before `wait` returns what those said afterwards."""
        self.patience_s = EXIT_PATIENCE_S
        """How long workers may take to exit when all are to."""
        self._printed: list[Logged] = []
        self._codebases = codebases
        self._app_of: dict[int, str] = {}
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._last_number = 0
        self._unborn: list[Arrival] = []
        # One for all: a new one for each receive would be asked from the system and given back every time.
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._next_look = 0.0
        # A death that no pidfd tells of (where a child of the worker's kept the socket open) is looked for.
        self._has_pidfds = hasattr(os, "pidfd_open")

    def listen(self, connection: socket.socket) -> None:
        """Let `wait` also return when this socket has something to read."""
        self._selector.register(connection, selectors.EVENT_READ, None)

    @property
    def apps(self) -> Collection[str]:
        return self._codebases.keys()

    def app_of(self, worker: int) -> str:
        return self._app_of[worker]

    def workers_of(self, app: str) -> list[int]:
        unborn = [number for number, _ in self._unborn if self._app_of[number] == app]
        return [*(worker.number for worker in self._workers.values() if worker.app == app), *unborn]

    def have(self, codebases: Mapping[str, Codebase]) -> None:
        """From now on workers are started with these. Those that are there go on with what they have."""
        self._codebases = codebases

    def stop(self, worker: int) -> None:
        self.send(worker, [ShutDown()])

    def start(self, app: str) -> int:
        codebase = self._codebases[app]
        self._last_number += 1
        self._app_of[self._last_number] = app
        try:
            worker = _born(self._last_number, app, codebase.python)
        except OSError as error:
            self._unborn.append((self._last_number, _stillborn(codebase.python, error)))
            return self._last_number
        self._workers[worker.number] = worker
        self._selector.register(worker.socket, selectors.EVENT_READ, (worker, self._read_messages))
        self._selector.register(worker.pipe, selectors.EVENT_READ, (worker, self._read_output))
        self._selector.register(worker.printed.fd, selectors.EVENT_READ, (worker, self._read_printed))
        if hasattr(os, "pidfd_open"):
            try:
                worker.pidfd = os.pidfd_open(worker.pid)
                self._selector.register(worker.pidfd, selectors.EVENT_READ, (worker, self._bury))
            except OSError:
                self._has_pidfds = False
        self.send(worker.number, [codebase.load])
        return worker.number

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        there = self._workers.get(worker)
        if there is None:
            return  # It has just died; what was meant for it is requeued by whoever hears of that.
        there.out += frame(messages)
        self._write(there)

    def _write(self, worker: _Worker) -> None:
        try:
            while worker.out:
                del worker.out[: worker.socket.send(worker.out)]
        except (BlockingIOError, InterruptedError):
            self._selector.modify(
                worker.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, (worker, self._read_messages)
            )
        except OSError:
            worker.out.clear()  # Its end will be read.

    def wait(self, timeout_s: float) -> list[Arrival]:
        arrivals, self._unborn = self._unborn, []
        for key, events in self._selector.select(0 if arrivals else timeout_s):
            if key.data is None:
                continue
            worker, read = key.data
            if events & selectors.EVENT_WRITE:
                self._selector.modify(worker.socket, selectors.EVENT_READ, key.data)
                self._write(worker)
            if events & selectors.EVENT_READ and worker.number in self._workers:
                read(worker, arrivals)
        if not self._has_pidfds and time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + 1
            for worker in list(self._workers.values()):
                if os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    self._bury(worker, arrivals)
        self._tell_printed()
        return arrivals

    def _read_messages(self, worker: _Worker, arrivals: list[Arrival]) -> None:
        try:
            data = self._buffer[: worker.socket.recv_into(self._buffer)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = self._buffer[:0]
        if not data:
            self._bury(worker, arrivals)
            return
        number = worker.number
        try:
            for body in worker.reader.feed(data):
                arrivals += [(number, message) for message in to_engine_decoder.decode(body)]
        except _NONSENSE:
            # Something else writes to our socket: nothing it says can be believed.
            self._bury(worker, arrivals, "spoke nonsense to the engine")
            return
        self._read_printed(worker)  # What was printed before these messages were sent is there by now.

    def _read_printed(self, worker: _Worker, _arrivals: list[Arrival] | None = None) -> bool:
        """Whether there was something."""
        if worker.printed.fd < 0:
            return False
        lines = worker.printed.read()
        if lines is None:
            self._selector.unregister(worker.printed.fd)
            worker.printed.close()
        else:
            self._printed += lines
        return bool(lines)

    def _tell_printed(self) -> None:
        if self._printed:
            lines, self._printed = self._printed, []
            if self.hide is not str:
                lines = [msgspec.structs.replace(line, text=self.hide(line.text)) for line in lines]
            self.on_printed(lines)

    def _read_output(self, worker: _Worker, _arrivals: list[Arrival] | None = None) -> None:
        try:
            data = os.read(worker.pipe, _RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = -1
            return
        *lines, worker.output = (worker.output + data).split(b"\n")
        if len(worker.output) > _LONGEST_LINE_BYTES:
            lines, worker.output = [*lines, worker.output], b""
        for line in lines:
            for begin in range(0, max(1, len(line)), _LONGEST_LINE_BYTES):
                self._tell_output(worker, line[begin : begin + _LONGEST_LINE_BYTES])

    def _tell_output(self, worker: _Worker, line: bytes) -> None:
        text = self.hide(line.decode("utf-8", "replace"))
        worker.tail.append(text if len(text) <= _LONGEST_IN_TAIL else f"{text[:_LONGEST_IN_TAIL]}...")
        self.on_output(text)

    def _read_last_output(self, worker: _Worker) -> None:
        if worker.pipe >= 0:
            self._read_output(worker)
        if worker.output:
            # A line without an end is a line too, now that nothing more can come.
            line, worker.output = worker.output, b""
            self._tell_output(worker, line)

    def _bury(
        self, worker: _Worker, arrivals: list[Arrival], reason: str = "", patience_s: float = EXIT_PATIENCE_S
    ) -> None:
        """Read what it still said, reap it, end what it started, and say why it is gone."""
        status, usage = reap(worker.pid, patience_s)
        del self._workers[worker.number]
        if not reason:
            self._read_rest(worker, arrivals)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        for _ in range(_READS_AT_END):
            if not self._read_printed(worker):
                break
        self._read_last_output(worker)
        self._forget(worker)
        why = f"{reason or explain(status)}, peak memory {usage.ru_maxrss * _RSS_UNIT / 2**20:,.0f} MB"
        said = f"worker {worker.number} (pid {worker.pid}) {why}"
        arrivals.append((worker.number, Lost(said, tuple(worker.tail), worker.app)))

    def _read_rest(self, worker: _Worker, arrivals: list[Arrival]) -> None:
        """What it sent before it died still counts: a step that it reported was really done."""
        with suppress(OSError, *_NONSENSE):
            while data := worker.socket.recv(_RECEIVE_BYTES):
                for body in worker.reader.feed(data):
                    arrivals += [(worker.number, message) for message in to_engine_decoder.decode(body)]

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.socket)
        worker.socket.close()
        if worker.pidfd >= 0:
            self._selector.unregister(worker.pidfd)
            os.close(worker.pidfd)
        if worker.pipe >= 0:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
        if worker.printed.fd >= 0:
            self._selector.unregister(worker.printed.fd)
            worker.printed.close()

    def kill(self, worker: int) -> None:
        there = self._workers.get(worker)
        if there is not None:
            with suppress(ProcessLookupError):
                os.killpg(there.pid, signal.SIGKILL)

    def shut_down(self) -> None:
        for worker in list(self._workers.values()):
            self.send(worker.number, [ShutDown()])
            with suppress(OSError):
                worker.socket.shutdown(socket.SHUT_WR)
        until = time.monotonic() + self.patience_s
        for worker in list(self._workers.values()):
            self._bury(worker, [], patience_s=max(EXIT_PATIENCE_S, until - time.monotonic()))
        self._tell_printed()
        self._selector.close()


def _born(number: int, app: str, python: str) -> _Worker:
    """A worker with a process.

    Raises:
        OSError: there is none, and nothing is left of it.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        here, there = socket.socketpair()
        ours.callback(here.close)
        theirs.callback(there.close)
        (read, write), (printed, print_to) = _pipe(ours, theirs), _pipe(ours, theirs)
        for fd in (there.fileno(), print_to):
            os.set_inheritable(fd, True)
        pid = start(python, there.fileno(), write, print_to)
        ours.pop_all()
    here.setblocking(False)
    os.set_blocking(read, False)
    return _Worker(number, app, pid, here, read, Printed(printed))


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    return read, write


def _stillborn(python: str, error: OSError) -> LoadFailed:
    if error.errno in _NO_ROOM:
        return LoadFailed(f"a worker can't be started: {error.strerror}", "it is tried again", is_passing=True)
    text = f"the interpreter `{python}` can't be started: {error.strerror or error}"
    return LoadFailed(text, "make its environment, or mend `python` in fanout.toml")
