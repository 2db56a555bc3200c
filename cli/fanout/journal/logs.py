"""What functions have printed and logged: kept beside the journal, and worth less. No SQL.

A run never waits for its log and never fails of it. The lines that a run has written before it said something else are
kept before that is, so whoever sees that a run is over sees all of its log.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from fanout.protocol import Logged

MOST_LINES = 10_000
"""Of one run; what comes after is counted and left out."""


class LogLine(NamedTuple):
    """`number` counts the lines of a run from 1; the rest is as in `Logged`."""

    number: int
    step: str | None
    attempt: int
    at: int
    source: str
    logger: str | None
    text: str


class LogSize(NamedTuple):
    """How many lines of a run are kept, and how many more there were."""

    lines: int = 0
    left_out: int = 0


class Logs(Protocol):
    """What the engine and those who remove runs ask. Only the engine that holds the journal's lock calls `write`."""

    def write(self, lines: Sequence[Logged]) -> None:
        """Keep these; whatever is in the way, this returns soon and raises nothing."""

    def catch_up(self) -> None:
        """Keep what could not be before, because somebody had the file."""

    def delete(self, runs: Sequence[str]) -> None:
        """Remove what the runs with these ids have written. Any process may.

        Raises:
            JournalError: it can't be removed.
        """

    def forget(self, runs: Sequence[str]) -> None:
        """As `delete`, but whatever is in the way raises nothing: then they stay."""

    def close(self) -> None: ...


def logs_path(journal: Path) -> Path:
    """Where the logs of the runs in this journal are: `journal.logs.db` beside `journal.db`."""
    return journal.with_name(f"{journal.stem}.logs{journal.suffix}")
