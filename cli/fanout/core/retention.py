"""How long runs that have ended are kept. It only computes times; what may go besides is the journal's to say."""

from __future__ import annotations

from typing import NamedTuple

from fanout.core.flow import spent_tat

DAY_MS = 24 * 3600 * 1000
LEAST_KEEP_MS = 3600 * 1000
"""Shorter is refused: somebody may still wait for what has just ended."""
_NEVER = -1
"""Before any time that a journal has."""


class Keep(NamedTuple):
    """For how many milliseconds after their end; None is for ever.

    `completed` is for all that have not failed: cancelled and skipped ones too. `events`: those that no run refers to;
    None is as long as the shorter of the two.
    """

    completed: int | None
    failed: int | None
    events: int | None = None

    @property
    def is_for_ever(self) -> bool:
        return self.completed is None and self.failed is None and self.events is None


class Cutoffs(NamedTuple):
    """What ended, or came, up to these times may go.

    `window`: up to there nothing is needed any more to know ids, keys and ticks again; `spent`: a limit's value up to
    this one is as good as none.
    """

    completed: int
    failed: int
    events: int
    window: int
    spent: int

    @property
    def latest(self) -> int:
        """No run that was queued later may go."""
        return max(self.completed, self.failed)


def keep_for(completed_s: float | None, failed_s: float | None, events_s: float | None = None) -> Keep:
    """From seconds."""
    completed, failed, events = (
        None if each is None else round(each * 1000) for each in (completed_s, failed_s, events_s)
    )
    return Keep(completed, failed, events)


def cutoffs(keep: Keep, now: int) -> Cutoffs:
    """Times in milliseconds, for this moment."""
    window = now - DAY_MS
    completed, failed = _cutoff(keep.completed, now), _cutoff(keep.failed, now)
    events = max(completed, failed) if keep.events is None else _cutoff(keep.events, now)
    return Cutoffs(completed, failed, events, window, spent_tat(window))


def _cutoff(keep: int | None, now: int) -> int:
    return _NEVER if keep is None else now - max(keep, LEAST_KEEP_MS)
