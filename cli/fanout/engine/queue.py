"""The runs that are ready, and the fair choice of the next one. It holds a window of the journal, never all of it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable
from itertools import chain, count, islice
from typing import NamedTuple, Protocol

from fanout.journal.rows import QueuedRun

WINDOW = 512
MOST_RUNS = 32 * WINDOW
"""In memory at a time, of all partitions together."""
MOST_PARTITIONS = 16 * 1024
_MOST_TRIED = 32
"""Of those that wait at a place, so many are looked at for one that may have another limit there."""
_BEFORE_ALL = (-(2**62), 0)

Fetch = Callable[[str, str, tuple[int, int], int], list[QueuedRun]]
Scan = Callable[[tuple[str, str]], Iterable[tuple[str, str]]]


class Until(NamedTuple):
    """A run may start at this time, not before. `of` is an obstacle that others wait at until then."""

    at: int
    of: Hashable = None


Obstacle = Hashable
"""What a run has to wait for: an `Until`, or anything that somebody will call `wake` for."""


class Gate(Protocol):
    """Who knows what stands in the way of a run."""

    def obstacle(self, run: QueuedRun) -> Obstacle | None: ...

    def with_room(self, run: QueuedRun) -> Iterable[Obstacle]:
        """Of all that could stand in its way, what does not: another may take the place that this one leaves."""


class _Partition:
    """The queued runs of one function with the same keys, in order; those beyond `cursor` are only in the journal."""

    __slots__ = ("cursor", "function", "is_partial", "key", "runs", "waited_for")

    def __init__(self, function: str, key: str, *, is_partial: bool) -> None:
        self.function = function
        self.key = key
        self.is_partial = is_partial
        self.cursor = _BEFORE_ALL
        self.runs: deque[QueuedRun] = deque()
        self.waited_for: Obstacle | None = None

    def add(self, run: QueuedRun, *, is_full: bool) -> bool:
        """Whether it is kept here, and not only in the journal."""
        place = run.rank, run.key
        if self.is_partial and place > self.cursor:
            return False
        is_last = not self.runs or place > (self.runs[-1].rank, self.runs[-1].key)
        if is_last and (is_full or len(self.runs) >= WINDOW):
            self.is_partial = True
            self.cursor = (self.runs[-1].rank, self.runs[-1].key) if self.runs else _BEFORE_ALL
            return False
        if is_last:
            self.runs.append(run)
        else:
            # It has priority over some that came before it.
            at = next(at for at, each in enumerate(self.runs) if (each.rank, each.key) > place)
            self.runs.insert(at, run)
        return True

    def cut(self) -> int:
        """Leave what is too much for a window to the journal. How many runs that were."""
        too_many = len(self.runs) - WINDOW
        for _ in range(too_many):
            self.runs.pop()
        self.is_partial = True
        self.cursor = self.runs[-1].rank, self.runs[-1].key
        return too_many


class ReadyQueue:
    """Takes one run from each partition in turn, so that a full one can't hold up the others.

    A partition whose next run may not start leaves the turns, and comes back when it is woken: to choose costs the
    same, however many wait. Runs of functions that the code does not have stay in the journal.
    """

    def __init__(self, fetch: Fetch, scan: Scan, is_taken: Callable[[int], bool], last_rank: int = 0) -> None:
        self._fetch = fetch
        self._scan = scan
        self._is_taken = is_taken
        self._last_rank = last_rank
        self._functions: Container[str] = ()
        self._partitions: dict[tuple[str, str], _Partition] = {}
        self._turns: deque[_Partition] = deque()
        self._blocked: dict[Obstacle, deque[_Partition]] = {}
        self._later: list[tuple[int, int, _Partition]] = []
        self._order = count()
        self._held = 0
        self._unseen: tuple[str, str] | None = None
        """The journal has partitions beyond this one that are not here."""

    def load(self, functions: Container[str]) -> None:
        """Begin anew with what the journal has, for the functions that can be started."""
        self._functions = functions
        self._partitions.clear()
        self._turns.clear()
        self._blocked.clear()
        self._later.clear()
        self._held = 0
        self._unseen = ("", "")
        self._see_more()

    def _see_more(self) -> None:
        """Partitions that are only in the journal, as many as there is room for."""
        if self._unseen is None:
            return
        here = self._unseen
        for name in islice(self._scan(here), MOST_PARTITIONS - len(self._partitions)):
            here = name
            if name not in self._partitions:
                self._open(name, is_partial=True)
        # At the end, from the beginning again: some may have been passed over when they were here and full.
        self._unseen = here if here != self._unseen and len(self._partitions) >= MOST_PARTITIONS else None

    def _open(self, name: tuple[str, str], *, is_partial: bool) -> _Partition:
        partition = self._partitions[name] = _Partition(*name, is_partial=is_partial)
        if partition.function in self._functions:
            self._turns.append(partition)
        return partition

    def rank(self, now: int) -> int:
        """The place in the queue of what is ready now: after all before it, also when the clock has stepped back."""
        self._last_rank = max(now, self._last_rank)
        return self._last_rank

    def append(self, run: QueuedRun) -> None:
        """A run has become ready, and the journal has it."""
        name = run.function, run.partition
        partition = self._partitions.get(name)
        if partition is None:
            if len(self._partitions) >= MOST_PARTITIONS:
                self._unseen = ("", "")
                return
            partition = self._open(name, is_partial=False)
        self._held += partition.add(run, is_full=self._held >= MOST_RUNS)
        if len(partition.runs) > 2 * WINDOW:
            self._held -= partition.cut()

    # Choosing.

    def take(self, gate: Gate) -> QueuedRun | None:
        """The next run that nothing stands in the way of, or None."""
        tried: set[tuple[Obstacle, str]] = set()
        while self._turns:
            partition = self._turns.popleft()
            if not partition.runs and partition.is_partial:
                self._refill(partition)
            if not partition.runs:
                self._close(partition)
                # It has no use for the room that it was woken for.
                waited_for = partition.waited_for
                self.wake(waited_for.of if isinstance(waited_for, Until) else waited_for)
                continue
            obstacle = gate.obstacle(partition.runs[0])
            if obstacle is not None:
                self._block(partition, obstacle)
                for other in gate.with_room(partition.runs[0]):
                    self.wake(other)
                if not isinstance(obstacle, Until):
                    tried.add((obstacle, partition.function))
                    self._wake_another(gate, obstacle, tried)
                continue
            partition.waited_for = None
            run = partition.runs.popleft()
            self._held -= 1
            if partition.runs or partition.is_partial:
                self._turns.append(partition)
            else:
                self._close(partition)
            return run
        return None

    def _refill(self, partition: _Partition) -> None:
        window = max(8, min(WINDOW, MOST_RUNS // len(self._partitions)))
        runs = self._fetch(partition.function, partition.key, partition.cursor, window)
        # What was started is queued in the journal until it is noted there.
        partition.runs.extend(run for run in runs if not self._is_taken(run.key))
        self._held += len(partition.runs)
        partition.is_partial = len(runs) == window
        if runs:
            partition.cursor = (runs[-1].rank, runs[-1].key)
        if not partition.runs and partition.is_partial:
            self._refill(partition)

    def _close(self, partition: _Partition) -> None:
        del self._partitions[partition.function, partition.key]
        if self._unseen is not None and len(self._partitions) < MOST_PARTITIONS // 2:
            self._see_more()

    def _block(self, partition: _Partition, obstacle: Obstacle) -> None:
        partition.waited_for = obstacle
        if isinstance(obstacle, Until):
            heapq.heappush(self._later, (obstacle.at, next(self._order), partition))
        else:
            self._blocked.setdefault(obstacle, deque()).append(partition)

    def wake(self, obstacle: Obstacle) -> None:
        """There may be room for one: the partition that waits for it the longest has another turn."""
        waiting = self._blocked.get(obstacle)
        if waiting is not None:
            self._turns.append(waiting.popleft())
            if not waiting:
                del self._blocked[obstacle]

    def _wake_another(self, gate: Gate, obstacle: Obstacle, tried: set[tuple[Obstacle, str]]) -> None:
        """Another function may have a higher limit at the same place. Those that have not keep their order."""
        waiting = self._blocked[obstacle]
        for at, partition in enumerate(islice(waiting, _MOST_TRIED)):
            if (obstacle, partition.function) in tried or not partition.runs:
                continue
            tried.add((obstacle, partition.function))
            if gate.obstacle(partition.runs[0]) != obstacle:
                del waiting[at]
                self._turns.append(partition)
                return

    def wake_all(self, obstacle: Obstacle) -> None:
        """Nothing waits for this any more."""
        self._turns.extend(self._blocked.pop(obstacle, ()))

    def fire(self, now: int) -> None:
        """The time of some has come."""
        while self._later and self._later[0][0] <= now:
            self._turns.append(heapq.heappop(self._later)[2])

    @property
    def next_at(self) -> int | None:
        """When the next of those that wait for a time may start."""
        return self._later[0][0] if self._later else None

    # What is there.

    def has_ready(self) -> bool:
        """Whether a run may be ready; `take` knows for certain."""
        return bool(self._turns)

    def is_awaited(self, obstacle: Obstacle) -> bool:
        """Whether a run waits for this."""
        return obstacle in self._blocked

    def at_least(self, enough: int, app: str, app_of: Callable[[str], str], slot: Obstacle) -> int:
        """How many runs of an app would have a use for a slot; counted no further than `enough`."""
        found = 0
        for partition in chain(self._turns, self._blocked.get(slot, ())):
            if found >= enough:
                break
            if app_of(partition.function) == app:
                found += len(partition.runs) + (WINDOW if partition.is_partial else 0)
        return found

    def discard(self, runs: Container[int]) -> None:
        """These are no longer to be started, and the journal knows."""
        for partition in self._partitions.values():
            kept = deque(each for each in partition.runs if each.key not in runs)
            self._held -= len(partition.runs) - len(kept)
            partition.runs = kept

    def stranded(self) -> set[str]:
        """Functions that have queued runs but no code."""
        return {each.function for each in self._partitions.values() if each.function not in self._functions}
