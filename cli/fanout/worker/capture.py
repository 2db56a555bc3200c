"""What functions print and log, told apart by run, step and attempt.

It goes to where it would go anyway, and what belongs to a run also to the engine. That has a pipe for it: a line that
was written stays in there whatever happens to this process, and doesn't hold up what steps have to say.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from fanout.protocol import Logged, logged_encoder
from fanout.worker.branches import Branch, branch, inside

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from fanout.worker.execution import Execution

MOST_BYTES = 8 * 1024
"""A longer line is cut."""
_PIPE_BYTES = 64 * 1024


class Speaker(NamedTuple):
    """Whose lines they are."""

    branch: Branch
    step: str | None
    attempt: int

    @property
    def run_id(self) -> str:
        return self.branch.execution.start.run_id


class _Place(NamedTuple):
    """Where a line is being put together. Threads and branches that print at once don't share one."""

    speaker: Speaker
    thread: int
    stream: str


class _Begun(NamedTuple):
    """A line as far as it has come: its beginning, and its length."""

    text: str
    length: int


class Pipe:
    """The way to the engine. Any thread may write."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # Reentrant: the collector may run code that prints in the middle of anything.
        self._lock = threading.RLock()
        os.set_inheritable(fd, False)  # What a child process prints goes where it goes.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self._fd, self._lock = -1, threading.RLock()

    def send(self, data: bytes) -> None:
        """Write all of it; wait if the engine is behind, as any writing to a pipe does."""
        rest = memoryview(data)
        with self._lock:
            while rest and self._fd >= 0:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except OSError:
                    self._fd = -1  # The code has closed what it did not open. It can do without.


unfinished: dict[_Place, _Begun] = {}
_pipe: Pipe | None = None
heard: Callable[[list[Logged]], None] | None = None
"""Gets the lines instead of the engine, where functions are tested."""
_is_in_handler: ContextVar[bool] = ContextVar("fanout_in_handler", default=False)
"""The code's own log handlers print what has been taken already."""
_started_by: ContextVar[Speaker | None] = ContextVar("fanout_started_by", default=None)
"""In threads that are not ours."""


class Tee(io.TextIOWrapper):
    """stdout or stderr as it was, but that what is written in a run is also taken."""

    def __init__(self, stream: io.TextIOWrapper, name: str) -> None:
        encoding, errors = stream.encoding, stream.errors
        super().__init__(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)
        self.mode = "w"  # type: ignore[misc] # as theirs, which Python sets too
        self._name = name

    def write(self, text: str, /) -> int:
        written = super().write(text)
        take(self._name, text)
        return written


def install(fd: int) -> None:
    """From now on; what is printed outside of runs is left alone."""
    global _pipe  # noqa: PLW0603 - a process has one stdout, too
    _pipe = Pipe(fd)
    sys.stdout = sys.__stdout__ = Tee(sys.stdout, "stdout")  # type: ignore[arg-type,misc] # in a worker it is one
    sys.stderr = sys.__stderr__ = Tee(sys.stderr, "stderr")  # type: ignore[arg-type,misc]


def finish(execution: Execution, step: str | None = None) -> None:
    """Lines of the execution, or of this step of it, that have no end have come to it now."""
    for place in list(unfinished):
        if place.speaker.branch.execution is execution and step in (None, place.speaker.step):
            line = unfinished.pop(place, None)
            if line is not None:
                _send([_printed(place, line)])


# Whose it is.


def speaker() -> Speaker | None:
    """Whose code this is; None if it is no run's, or that of one that is over."""
    here = branch.get()
    if here is not None:
        there = inside.get()
        step = there.key if there is not None and there.claim == here.execution.claim else None
        return Speaker(here, step, _attempt(here.execution, step))
    started = _started_by.get()
    if started is None:
        return None
    execution = started.branch.execution
    return started if execution.desk.executions.get(execution.claim) is execution else None


def carry() -> Callable[[], object]:
    """Who speaks here; what is returned makes it so where it is called, in a thread that was started here."""
    return partial(_started_by.set, speaker())


