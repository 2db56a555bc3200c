"""Who is charged when a worker dies with runs in it."""

from __future__ import annotations

from enum import Enum

MAX_CRASHES = 3
"""Deaths that a run may cause before it fails: enough to outlive a machine short of memory, never a loop."""


class Blame(Enum):
    SUSPECT = "suspect"  # one of several that were there: it next runs alone in a worker, uncharged
    CHARGED = "charged"  # it was alone, so it was the cause; it gets another chance, alone
    CRASHED = "crashed"  # it was alone, and has had its chances


def blame(runs_in_worker: int, crashes: int) -> Blame:
    """The verdict on one of the runs in a worker that died; `crashes` were charged to it before."""
    if runs_in_worker > 1:
        return Blame.SUSPECT
    return Blame.CRASHED if crashes + 1 >= MAX_CRASHES else Blame.CHARGED
