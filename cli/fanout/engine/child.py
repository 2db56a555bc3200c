"""A worker's process, as the system sees it: how it begins, and how it has ended."""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress

from fanout.protocol import OUT_OF_MEMORY

EXIT_PATIENCE_S = 0.2


def start(python: str, connection: int, output: int, printed: int) -> int:
    """A worker's process, and its pid."""
    return os.posix_spawn(
        python,
        # -P: the working directory is the user's, and not a place to import our own modules from.
        [python, "-P", "-m", "fanout.worker", str(connection), str(printed)],
        # Sets of text are in the same order in all workers: code between steps that walks over one finds its steps.
        {"PYTHONHASHSEED": "0", **os.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        # Its own group: Ctrl-C in the terminal is for the engine, and a worker's children end with it.
        setpgroup=0,
        setsigdef=[signal.SIGINT, signal.SIGTERM],
    )


def reap(pid: int, patience_s: float = EXIT_PATIENCE_S) -> tuple[int, resource.struct_rusage]:
    """The status of a process that is ending; one that does not end is killed."""
    patience = time.monotonic() + patience_s
    while True:
        reaped, status, usage = os.wait4(pid, os.WNOHANG)
        if reaped:
            return status, usage
        if time.monotonic() > patience:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return status, usage
        time.sleep(0.001)


def explain(status: int) -> str:
    """The end of a process in words, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code == OUT_OF_MEMORY:
        return "ran out of memory"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL (by someone, or by the system for want of memory)"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"
