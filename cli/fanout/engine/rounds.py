"""Looking through the partitions that the journal has, a part at a time, round and round."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

Name = tuple[str, str]
"""(function, partition)"""
Scan = Callable[[Name], Iterable[Name]]

_BEGINNING = ("", "")
_BEYOND = chr(0x10FFFF)
"""After all partitions of a function."""


class Rounds:
    """Passes over functions that the code does not have, however many partitions each has. They are `stranded`."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._functions: Container[str] = ()
        self._here = _BEGINNING
        self._to_go = 0
        """So many times the end has to be come to until all has been looked at since `again` was called."""
        self.stranded: set[str] = set()

    def begin(self, functions: Container[str]) -> None:
        self._functions = functions
        self._here, self._to_go = _BEGINNING, 1
        self.stranded.clear()

    def again(self) -> None:
        """All has to be looked at from now on, also what was already."""
        self._to_go = 1 if self._here == _BEGINNING else 2

    @property
    def has_to_go_on(self) -> bool:
        return self._to_go > 0

    def look(self, most: int, found: Callable[[Name], None]) -> tuple[int, bool]:
        """Go on from where it was. How many there were, no more than `most`; and whether the end was come to."""
        looked_at = 0
        while looked_at < most:
            for name in self._scan(self._here):
                self._here = name
                looked_at += 1
                if name[0] not in self._functions:
                    self.stranded.add(name[0])
                    self._here = name[0], _BEYOND
                    break
                found(name)
                if looked_at >= most:
                    break
            else:
                self._here = _BEGINNING
                self._to_go = max(0, self._to_go - 1)
                return looked_at, True
        return looked_at, False
