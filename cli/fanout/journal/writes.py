"""All that one tick changes."""

from __future__ import annotations

from operator import attrgetter

from fanout.journal.rows import (
    Carried,
    EndedRun,
    EventRow,
    FailureRow,
    GivenStep,
    LetGo,
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
        "advanced",
        "cancelled",
        "carried",
        "collected",
        "due",
        "ended",
        "events",
        "failures",
        "functions",
        "gathered",
        "given",
        "handled",
        "heard",
        "held",
        "let_go",
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
        "skipped",
        "steps",
        "ticks",
        "tried",
        "unmapped",
        "unpaused",
        "unreached",
        "waits",
    )  # fmt: skip

    def __init__(self) -> None:  # noqa: PLR0915 - one for each kind of change
        self.routed_to: int | None = None
        self.events: list[EventRow] = []
        self.runs: list[NewRun] = []
        self.waits: list[WaitRow] = []
        self.carried: list[Carried] = []
        self.given: list[GivenStep] = []
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
        self.collected: list[tuple[int, int, int, bool]] = []
        """(run, position, event, is_replaced)"""
        self.held: list[tuple[int | None, int, bool, int]] = []
        """(event, due_at, is_echo, run): it is held until then, and starts with this event if there is one."""
        self.let_go: list[LetGo] = []
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
        self.skipped: list[tuple[str, int, int]] = []
        """(reason, ended_at, run): it was held for more events, and there is to be no run."""
        self.abandoned: list[tuple[int, int]] = []
        """(ended_at, run): ended with steps that wait, or with events that would have cancelled it."""
        self.advanced: list[tuple[int, int | None, int]] = []
        """(done, next_at, request): it is dealt with so far."""
        self.handled: list[tuple[int, int | None, int]] = []
        """(handled_at, the run that was made, request)"""

    def __bool__(self) -> bool:
        return self.routed_to is not None or any(_lists_of(self))


_lists_of = attrgetter(*(name for name in Writes.__slots__ if name != "routed_to"))
