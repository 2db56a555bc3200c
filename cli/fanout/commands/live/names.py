"""Which runs and events a live log has met: their ids and names, looked up in the journal where it has not."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from fanout.commands.live.facts import EventSeen, Whose
from fanout.errors import NotFoundError, UsageError
from fanout.journal.rows import NewRun
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run

_MOST = 4_000
"""Who comes back after so many others is looked up again."""


class Names:
    """Bounded: what has been forgotten is in the journal."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._runs: dict[int, Whose] = {}
        self._keys: dict[str, int] = {}

    def learn(self, new: NewRun, event_id: str) -> Whose:
        parent = None if new.parent is None else self.run(new.parent)
        original = None if new.replay_of is None else self.run(new.replay_of)
        whose = Whose(
            new.key, new.id, new.function, new.event, new.max_attempts, event_id, parent and parent.function,
            original and original.id,
        )  # fmt: skip
        self._keep(whose)
        return whose

    def look_up(self, keys: Iterable[int]) -> None:
        """Those of these runs that are not known, at once."""
        missing = [key for key in keys if key not in self._runs]
        if not missing:
            return
        for found in self._reader.runs_by_key(missing):
            self._keep(_whose(found))

    def run(self, key: int) -> Whose:
        """One that is in the journal no longer has no name."""
        self.look_up((key,))
        return self._runs.get(key) or Whose(key, "", "?", 0)

    def run_of_id(self, id_: str) -> Whose:
        if id_ not in self._keys:
            with suppress(NotFoundError, UsageError):
                found = self._reader.run(id_)
                self._keep(_whose(found))
        key = self._keys.get(id_)
        return Whose(0, id_, "?", 0) if key is None else self.run(key)

    def events(self, keys: Collection[int]) -> dict[int, EventSeen]:
        """Events that others have sent, without what became of them."""
        if not keys:
            return {}
        return {
            each.key: EventSeen(
                each.received_at, each.key, each.id, each.name, 0, each.origin and each.origin.function,
                each.origin and each.origin.run,
            )
            for each in self._reader.events_by_key(list(keys))
        }  # fmt: skip

    def _keep(self, whose: Whose) -> None:
        if len(self._runs) >= _MOST:
            gone = self._runs.pop(next(iter(self._runs)))
            self._keys.pop(gone.id, None)
        self._runs[whose.key] = whose
        self._keys[whose.id] = whose.key


def _whose(found: Run) -> Whose:
    """Where the line of its event stands is of no use any more: that is far above."""
    return Whose(found.key, found.id, found.function, 0, found.max_attempts, found.event_id, None, found.replay_of)