def _attempt(execution: Execution, step: str | None) -> int:
    if step is None:
        return execution.start.attempt
    recorded = execution.recorded.get(step)
    return 0 if recorded is None else recorded.attempts


# What is printed.


def take(stream: str, text: str) -> None:
    """Somebody has written this to `stdout` or `stderr`; outside of runs it is nobody's."""
    here = speaker()
    if here is not None and not _is_in_handler.get():
        _take(here, stream, text)


def _take(here: Speaker, stream: str, text: str) -> None:
    place = _Place(here, threading.get_ident(), stream)
    if "\n" not in text:
        _add(place, text)
        return
    first, *whole = text.split("\n")
    _add(place, first)
    rest = whole.pop()
    _send([_printed(place, unfinished.pop(place, _Begun("", 0))), *(_printed(place, _begun(line)) for line in whole)])
    _add(place, rest)


def _begun(text: str) -> _Begun:
    return _Begun(text[:MOST_BYTES], len(text))


def _add(place: _Place, text: str) -> None:
    if not text:
        return
    begun = unfinished.get(place)
    if begun is None:
        unfinished[place] = _begun(text)
    else:
        room = MOST_BYTES - len(begun.text)
        unfinished[place] = _Begun(begun.text + text[:room] if room else begun.text, begun.length + len(text))


def _printed(place: _Place, line: _Begun) -> Logged:
    text = _cut(line.text, line.length).removesuffix("\r")
    at = time.time_ns() // 1_000_000
    return Logged(place.speaker.run_id, place.speaker.step, place.speaker.attempt, at, place.stream, None, text)


def _cut(text: str, length: int) -> str:
    """The text, that has `length` characters in whole, if it is not too long; else its beginning, and a mark."""
    if length <= MOST_BYTES // 4:
        return text  # A character has four bytes at most.
    data = text[:MOST_BYTES].encode("utf-8", "backslashreplace")
    if length <= MOST_BYTES and len(data) <= MOST_BYTES:
        return text
    return data[:MOST_BYTES].decode("utf-8", "ignore") + f" ... (cut: it has {length:,} characters)"


def _send(lines: list[Logged]) -> None:
    if heard is not None:
        heard(lines)
        return
    if _pipe is None:
        return
    data = bytearray()
    for line in lines:
        data += _encoded(line)
        if len(data) >= _PIPE_BYTES:
            _pipe.send(bytes(data))
            data.clear()
    if data:
        _pipe.send(bytes(data))


def _encoded(line: Logged) -> bytes:
    try:
        return logged_encoder.encode(line) + b"\n"
    except UnicodeEncodeError:  # Halves of characters: bytes of a file's name that are no text, most likely.
        whole = replace(line, text=_whole(line.text), logger=None if line.logger is None else _whole(line.logger))
        return logged_encoder.encode(whole) + b"\n"


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# What is logged.


def hear_logging() -> None:
    """Take what is logged in runs, before the code's own handlers get it.

    No handler of ours is added: with one, `logging.basicConfig()` in a function would do nothing. Unless the code has
    set up logging, INFO and above is heard.
    """
    import logging  # lazy: the engine knows the functions by now

    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(logging.INFO)
    pass_on = logging.Logger.callHandlers
    format_exception = logging.Formatter().formatException

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        here = speaker()
        if here is None or _is_in_handler.get():
            pass_on(logger, record)
            return
        token = _is_in_handler.set(True)
        try:
            try:
                text = _message(record, format_exception)
            except Exception as error:  # noqa: BLE001 - boundary: how the code's own values are shown
                text = f"a message that can't be shown: {type(error).__name__}"
            at, level = int(record.created * 1000), record.levelname.lower()
            text = _cut(text, len(text))
            _send([Logged(here.run_id, here.step, here.attempt, at, level, record.name, text)])
            pass_on(logger, record)
        finally:
            _is_in_handler.reset(token)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign,assignment]


def _message(record: logging.LogRecord, format_exception: Callable[[Any], str]) -> str:
    parts = [record.getMessage()]
    if record.exc_info:
        parts.append(format_exception(record.exc_info))
    if record.stack_info:
        parts.append(str(record.stack_info))
    return "\n".join(parts)
