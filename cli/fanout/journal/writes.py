"""All that one tick changes."""

from __future__ import annotations

from operator import attrgetter

from fanout.journal.rows import (
    EndedRun,
    EventRow,
    FailureRow,
    LostRun,
    MapRow,
    NewRun,
    NotedRun,
    ParkedRun,
    ResolvedStep,
    RetriedRun,
    StepRow,
    WaitRow,
)


class Writes:
    """All that one tick changes, committed as one transaction."""

    __slots__ = (
        "abandoned",
        "batched",
        "cancelled",
        "carried",
        "due",
        "ended",
        "events",
        "failures",
        "functions",
        "gathered",
        "handled",
        "heard",
        "held",
        "limits",
        "lost",
        "maps",
        "noted",
        "parked",
        "paused",
        "resolved",
        "resumed",
        "retried",
        "routed_to",
        "running",
        "runs",
        "schedules",
        "steps",
        "ticks",
        "tried",
        "unmapped",
        "unpaused",
        "unreached",
        "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.routed_to: int | None = None
        self.events: list[EventRow] = []
        self.runs: list[NewRun] = []
        self.waits: list[WaitRow] = []
        self.carried: list[tuple[int, int]] = []
        """(new run, old run): completed steps of the old one become the new one's."""
        self.steps: list[StepRow] = []
        self.running: list[StepRow] = []
        """Steps worth showing; nothing depends on them, and one that has ended meanwhile stays as it is."""
        self.failures: list[FailureRow] = []
        self.maps: dict[tuple[int, str], MapRow] = {}
        self.unmapped: list[tuple[int, str]] = []
        """(run, step): what was a map has become another step, and its children go on by themselves."""
        self.resolved: list[ResolvedStep] = []
        self.gathered: list[tuple[int, int, str]] = []
        """(ended_at, run, step): a map is over, and its children's outputs become its own."""
        self.heard: list[tuple[int, str]] = []
        """(run, step): what was waited for has come, or need not come any more."""
        self.tried: list[tuple[int, str]] = []
        """(run, step): the time to try again has come."""
        self.unreached: list[tuple[int, str]] = []
        self.ended: list[EndedRun] = []
        self.parked: list[ParkedRun] = []
        self.resumed: list[tuple[int, int]] = []
        """(run, attempt)"""
        self.retried: list[RetriedRun] = []
        self.lost: list[LostRun] = []
        self.noted: list[NotedRun] = []
        self.due: list[tuple[int, str, int]] = []
        """(rank, partition, run): what it waited for has come."""
        self.batched: list[tuple[int, int, int]] = []
        """(run, position, event)"""
        self.held: list[tuple[int | None, int, int]] = []
        """(event, due_at, run): it is held for longer, and starts with this event if there is one."""
        self.limits: dict[tuple[str, str, str], int] = {}
        """(function, kind, key) -> value"""
        self.schedules: dict[tuple[str, str], int] = {}
        """(function, cron) -> through"""
        self.ticks: list[tuple[str, int, int]] = []
        """(function, scheduled_at, run)"""
        self.functions: list[tuple[str, str, int | None]] = []
        """(id, spec, loaded_at): all that the code has now; without a time, what it had when it last loaded."""
        self.paused: list[tuple[str, int]] = []
        self.unpaused: list[tuple[str]] = []
        self.cancelled: list[tuple[str, str | None, int, int]] = []
        """(state, reason, ended_at, run): ended while no worker had it."""
        self.abandoned: list[tuple[int, int]] = []
        """(ended_at, run): ended with steps that wait, or with events that would have cancelled it."""
        self.handled: list[tuple[int, int | None, int]] = []
        """(handled_at, the run that was made, request)"""

    def __bool__(self) -> bool:
        return self.routed_to is not None or any(_lists_of(self))


_lists_of = attrgetter(*(name for name in Writes.__slots__ if name != "routed_to"))
