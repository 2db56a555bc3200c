"""Whether fanout has become slower: `python -m benchmarks.guard`.

It compares processor time with that of a fixed piece of work (SQLite and Python alone) in the same minutes, so that the
machine, and what else it does, is in both. Recorded are ratios; a ratio over its recorded one times `TOLERANCE` fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import apsw
import msgspec

import fanout
from benchmarks import engine
from benchmarks.fan_out import ASYNC, PLAIN, fan_out
from benchmarks.measure import BenchmarkError, Deadline, can_see_processes

RECORDED = {"W1": 2.45, "W1a": 1.85}
"""Processor time of the whole tree for 6,000 runs of two steps, as a multiple of the fixed work's."""
TOLERANCE = 1.3
_MODULES = {"W1": PLAIN, "W1a": ASYNC}
_EVENTS = 2_000
_TRANSACTIONS, _ROWS = 1_200, 60
_TIMEOUT_S = 600.0


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 if something has become slower, 2 if it can't be measured here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the best counts (%(default)s)")
    rounds: int = parser.parse_args(arguments).rounds
    if not can_see_processes():
        print("error: processor time of other processes is known on Linux only", file=sys.stderr)
        return 2
    is_slower = False
    for name, module in _MODULES.items():
        ratio = measure(module, rounds)
        most = RECORDED[name] * TOLERANCE
        print(f"{name.ljust(4)} {ratio:.2f} times the fixed work, recorded {RECORDED[name]:.2f}, at most {most:.2f}")
        is_slower |= ratio > most
    if is_slower:
        print("error: it has become slower; `python -m benchmarks W1 W1a` has the figures", file=sys.stderr)
    return 1 if is_slower else 0


def measure(module: str, rounds: int, events: int = _EVENTS) -> float:
    """The best round's processor time, as a multiple of the fixed work's best."""
    deadline = Deadline.after(_TIMEOUT_S)
    fixed, own = [], []
    with (
        engine.project(module, 2) as place,
        engine.serve(place, deadline) as running,
        fanout.connect(place.config) as client,
    ):
        for _ in range(rounds + 1):
            fixed.append(fixed_work())
            own.append(fan_out(client, running, events, 100, deadline).cpu_s)
    # The first round has warmed up what is new in each process.
    if not min(own[1:]):
        raise BenchmarkError("the processes' times can't be read")
    return min(own[1:]) / min(fixed[1:])


def fixed_work() -> float:
    """Processor seconds of a piece of work that never changes: rows into SQLite, JSON and small objects in Python."""
    began = time.process_time()
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE thing (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data TEXT NOT NULL)")
    key = 0
    for _ in range(_TRANSACTIONS):
        rows = []
        for _ in range(_ROWS):
            key += 1
            data = msgspec.json.decode(msgspec.json.encode({"n": key, "text": "x" * 200}))
            rows.append((key, f"{key * 7_919 % 1_000_003:026d}", data["text"]))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO thing VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    found = {row[1]: row for row in connection.execute("SELECT key, id, data FROM thing")}
    total = 0
    for row in found.values():
        total += _weigh(row)
    connection.close()
    if total != key * (key + 1) // 2:
        raise BenchmarkError("the fixed work has come to something else")
    return time.process_time() - began


def _weigh(row: tuple[object, ...]) -> int:
    key, *_ = row
    return key if isinstance(key, int) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
