"""The process that exports traces: started here, and told which runs have ended. Nothing waits for it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from fanout.journal.writes import Writes
from fanout.model import RunState

CLOSE_S = 10.0
"""It ends by itself before; on a machine that is busy it may not even have begun."""
_KEYS_A_WRITE = 512
"""So many are a piece of a pipe that is written whole or not at all."""


class Tracer:
    """A process of its own: whatever becomes of it, no run is held up."""

    def __init__(self, config: Path) -> None:
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fanout.tracing", str(read), str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(read,),
            process_group=0,  # Ctrl-C is for the engine; this one ends when all is told.
        )  # fmt: skip
        os.close(read)

    def committed(self, writes: Writes) -> None:
        """Tell it of the runs that have ended. What it can't take any more is left out."""
        keys = [ended.run for ended in writes.ended]
        keys += [key for *_, key in writes.cancelled]
        keys += [key for *_, key in writes.skipped]
        if writes.runs:
            keys += [run.key for run in writes.runs if run.state is RunState.SKIPPED]
        for at in range(0, len(keys), _KEYS_A_WRITE):
            part = keys[at : at + _KEYS_A_WRITE]
            with suppress(OSError):
                os.write(self._write, struct.pack(f"<{len(part)}q", *part))

    def close(self) -> None:
        """Let it tell the rest, but not for long."""
        os.close(self._write)
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
