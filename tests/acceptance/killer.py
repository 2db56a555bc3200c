"""Runs the command in this process and kills it with SIGKILL around the n-th transaction of its journal.

    python killer.py N before|inside|after ARGUMENTS...

With N = 0 nothing is killed, and the number of transactions is written to the file `transactions`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fanout.commands import main as command
from fanout.journal import sqlite

KILL_AT, MOMENT = int(sys.argv[1]), sys.argv[2]
state = {"done": 0}


class KillingJournal(sqlite.SqliteJournal):
    @contextmanager
    def _transaction(self) -> Iterator[None]:
        state["done"] += 1
        self._strike("before")
        with super()._transaction():
            yield
            self._strike("inside")
        self._strike("after")

    def _strike(self, moment: str) -> None:
        if state["done"] == KILL_AT and moment == MOMENT:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Both are looked up when the command runs.
    sqlite.SqliteJournal = KillingJournal  # type: ignore[misc]
    import fanout.client

    fanout.client.SqliteJournal = KillingJournal  # type: ignore[attr-defined]
    sys.argv = ["fanout", *sys.argv[3:]]
    try:
        command.main()
    finally:
        if KILL_AT == 0:
            Path("transactions").write_text(str(state["done"]))
