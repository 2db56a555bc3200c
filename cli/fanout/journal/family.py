"""All that some events cause: their runs, the events and runs that those cause, and so on. No SQL, no drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from fanout.model import RunState

FUNCTION_INVOKED = "fanout/function.invoked"


class Progress(NamedTuple):
    """How far the runs that are watched are.

    While one of the roots is live nothing further is looked at: `counts` are of the roots alone then.
    """

    counts: dict[RunState, int]
    is_routed: bool

    @property
    def live(self) -> int:
        return live(self.counts)

    def is_over(self) -> bool:
        return self.is_routed and not self.live


class Watched(NamedTuple):
    """What a command waits for: the roots, and all that they cause.

    The roots are the runs of these events (a range of keys); or, of a request, the runs that replay these (made after
    that one); or the run that it has invoked.
    """

    first_event: int = 0
    last_event: int = -1
    request: int | None = None
    replayed: tuple[int, ...] = ()
    after_run: int = 0


class LeftOver(NamedTuple):
    """How much is in a journal that goes on as soon as an engine does."""

    events: int
    runs: int
    requests: int


class FamilyEvent(NamedTuple):
    """`origin` is the run that sent or caused it. `is_duplicate`: its id was given before, within 24 hours."""

    key: int
    id: str
    name: str
    received_at: int
    origin: int | None
    is_duplicate: bool


class FamilyRun(NamedTuple):
    """As much of a run as it takes to place and count it. Keys are the journal's.

    Of a map it is the `item`-th, and has an `item_key` if the map gives keys.
    """

    key: int
    id: str
    function: str
    event: int
    state: RunState
    parent: int | None
    parent_step: str | None
    started_at: int | None
    ended_at: int | None
    replay_of: int | None
    item: int | None
    item_key: str | None


Member = FamilyEvent | FamilyRun


class Family:
    """Events and runs, with who caused whom. Cut short, the deepest are missing, but for `counts`."""

    def __init__(self, *, is_cut: bool = False) -> None:
        self.roots: list[FamilyEvent] = []
        self.events: dict[int, FamilyEvent] = {}
        self.runs: dict[int, FamilyRun] = {}
        self.counts: Counter[RunState] = Counter()
        self.is_cut = is_cut
        self._runs_of: dict[int, list[FamilyRun]] = {}
        self._events_of: dict[int, list[FamilyEvent]] = {}

    def add(self, event: FamilyEvent, run: FamilyRun | None, *, is_root: bool = False) -> None:
        """An event, and one of its runs if it has any, in the order in which they are to be shown."""
        if event.key not in self.events:
            self.events[event.key] = event
            if is_root:
                self.roots.append(event)
            elif event.origin is not None:
                self._events_of.setdefault(event.origin, []).append(event)
        if run is not None and run.key not in self.runs:
            self.runs[run.key] = run
            self.counts[run.state] += 1
            self._runs_of.setdefault(event.key, []).append(run)

    def replace_runs(self, by: Callable[[FamilyRun], FamilyRun]) -> None:
        """Put what this makes of it in the place of each run."""
        self.runs = {key: by(run) for key, run in self.runs.items()}
        self._runs_of = {event: [self.runs[run.key] for run in runs] for event, runs in self._runs_of.items()}

    def runs_of(self, event: FamilyEvent) -> list[FamilyRun]:
        return self._runs_of.get(event.key, [])

    def caused_by(self, member: Member) -> Iterator[Member]:
        """What comes right under it: the runs of an event; the events of a run, and in their place its children."""
        if isinstance(member, FamilyEvent):
            yield from self.runs_of(member)
            return
        for event in self._events_of.get(member.key, ()):
            if event.name == FUNCTION_INVOKED:
                yield from self.runs_of(event)
            else:
                yield event

    def path_to(self, member: Member) -> set[Member]:
        """The member with all that it comes from."""
        path: set[Member] = set()
        here: Member | None = member
        while here is not None and here not in path:
            path.add(here)
            key = here.event if isinstance(here, FamilyRun) else here.origin
            found = self.events if isinstance(here, FamilyRun) else self.runs
            here = None if key is None else found.get(key)
        return path

    def runs_below(self, members: Iterable[Member]) -> int:
        """How many runs come from them, at any depth, themselves not counted."""
        number, rest = 0, [below for member in members for below in self.caused_by(member)]
        while rest:
            member = rest.pop()
            number += isinstance(member, FamilyRun)
            rest += self.caused_by(member)
        return number


def live(counts: Mapping[RunState, int]) -> int:
    """How many of them are not final."""
    return sum(number for state, number in counts.items() if not state.is_final)
