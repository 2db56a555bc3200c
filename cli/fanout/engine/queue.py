"""The runs that are ready, and the fair choice of the next one. It holds a window of the journal, never all of it."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Container, Hashable, Iterable
from itertools import chain, count
from typing import NamedTuple, Protocol

from fanout.engine.lines import Lines
from fanout.engine.rounds import Name, Rounds, Scan
from fanout.journal.rows import QueuedRun

WINDOW = 512
LEAST_WINDOW = 16
"""So many are read at once, however many partitions there are: to ask for one costs the journal as much as for all."""
MOST_RUNS = 32 * WINDOW
"""In memory at a time, of all partitions together."""
MOST_PARTITIONS = 16 * 1024
"""In memory at a time, but for those that come at once, and the first of each function in each line."""
LOOKED_AT = 1024
"""So many more are read at once, for one among them that may start."""
_BEFORE_ALL = (-(2**62), 0)

Fetch = Callable[[str, str, tuple[int, int], int], list[QueuedRun]]


class Until(NamedTuple):
    """A run may start at this time, not before. `of` is an obstacle that others wait at until then."""

    at: int
    of: Hashable = None


Obstacle = Hashable
"""What a run has to wait for: an `Until`, or anything that somebody will call `wake` for."""


class Keyed(Protocol):
    """A run, or a partition of them."""

    @property
    def function(self) -> str: ...

    @property
    def partition(self) -> str: ...


class Gate(Protocol):
    """Who knows what stands in the way of a run."""

    def obstacle(self, run: QueuedRun) -> Obstacle | None: ...

    def shut(self, partition: Keyed) -> Obstacle | None:
        """What stands in the way of each of its runs, whichever is the next: none of them has to be looked at."""


class _Partition:
    """The queued runs of one function with the same keys, in order; those beyond `cursor` are only in the journal."""

    __slots__ = ("cursor", "function", "has_had_turn", "is_partial", "partition", "runs", "waited_for")

    def __init__(self, function: str, partition: str, *, is_partial: bool) -> None:
        self.function = function
        self.partition = partition
        self.is_partial = is_partial
        self.cursor = _BEFORE_ALL
        self.runs: deque[QueuedRun] = deque()
        self.waited_for: Obstacle | None = None
        self.has_had_turn = False
        """A run of it was started since it is here."""

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
    same, however many wait. Whoever was woken for something and has no use for it passes it on to the next in line.

    If there are too many, those that wait behind others of their function are left in the journal. When the line has
    come to them, or their time has come, or there is room, they are looked for there. Runs of functions that the code
    does not have stay there too.
    """

    def __init__(self, fetch: Fetch, scan: Scan, is_taken: Callable[[int], bool], last_rank: int = 0) -> None:
        self._fetch = fetch
        self._rounds = Rounds(scan)
        self._is_taken = is_taken
        self._last_rank = last_rank
        self._functions: Container[str] = ()
        self._partitions: dict[Name, _Partition] = {}
        self._turns: deque[_Partition] = deque()
        self._lines: Lines[_Partition] = Lines()
        self._later: list[tuple[int, int, _Partition]] = []
        self._timed: Counter[Obstacle] = Counter()
        """Of how many in `_later` each is the obstacle until then."""
        self._order = count()
        self._now = 0
        self._held = 0
        self._left: dict[Obstacle, set[str]] = {}
        """Functions of which partitions that wait there are only in the journal."""
        self._left_until: int | None = None
        """The earliest time that partitions wait for which are only in the journal."""
        self._is_all_here = True
        """None was left in the journal in this round."""

    def load(self, functions: Container[str]) -> None:
        """Begin anew with what the journal has, for the functions that can be started."""
        self._functions = functions
        self._partitions.clear()
        self._turns.clear()
        self._lines.clear()
        self._later.clear()
        self._timed.clear()
        self._held = 0
        self._left.clear()
        self._left_until = None
        self._is_all_here = True
        self._rounds.begin(functions)
        while self._rounds.has_to_go_on and len(self._partitions) < MOST_PARTITIONS:
            self._look(LOOKED_AT)

    def rank(self, now: int) -> int:
        """The place in the queue of what is ready now: after all before it, also when the clock has stepped back."""
        self._last_rank = max(now, self._last_rank)
        return self._last_rank

    def append(self, run: QueuedRun) -> None:
        """A run has become ready, and the journal has it."""
        if run.function not in self._functions:
            self._rounds.stranded.add(run.function)
            return
        name = run.function, run.partition
        partition = self._partitions.get(name)
        if partition is None:
            if len(self._partitions) >= MOST_PARTITIONS and len(self._turns) >= LOOKED_AT:
                self._is_all_here = False
                self._rounds.again()
                return
            partition = self._open(name, is_partial=self._rounds.has_to_go_on or self._has_left)
        self._held += partition.add(run, is_full=self._held >= MOST_RUNS)
        if len(partition.runs) > 2 * WINDOW:
            self._held -= partition.cut()

    def _open(self, name: Name, *, is_partial: bool) -> _Partition:
        partition = self._partitions[name] = _Partition(*name, is_partial=is_partial)
        self._turns.append(partition)
        return partition

    # Choosing.

    def take(self, gate: Gate) -> QueuedRun | None:
        """The next run that nothing stands in the way of. None if there is none, unless `has_ready` says otherwise."""
        tried: set[tuple[Obstacle, str]] = set()
        most = LOOKED_AT
        while self._turns or (most > 0 and self._is_looking):
            if not self._turns:
                most -= self._look(most)
                continue
            run = self._try(gate, self._turns.popleft(), tried)
            if run is not None:
                return run
        return None

    def _try(self, gate: Gate, partition: _Partition, tried: set[tuple[Obstacle, str]]) -> QueuedRun | None:
        obstacle = self._obstacle(gate, partition)
        if obstacle is None and partition.runs:
            return self._take_first(partition)
        waited_for, partition.waited_for = _cause(partition.waited_for), obstacle
        if obstacle is None:
            del self._partitions[partition.function, partition.partition]
        else:
            self._block(partition, obstacle)
        if waited_for is not None and waited_for != _cause(obstacle):
            self.wake(waited_for)  # It has no use for what it was woken for.
        if obstacle is not None and not isinstance(obstacle, Until):
            tried.add((obstacle, partition.function))
            self._wake_another(gate, obstacle, tried)
        return None

    def _obstacle(self, gate: Gate, partition: _Partition) -> Obstacle | None:
        """What is in the way of its next run, if it has one. Runs are read when one of them may well start."""
        if not partition.runs and partition.is_partial:
            shut = gate.shut(partition)
            if shut is not None:
                return shut
            self._refill(partition)
        return gate.obstacle(partition.runs[0]) if partition.runs else None

    def _take_first(self, partition: _Partition) -> QueuedRun:
        partition.waited_for = None
        partition.has_had_turn = True
        run = partition.runs.popleft()
        self._held -= 1
        if partition.runs or partition.is_partial:
            self._turns.append(partition)
        else:
            del self._partitions[partition.function, partition.partition]
        return run

    def _refill(self, partition: _Partition) -> None:
        window = max(LEAST_WINDOW, min(WINDOW, MOST_RUNS // len(self._partitions)))
        runs = self._fetch(partition.function, partition.partition, partition.cursor, window)
        # What was started is queued in the journal until it is noted there.
        partition.runs.extend(run for run in runs if not self._is_taken(run.key))
        self._held += len(partition.runs)
        partition.is_partial = len(runs) == window
        if runs:
            partition.cursor = (runs[-1].rank, runs[-1].key)
        if not partition.runs and partition.is_partial:
            self._refill(partition)

    # Waiting.

    def _block(self, partition: _Partition, obstacle: Obstacle) -> None:
        is_one_too_many = len(self._partitions) > MOST_PARTITIONS or (partition.has_had_turn and self._has_left)
        if is_one_too_many and self._can_leave(partition, obstacle):
            self._leave(partition, obstacle)
        elif isinstance(obstacle, Until):
            heapq.heappush(self._later, (obstacle.at, next(self._order), partition))
            self._timed[obstacle.of] += 1
        else:
            self._lines.add(obstacle, partition)

    def _can_leave(self, partition: _Partition, obstacle: Obstacle) -> bool:
        """Whether nobody is woken too late: one of each function stays in line, and one that others wait behind."""
        if not isinstance(obstacle, Until):
            return self._lines.has(obstacle, partition.function)
        return self._timed[obstacle.of] > 0 or not (obstacle.of in self._lines or obstacle.of in self._left)

    def _leave(self, partition: _Partition, obstacle: Obstacle) -> None:
        """It is only in the journal from now on."""
        del self._partitions[partition.function, partition.partition]
        self._held -= len(partition.runs)
        self._is_all_here = False
        if isinstance(obstacle, Until) and (obstacle.of is None or not self._timed[obstacle.of]):
            self._left_until = obstacle.at if self._left_until is None else min(self._left_until, obstacle.at)
        else:
            self._left.setdefault(_cause(obstacle), set()).add(partition.function)

    def wake(self, obstacle: Obstacle) -> None:
        """There may be room for one: the partition that waits for it the longest has another turn."""
        partition = self._lines.pop(obstacle)
        if partition is not None:
            self._turns.append(partition)
        elif self._left.pop(obstacle, None):
            self._rounds.again()

    def _wake_another(self, gate: Gate, obstacle: Obstacle, tried: set[tuple[Obstacle, str]]) -> None:
        """Another function may have a higher limit at the same place. Those that have not keep their order."""
        for partition in self._lines.firsts(obstacle):
            if (obstacle, partition.function) in tried:
                continue
            if partition.runs or partition.is_partial:
                found = gate.obstacle(partition.runs[0]) if partition.runs else gate.shut(partition)
                if found == obstacle:
                    tried.add((obstacle, partition.function))
                    continue
            self._lines.pop(obstacle, partition.function)
            self._turns.append(partition)
            return
        left = self._left.get(obstacle, set())
        if any((obstacle, function) not in tried for function in left):
            del self._left[obstacle]
            self._rounds.again()

    def wake_all(self, obstacle: Obstacle) -> None:
        """Nothing waits for this any more."""
        self._turns.extend(self._lines.pop_all(obstacle))
        if self._left.pop(obstacle, None):
            self._rounds.again()

    def fire(self, now: int) -> None:
        """The time of some has come; of all, if the clock has stepped back, for it was another time then."""
        has_stepped_back, self._now = now < self._now, now
        while self._later and (has_stepped_back or self._later[0][0] <= now):
            partition = heapq.heappop(self._later)[2]
            cause = _cause(partition.waited_for)
            self._timed[cause] -= 1
            if not self._timed[cause]:
                del self._timed[cause]
            self._turns.append(partition)
        if self._left_until is not None and (has_stepped_back or self._left_until <= now):
            self._left_until = None
            self._rounds.again()

    @property
    def next_at(self) -> int | None:
        """When the next of those that wait for a time may start."""
        times = (self._later[0][0] if self._later else None, self._left_until)
        return min((at for at in times if at is not None), default=None)

    # What is only in the journal.

    @property
    def _has_left(self) -> bool:
        return bool(self._left) or self._left_until is not None

    @property
    def _is_looking(self) -> bool:
        """Whether one that is only in the journal may start, or has room here."""
        return self._rounds.has_to_go_on or (self._has_left and len(self._partitions) < MOST_PARTITIONS // 2)

    def _look(self, most: int) -> int:
        """Open some that are not here. How many partitions of the journal were looked at for that."""
        # More than there is room for would be left in the journal, looked for again, and so on for ever.
        room = max(1, MOST_PARTITIONS - len(self._partitions))
        looked_at, is_over = self._rounds.look(min(most, room), self._found)
        if is_over:
            if self._is_all_here:
                self._left.clear()
                self._left_until = None
            self._is_all_here = True
        return looked_at

    def _found(self, name: Name) -> None:
        if name not in self._partitions:
            self._open(name, is_partial=True)

    # What is there.

    def has_ready(self) -> bool:
        """Whether a run may be ready; `take` knows for certain, though not always at once."""
        return bool(self._turns) or self._is_looking

    def is_awaited(self, obstacle: Obstacle) -> bool:
        """Whether a run waits for this."""
        return obstacle in self._lines

    def at_least(self, enough: int, app: str, app_of: Callable[[str], str], slot: Obstacle) -> int:
        """How many runs of an app would have a use for a slot; counted no further than `enough`."""
        found = WINDOW * sum(app_of(function) == app for function in self._left.get(slot, ()))
        for partition in chain(self._turns, self._lines.of(slot)):
            if found >= enough:
                break
            if app_of(partition.function) == app:
                found += len(partition.runs) + (WINDOW if partition.is_partial else 0)
        return found

    def discard(self, runs: Iterable[QueuedRun]) -> None:
        """These are no longer to be started, and the journal knows."""
        gone: dict[Name, set[int]] = {}
        for run in runs:
            gone.setdefault((run.function, run.partition), set()).add(run.key)
        for name, keys in gone.items():
            partition = self._partitions.get(name)
            if partition is not None:
                kept = deque(each for each in partition.runs if each.key not in keys)
                self._held -= len(partition.runs) - len(kept)
                partition.runs = kept

    def stranded(self) -> set[str]:
        """Functions that have queued runs but no code."""
        return set(self._rounds.stranded)


def _cause(obstacle: Obstacle | None) -> Obstacle | None:
    """What others may wait for as well."""
    return obstacle.of if isinstance(obstacle, Until) else obstacle
