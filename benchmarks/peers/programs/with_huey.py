"""Huey with SQLite: a function is a chain of two tasks. Its guide: processes for work in Python, one for each core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from driving import FUNCTIONS, drive, page
from huey import SqliteHuey

# WAL is its default. With its five seconds of patience, results are lost on a machine that does something else as well.
huey = SqliteHuey(filename="huey.db", fsync=True, timeout=60)


@huey.task()
def one(_number: int) -> str:
    return page()


@huey.task()
def two(_before: str) -> str:
    return page()


def main() -> None:
    consumer = subprocess.Popen(
        # It looks for work after a pause: the shortest that its guide has any use for.
        [str(Path(sys.executable).with_name("huey_consumer")), "with_huey.huey", "-w", "2", "-k", "process",
         "-d", "0.001", "-m", "0.01", "-b", "1.05", "-n", "-q"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    try:
        drive(_fan_out, _one)
    finally:
        consumer.terminate()
        consumer.wait()


def _fan_out(events: int) -> None:
    chains = [huey.enqueue(one.s(number).then(two)) for number in range(events) for _ in range(FUNCTIONS)]
    for chain in chains:
        for result in chain:
            _take(result)


def _one() -> None:
    _take(one(0))


def _take(result: object) -> None:
    if result.get(blocking=True, timeout=120, backoff=1.05, max_delay=0.005) != page():
        raise SystemExit("something is missing")


if __name__ == "__main__":
    import with_huey  # again: by this name the consumer knows the tasks, too

    with_huey.main()
