"""What pruning has removed, and how far it has come. No SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

Removing = Callable[[Sequence[str]], None]
"""Told the ids of runs that go, before the transaction is committed: what is kept elsewhere goes first."""


class Part(StrEnum):
    """What a pass goes through, in this order: what refers to runs, runs, and events that then nobody refers to."""

    REQUESTS = "requests"
    LIMITS = "limits"
    RUNS = "runs"
    EVENTS = "events"
    OWN_EVENTS = "own events"
    SPACE = "space"


class Place(NamedTuple):
    """How far a pass has come: behind this key of that part. A pass that is cut short simply begins again."""

    part: Part = Part.REQUESTS
    after: tuple[int | str, ...] = ()


class Pruned(NamedTuple):
    """How much has been removed, or would be."""

    runs: int = 0
    steps: int = 0
    events: int = 0
    ticks: int = 0
    requests: int = 0
    limits: int = 0

    def plus(self, other: Pruned) -> Pruned:
        return Pruned(*(mine + its for mine, its in zip(self, other, strict=True)))


class Slice(NamedTuple):
    """What one transaction of a pass has done; `place` is where the next goes on, None behind the last."""

    place: Place | None
    pruned: Pruned
