"""When the journal next has something that is due. Only the earliest time is known here; the journal has them all."""

from __future__ import annotations

from fanout.journal import Journal


class Timers:
    """A hundred thousand waiting runs cost one number."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._has_fired = False
        self.earliest = journal.next_due()
        """Milliseconds; None if nothing waits."""

    def add(self, due_at: int | None) -> None:
        """A run or step waits for this time, or will once the tick is committed."""
        if due_at is not None:
            self.earliest = due_at if self.earliest is None else min(self.earliest, due_at)

    def ask(self) -> int | None:
        """The earliest time for which something still waits; not to be asked within a tick."""
        if self.earliest is not None:
            self.earliest = self._journal.next_due()
        return self.earliest

    def are_due(self, now: int) -> bool:
        return self.earliest is not None and self.earliest <= now

    def fire(self) -> None:
        """What is due is being dealt with."""
        self._has_fired = True

    def look(self) -> None:
        """After a commit in which something was due: what is the earliest now."""
        if self._has_fired:
            self._has_fired = False
            self.earliest = self._journal.next_due()
