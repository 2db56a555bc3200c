"""Removes what is old from the journal, a little between ticks: when nothing else is to be done, or has been for long.

It knows when to do how much; what may go is the journal's to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fanout.core.retention import Cutoffs, Keep, cutoffs
from fanout.journal import Journal
from fanout.journal.pruning import Place, Pruned, Removing

EVERY_MS = 3600 * 1000
FIRST_AFTER_MS = 1_000
"""After the start, so that a command which is over sooner pays nothing for it."""
LONG_MS = 8
"""A slice that took longer is followed by a smaller one: ticks have to stay short."""
SHORT_MS = 4
LEAST, MOST = 16, 1_024
"""Rows that a slice looks at."""
_IDLE_PAUSE, _BUSY_PAUSE = 1, 10
"""How often its own time a pass rests behind each slice: others write to the journal as well."""
_SHORTEST_PAUSE_MS = 2


class Pass:
    """From the first part to the last, once. `request`: who asked for it, or None."""

    def __init__(self, cutoffs: Cutoffs, request: int | None) -> None:
        self.cutoffs = cutoffs
        self.request = request
        self.place: Place | None = Place()
        self.pruned = Pruned()

    @classmethod
    def of(cls, keep: Keep, now: int, request: int | None = None) -> Pass:
        return cls(cutoffs(keep, now), request)


class Pruning:
    """Does one pass at a time: by itself about hourly, if there is a `keep`; and those that are asked for."""

    def __init__(
        self, journal: Journal, keep: Keep | None, *, clock: Callable[[], int], forget: Removing = lambda _runs: None
    ) -> None:
        self._journal = journal
        self._forget = forget
        """What is kept of runs outside of the journal goes first."""
        self._keep = keep
        self._clock = clock
        self._most = LEAST
        self._pass: Pass | None = None
        self._is_asked = False
        self._again_at: int | None = None if keep is None else clock() + FIRST_AFTER_MS
        self._next_at = 0
        self._idle_at = 0

    def have(self, keep: Keep | None) -> None:
        """From now on so long is kept what is over. A pass that has begun goes on as it began."""
        if keep != self._keep:
            self._keep = keep
            self._again_at = None if keep is None else self._clock() + FIRST_AFTER_MS

    @property
    def next_at(self) -> int | None:
        """When it wants to be called, if nothing else is to be done."""
        if self._pass is not None:
            return self._idle_at
        return self._idle_at if self._is_asked else self._again_at

    def ask(self) -> None:
        """The journal has a request for it."""
        self._is_asked = True

    def work(self, now: int, *, is_idle: bool) -> bool:
        """A slice, if it is time for one: whatever else goes on, there is time for some. Whether a request is done."""
        self._set_back(now)
        if now < (self._idle_at if is_idle else self._next_at):
            return False
        if self._pass is None:
            self._pass = self._begin(now)
        if self._pass is None:
            return False
        self._slice(self._pass)
        return self._pass.place is None and self._end(self._pass)

    def finish(self, going: Pass) -> None:
        """All of a pass at once, for who has nothing else to do; others write to the journal between the slices."""
        while going.place is not None:
            self._slice(going)
            time.sleep(_SHORTEST_PAUSE_MS / 1000)
        self._end(going)

    def _set_back(self, now: int) -> None:
        """A clock that steps back puts nothing off."""
        if self._next_at > now + EVERY_MS:
            self._next_at = self._idle_at = now
        if self._again_at is not None and self._again_at > now + EVERY_MS:
            self._again_at = now + EVERY_MS

    def _begin(self, now: int) -> Pass | None:
        if self._is_asked:
            asked = self._journal.prune_request()
            if asked is not None:
                return Pass.of(Keep(**asked.body), now, asked.key)
            self._is_asked = False
        if self._keep is not None and self._again_at is not None and now >= self._again_at:
            return Pass.of(self._keep, now)
        return None

    def _slice(self, going: Pass) -> None:
        began = self._clock()
        if going.place is not None:
            done = self._journal.prune(going.place, going.cutoffs, self._most, self._forget)
            going.place, going.pruned = done.place, going.pruned.plus(done.pruned)
        now = self._clock()
        took = max(0, now - began)
        self._most = next_most(self._most, took)
        self._idle_at = now + max(_SHORTEST_PAUSE_MS, took * _IDLE_PAUSE)
        self._next_at = now + max(_SHORTEST_PAUSE_MS, took) * _BUSY_PAUSE

    def _end(self, over: Pass) -> bool:
        self._pass = None
        now = self._clock()
        if over.request is None:
            self._again_at = now + EVERY_MS
            return False
        self._journal.prune_done(over.request, over.pruned, now)
        return True


def next_most(most: int, took_ms: int) -> int:
    """How many rows the next slice looks at, after one that took so long."""
    if took_ms > LONG_MS:
        return max(LEAST, most // 2)
    return min(MOST, most + max(1, most // 4)) if took_ms < SHORT_MS else most
