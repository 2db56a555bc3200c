"""When the next waiting run is due. Only the earliest time is known here; the journal has them all."""

from __future__ import annotations

from fanout.journal import Journal


class Timers:
    """A hundred thousand waiting runs cost one number."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.earliest = journal.next_due()
        """Milliseconds; None if nothing waits."""

    def add(self, due_at: int) -> None:
        """A run waits for this time, or will once the tick is committed."""
        self.earliest = due_at if self.earliest is None else min(self.earliest, due_at)

    def are_due(self, now: int) -> bool:
        return self.earliest is not None and self.earliest <= now

    def look(self) -> None:
        """Ask the journal anew: the earliest ones have been woken, or were cancelled."""
        self.earliest = self._journal.next_due()
