"""Who waits for what, in the order in which they came. It knows nothing of what they wait for."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    @property
    def function(self) -> str: ...


Partition = TypeVar("Partition", bound=Waiting)


class Lines(Generic[Partition]):
    """A line for each obstacle. The first of each function is found at once, however many wait."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, dict[str, deque[tuple[int, Partition]]]] = {}
        self._order = count()

    def __contains__(self, obstacle: Hashable) -> bool:
        return obstacle in self._lines

    def has(self, obstacle: Hashable, function: str) -> bool:
        """Whether one of this function waits there."""
        return function in self._lines.get(obstacle, ())

    def add(self, obstacle: Hashable, partition: Partition) -> None:
        line = self._lines.get(obstacle)
        if line is None:
            line = self._lines[obstacle] = {}
        waiting = line.get(partition.function)
        if waiting is None:
            waiting = line[partition.function] = deque()
        waiting.append((next(self._order), partition))

    def firsts(self, obstacle: Hashable) -> list[Partition]:
        """The first of each function."""
        return [waiting[0][1] for waiting in self._lines.get(obstacle, {}).values()]

    def pop(self, obstacle: Hashable, function: str | None = None) -> Partition | None:
        """The one that has waited the longest, of all or of this function, waits no longer."""
        line = self._lines.get(obstacle)
        if line is None:
            return None
        if function is None:
            function = next(iter(line)) if len(line) == 1 else min(line, key=lambda each: line[each][0][0])
        waiting = line[function]
        _, partition = waiting.popleft()
        if not waiting:
            del line[function]
            if not line:
                del self._lines[obstacle]
        return partition

    def pop_all(self, obstacle: Hashable) -> list[Partition]:
        """None waits there any more; they come in their order."""
        waiting = [each for line in self._lines.pop(obstacle, {}).values() for each in line]
        return [partition for _, partition in sorted(waiting, key=lambda each: each[0])]

    def of(self, obstacle: Hashable) -> Iterator[Partition]:
        """All that wait there, function by function."""
        return (partition for line in self._lines.get(obstacle, {}).values() for _, partition in line)

    def clear(self) -> None:
        self._lines.clear()
