"""What an engine in this process does, told as it happens, without slowing it.

The engine's ticks only leave here what they have written; ten times a second that is made into facts, and those into
lines. When more happens than anybody could read, it is only counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from fanout.commands.live.facts import Fact, LeftOut, Printed
from fanout.commands.live.names import Names
from fanout.commands.live.reading import Reading, weight
from fanout.journal.writes import Writes
from fanout.model import RunState
from fanout.protocol import Logged

_BUSY_MS = 1_000
"""So long after it was too much, all is still counted; and so often the figures are told."""
_OUTSIDE_MS = 300
"""What workers write comes twice if it is a function's: so long the two may be apart."""
_MOST_OUTSIDE = 500
_MOST_FAILED = 3
"""So many runs that failed are told of each time, however much happens."""


class Pace(NamedTuple):
    """How many facts are told: so many at once, and so many a second."""

    burst: int
    a_second: int


FOR_PEOPLE = Pace(burst=200, a_second=60)
FOR_PROGRAMS = Pace(burst=4_000, a_second=2_000)


class Teller(Protocol):
    """What is done with a fact."""

    def __call__(self, fact: Fact, now: int, /) -> None: ...


class LiveLog:
    """Give it what the engine writes and what functions print; `look` tells of it."""

    def __init__(self, names: Names, routed_to: int, tell: Teller, *, pace: Pace, clock: Callable[[], int]) -> None:
        self._names = names
        self._reading = Reading(names, routed_to)
        self._tell = tell
        self._pace = pace
        self._clock = clock
        self._room = float(pace.burst)
        self._looked_at = clock()
        self._stash: deque[Writes | Logged] = deque()
        self._left = _LeftOut()
        self._busy_until = 0
        self._told_at = 0
        self._outside = _Outside()
        self.last_run: int | None = None
        """The run that has ended last."""
        self.last_failed: int | None = None
        """The same of those that have failed."""
        self.on_busy: Callable[[], None] = lambda: None
        """Called when the ends of what is going begin to be only counted."""

    # What happens: as cheap as can be.

    def committed(self, writes: Writes) -> None:
        self._note_ends(writes)
        size = weight(writes)
        if self._has_room(size):
            self._stash.append(writes)
        else:
            self._left.add(self._reading.count(writes, 0), writes)

    def printed(self, lines: Sequence[Logged]) -> None:
        if self._has_room(len(lines)):
            self._stash.extend(lines)
            self._outside.expect(lines, self._clock())
        else:
            self._left.lines += len(lines)

    def output(self, line: str) -> None:
        """A line that a worker has written, by whatever in it."""
        if not self._busy_until:
            self._outside.add(line, self._clock())

    def _has_room(self, size: int) -> bool:
        if self._busy_until:
            if size:
                self._room -= size
            return False
        if size <= self._room:
            self._room -= size
            return True
        now = self._clock()
        # What has come before is told first, or it would be told as news later.
        self._tell_stash(now)
        self._busy_until, self._told_at = now + _BUSY_MS, now
        self._outside.clear()
        self.on_busy()
        return False

    def _note_ends(self, writes: Writes) -> None:
        if writes.ended:
            self.last_run = writes.ended[-1].run
            if writes.failures:
                for row in writes.ended:
                    if row.state == RunState.FAILED:
                        self.last_failed = row.run

    # Telling.

    def look(self, now: int) -> None:
        """Tell of what has happened since the last look."""
        grown = (now - self._looked_at) / 1000 * self._pace.a_second
        self._looked_at = now
        if not self._busy_until:
            self._room = min(float(self._pace.burst), self._room + grown)
            self._tell_stash(now)
        elif now >= self._told_at + _BUSY_MS:
            # It is calm again when a second has passed with no more than can be told in one.
            is_calm = self._room >= -self._pace.a_second
            self._tell_left_out(now)
            self._room = 0.0
            if is_calm:
                self._busy_until, self._room = 0, float(self._pace.burst)
        for line, times in self._outside.take(now).items():
            self._tell(Printed(now, None, None, 0, "stdout", None, line, times), now)

    def end(self, now: int) -> None:
        """Tell of the rest."""
        self._tell_stash(now)
        self._tell_left_out(now)

    def _tell_stash(self, now: int) -> None:
        stash, self._stash = self._stash, deque()
        for each in stash:
            if isinstance(each, Logged):
                whose = self._names.run_of_id(each.run_id)
                self._tell(Printed(each.at, whose, each.step, each.attempt, each.source, each.logger, each.text), now)
            else:
                for fact in self._reading.facts(each):
                    self._tell(fact, now)

    def _tell_left_out(self, now: int) -> None:
        left, self._left = self._left, _LeftOut()
        for writes in left.failed:
            for fact in self._reading.facts(writes):
                self._tell(fact, now)
        self._told_at = now
        if left:
            self._tell(left.fact(now), now)


class _LeftOut:
    """What is only counted."""

    def __init__(self) -> None:
        self.lines = 0
        self.failed: list[Writes] = []
        """A few runs that failed, as if nothing else had been written."""
        self._events = self._began = self._failures = 0
        self._runs: Counter[RunState] = Counter()

    def __bool__(self) -> bool:
        return bool(self.lines or self._events or self._began or self._failures or self._runs)

    def add(self, count: LeftOut, writes: Writes) -> None:
        self._events += count.events
        self._began += count.began
        self._failures += count.failures
        self._runs.update(count.runs)
        if count.runs.get(RunState.FAILED) and len(self.failed) < _MOST_FAILED:
            row = next(row for row in writes.ended if row.state == RunState.FAILED)
            few = Writes()
            few.ended = [row]
            few.failures = [each for each in writes.failures if (each.run, each.step) == (row.run, "")]
            self.failed.append(few)
            self._runs[RunState.FAILED] -= 1

    def fact(self, at: int) -> LeftOut:
        return LeftOut(at, self._events, self._began, +self._runs, self._failures, self.lines)


class _Outside:
    """Tells what workers print outside of functions from what functions print, which is known already."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, str]] = deque(maxlen=_MOST_OUTSIDE)
        self._expected: deque[tuple[int, str, bool]] = deque(maxlen=_MOST_OUTSIDE)

    def clear(self) -> None:
        self._held.clear()
        self._expected.clear()

    def expect(self, lines: Sequence[Logged], now: int) -> None:
        for line in lines:
            first = line.text.split("\n", 1)[0]
            self._expected.append((now, first, line.logger is not None))

    def add(self, line: str, now: int) -> None:
        self._held.append((now, line.removesuffix("\r")))

    def take(self, now: int) -> Counter[str]:
        """What nobody has claimed, when it is clear that nobody will.

        Each worker that loads a module prints what that prints: so it comes with how often it was said.
        """
        found: Counter[str] = Counter()
        if not self._held:
            self._expire(now)
            return found
        kept: list[tuple[int, str]] = []
        for at, line in self._held:
            if self._is_expected(line):
                continue
            if now - at >= _OUTSIDE_MS:
                found[line] += 1
            else:
                kept.append((at, line))
        self._held.clear()
        self._held.extend(kept)
        self._expire(now)
        return found

    def _is_expected(self, line: str) -> bool:
        """A record is written by handlers of the code's own, in whatever form."""
        for number, (_, text, is_record) in enumerate(self._expected):
            if line == text or (is_record and text and text in line):
                del self._expected[number]
                return True
        return False

    def _expire(self, now: int) -> None:
        while self._expected and now - self._expected[0][0] > 2 * _OUTSIDE_MS:
            self._expected.popleft()
