"""The runs that are ready, and the fair choice of the next one. It holds a window of the journal, never all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable

from fanout.journal import QueuedRun

WINDOW = 512
_BEFORE_ALL = (-(2**62), 0)

Fetch = Callable[[str, str, tuple[int, int], int], list[QueuedRun]]


class _Partition:
    """The queued runs of one function and key, in order; those beyond `cursor` are only in the journal."""

    __slots__ = ("cursor", "function", "is_partial", "key", "runs")

    def __init__(self, function: str, key: str, *, is_partial: bool) -> None:
        self.function = function
        self.key = key
        self.is_partial = is_partial
        self.cursor = _BEFORE_ALL
        self.runs: deque[QueuedRun] = deque()

    def add(self, run: QueuedRun) -> None:
        place = (run.rank, run.key)
        if place > self.cursor:
            if self.is_partial or len(self.runs) >= WINDOW:
                self.is_partial = True
                return
            self.cursor = place
        self.runs.append(run)

    def refill(self, fetch: Fetch) -> None:
        runs = fetch(self.function, self.key, self.cursor, WINDOW)
        self.runs.extend(runs)
        self.is_partial = len(runs) == WINDOW
        if runs:
            self.cursor = (runs[-1].rank, runs[-1].key)


class ReadyQueue:
    """Takes one run from each partition in turn, so that a full one can't hold up the others.

    Runs of functions that the code does not have stay in the journal and wait.
    """

    def __init__(self, fetch: Fetch, last_rank: int = 0) -> None:
        self._fetch = fetch
        self._last_rank = last_rank
        self._functions: Container[str] = ()
        self._partitions: dict[tuple[str, str], _Partition] = {}
        self._turns: deque[_Partition] = deque()
        self._furthest = _BEFORE_ALL

    def load(self, partitions: Iterable[tuple[str, str]], functions: Container[str]) -> None:
        """Begin anew with what the journal has, for the functions that can be started."""
        self._functions = functions
        self._partitions = {name: _Partition(*name, is_partial=True) for name in partitions}
        self._turns = deque(each for each in self._partitions.values() if each.function in functions)

    def rank(self, now: int) -> int:
        """The place in the queue of what is ready now: after all before it, also when the clock has stepped back."""
        self._last_rank = max(now, self._last_rank)
        return self._last_rank

    def append(self, run: QueuedRun) -> None:
        """A run has become ready, and the journal has it."""
        name = (run.function, run.partition)
        partition = self._partitions.get(name)
        if partition is None:
            partition = self._partitions[name] = _Partition(*name, is_partial=False)
            # What an emptied partition gave out may still execute, and the journal calls it queued until it is noted:
            # whatever is fetched has to lie beyond it.
            partition.cursor = self._furthest
            if run.function in self._functions:
                self._turns.append(partition)
        partition.add(run)

    def take(self) -> QueuedRun | None:
        """The next run, or None if none is ready."""
        while self._turns:
            partition = self._turns.popleft()
            if not partition.runs and partition.is_partial:
                partition.refill(self._fetch)
            run = partition.runs.popleft() if partition.runs else None
            if partition.runs or partition.is_partial:
                self._turns.append(partition)
            else:
                self._furthest = max(self._furthest, partition.cursor)
                del self._partitions[partition.function, partition.key]
            if run is not None:
                return run
        return None

    def has_ready(self) -> bool:
        """Whether a run may be ready; `take` knows for certain."""
        return bool(self._turns)

    def at_least(self, enough: int) -> int:
        """How many runs may be ready; counted no further than `enough`."""
        found = 0
        for partition in self._turns:
            found += len(partition.runs) + (WINDOW if partition.is_partial else 0)
            if found >= enough:
                break
        return found

    def discard(self, runs: Container[int]) -> None:
        """These are no longer to be started, and the journal knows."""
        for partition in self._partitions.values():
            partition.runs = deque(each for each in partition.runs if each.key not in runs)

    def stranded(self) -> set[str]:
        """Functions that have queued runs but no code."""
        return {each.function for each in self._partitions.values() if each.function not in self._functions}
