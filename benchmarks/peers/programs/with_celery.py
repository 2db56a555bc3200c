"""Celery with Redis for both its broker and its results: a function is a chain of two tasks.

Its guide on optimizing: for many short tasks a prefetch multiplier of 64 or more; a process for each core.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from celery import Celery, chain
from driving import FUNCTIONS, drive, page

_SOCKET = Path.cwd() / "redis.sock"
app = Celery("with_celery", broker=f"redis+socket://{_SOCKET}", backend=f"redis+socket://{_SOCKET}")
app.conf.worker_prefetch_multiplier = 128
app.conf.broker_connection_retry_on_startup = True


@app.task
def one(_number: int) -> str:
    return page()


@app.task
def two(_before: str) -> str:
    return page()


def main() -> None:
    redis = _start("redis-server", "--port", "0", "--unixsocket", str(_SOCKET))
    while not _SOCKET.exists():
        time.sleep(0.002)
    worker = _start(
        sys.executable, "-m", "celery", "-A", "with_celery", "worker", "-P", "prefork", "-c", "2", "-l", "ERROR",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    )  # fmt: skip
    try:
        drive(_fan_out, lambda: _take(one.delay(0)))
    finally:
        for process in (worker, redis):
            process.terminate()
            process.wait()


def _start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )


def _fan_out(events: int) -> None:
    function = chain(one.s(0), two.s())
    for result in [function.apply_async() for _ in range(events) for _ in range(FUNCTIONS)]:
        _take(result)


def _take(result: object) -> None:
    if result.get(timeout=600, interval=0.001) != page():
        raise SystemExit("something is missing")


if __name__ == "__main__":
    main()
