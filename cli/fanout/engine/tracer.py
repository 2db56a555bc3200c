"""The process that exports traces: started here, and told which runs have ended. Nothing waits for it."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fanout.journal.writes import Writes
from fanout.model import RunState

CLOSE_S = 10.0
"""It ends by itself before; on a machine that is busy it may not even have begun."""
MOST_STARTS = 3
NEW_SETTINGS = 0
"""In place of a run's key, which is never 0."""
_KEYS_A_WRITE = select.PIPE_BUF // 8
"""So many are a piece of a pipe that is written whole or not at all."""
_READ_BYTES = 64 * 1024


class Tracer:
    """A process of its own: whatever becomes of it, no run is held up."""

    def __init__(self, config: Path, say: Callable[[str], None]) -> None:
        """`say` gets what there is to tell people, a line at a time."""
        self._config = config
        self._say = say
        self._starts = 0
        self._left_out = 0
        self._begin()

    def _begin(self) -> None:
        self._starts += 1
        read, self._write = os.pipe()
        self._said, written = os.pipe()
        self._rest = b""
        os.set_blocking(self._write, False)
        os.set_blocking(self._said, False)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fanout.tracing", str(read), str(self._config)],
            stdin=subprocess.DEVNULL, stdout=written, stderr=written, pass_fds=(read,),
            process_group=0,  # Ctrl-C is for the engine; this one ends when all is told.
        )  # fmt: skip
        os.close(read)
        os.close(written)

    @property
    def pid(self) -> int:
        return self._process.pid

    def committed(self, writes: Writes) -> None:
        """Tell it of the runs that have ended. What it can't take any more is left out."""
        keys = [ended.run for ended in writes.ended]
        keys += [key for *_, key in writes.cancelled]
        keys += [key for *_, key in writes.skipped]
        if writes.runs:
            keys += [run.key for run in writes.runs if run.state is RunState.SKIPPED]
        if keys:
            self._send(keys)

    def have_new_settings(self) -> None:
        """`fanout.toml` says something else now."""
        self._send([NEW_SETTINGS])

    def _send(self, keys: Sequence[int]) -> None:
        self._hear()
        for at in range(0, len(keys), _KEYS_A_WRITE):
            part = keys[at : at + _KEYS_A_WRITE]
            try:
                os.write(self._write, struct.pack(f"<{len(part)}q", *part))
            except BlockingIOError:
                self._left_out += len(part)
            except BrokenPipeError:
                self._left_out += len(part)
                if self._starts < MOST_STARTS:
                    self._go_on()

    def _go_on(self) -> None:
        """It has died, of what processes die of: another one begins."""
        self._process.kill()
        self._process.wait()
        self._leave()
        self._begin()

    def _hear(self) -> None:
        """What it has said since."""
        with suppress(BlockingIOError):
            while data := os.read(self._said, _READ_BYTES):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._say(line.decode("utf-8", "replace"))

    def _leave(self) -> None:
        self._hear()
        os.close(self._said)
        if self._write >= 0:
            os.close(self._write)

    def close(self) -> None:
        """Let it tell the rest, but not for long."""
        if self._write < 0:
            return
        os.close(self._write)
        self._write = -1
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._leave()
        if self._left_out:
            self._say(f"warning: {self._left_out:,} runs are in no trace: its process could not be told")
