"""Prefect with its server on SQLite: a function is a flow of two tasks whose results are persisted.

The flows are called in threads of this process, which is the fastest way: a deployment starts a process for each.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]
os.environ |= {
    "PREFECT_HOME": str(Path.cwd()),
    "PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}

from driving import FUNCTIONS, drive, page
from prefect import flow, task

_THREADS = 4


@task(persist_result=True)
def one() -> str:
    return page()


@task(persist_result=True)
def two() -> str:
    return page()


@flow
def function(number: int) -> None:  # noqa: ARG001 - as the others have it
    one()
    two()


@flow
def single() -> None:
    one()


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _is_there():
            if server.poll() is not None:
                raise SystemExit("the server has ended")
            time.sleep(0.05)
        with ThreadPoolExecutor(_THREADS) as threads:
            drive(lambda events: _fan_out(threads, events), single)
    finally:
        server.terminate()
        server.wait()


def _is_there() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/health", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _fan_out(threads: ThreadPoolExecutor, events: int) -> None:
    list(threads.map(function, [number for number in range(events) for _ in range(FUNCTIONS)]))


if __name__ == "__main__":
    main()
