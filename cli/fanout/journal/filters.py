"""Which runs are meant: the same words for listing runs and for replaying them. No SQL."""

from __future__ import annotations

from typing import NamedTuple

from fanout.model import RunState


class RunFilter(NamedTuple):
    """Runs of which all of this is true; without any of it, all runs.

    Names of functions and events may have an open tail: `app/*`. `since` and `until` are about when a run was queued,
    in milliseconds; `until` is excluded. `error` is a part of what a failure of the run says, in any case of letters.
    `keys` are the journal's own.
    """

    states: frozenset[RunState] = frozenset()
    function: str | None = None
    event: str | None = None
    since: int | None = None
    until: int | None = None
    error: str | None = None
    keys: tuple[int, ...] | None = None

    def has_group(self, function: str, event: str, state: RunState) -> bool:
        """Whether runs of this function for such events, in this state, can be meant."""
        is_state = not self.states or state in self.states
        return is_state and fits(self.function, function) and fits(self.event, event)


EVERY_RUN = RunFilter()


def fits(pattern: str | None, name: str) -> bool:
    """Whether the name is the one that is asked for, or begins as that does before its `*`."""
    if pattern is None or pattern == name:
        return True
    return pattern.endswith("*") and name.startswith(pattern[:-1])
