"""Which lines the tree of a family has, so that it can be read at once: those that are alike are summed up.

It decides what is shown and where; who draws it says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from fanout.journal.family import Family, FamilyEvent, FamilyRun, Member
from fanout.model import RunState
from fanout.views.words import name

_MOST_ALIKE = (25, 10, 3, 1)
"""How many siblings that are alike have lines of their own: the first of these with which all fits in."""
_FAILED_SAMPLES = 3


class Alike(NamedTuple):
    """Siblings that are alike, on one line."""

    members: Sequence[Member]

    @property
    def first(self) -> Member:
        return self.members[0]


class Left(NamedTuple):
    """So many have no line."""

    number: int
    noun: str


Shown = Member | Alike | Left


class Line(NamedTuple):
    """`ends` says for each level, the line's own is the last of them, whether nothing more comes on it.

    `name_width` is that of the longest name of the runs beside it.
    """

    ends: tuple[bool, ...]
    what: Shown
    name_width: int = 0

    @property
    def height(self) -> int:
        """A run that failed says why on a line of its own."""
        return 2 if _has_failed(self.what) else 1


def lay_out(family: Family, *, most_lines: int, levels: int, marked: Member | None = None) -> list[Line]:
    """The lines of a family's tree: no more than `most_lines`, and no deeper than `levels`."""
    path = family.path_to(marked) if marked is not None else set()
    for most_alike in _MOST_ALIKE:
        lines, height = [], 0
        for line in _Layout(family, path, most_alike, levels).lines():
            height += line.height
            if height > most_lines:
                break
            lines.append(line)
        else:
            return lines
    return [*lines[: most_lines - 1], Line((True,), Left(0, "line"))]


class _Layout:
    def __init__(self, family: Family, path: set[Member], most_alike: int, levels: int) -> None:
        self._family = family
        self._path = path
        self._most_alike = most_alike
        self._levels = levels

    def lines(self) -> Iterator[Line]:
        yield from self._lines(self._grouped(self._family.roots), ())

    def _lines(self, shown: Sequence[Shown], above: tuple[bool, ...]) -> Iterator[Line]:
        name_width = max((len(name(what)) for what in shown if isinstance(what, FamilyRun)), default=0)
        for number, what in enumerate(shown, 1):
            ends = (*above, number == len(shown))
            yield Line(ends, what, name_width)
            if isinstance(what, Left):
                continue
            if len(ends) <= self._levels:
                yield from self._lines(self._below(what), ends)
            elif runs := self._family.runs_below(what.members if isinstance(what, Alike) else (what,)):
                yield Line((*ends, True), Left(runs, "run"))

    def _below(self, what: Member | Alike) -> list[Shown]:
        if not isinstance(what, Alike):
            return self._grouped(self._family.caused_by(what))
        samples = self._samples(what.members)
        failed = sum(map(_has_failed, what.members)) - sum(map(_has_failed, samples))
        others = (below for member in what.members if member not in samples for below in self._family.caused_by(member))
        return [*samples, *([Left(failed, "failed run")] if failed else ()), *self._grouped(others)]

    def _samples(self, members: Sequence[Member]) -> list[Member]:
        """Of those that are alike: what leads to the marked one, and a few that failed."""
        marked = [member for member in members if member in self._path]
        failed = (member for member in members if _has_failed(member) and member not in marked)
        return [*marked, *islice(failed, _FAILED_SAMPLES)]

    def _grouped(self, members: Iterator[Member] | Sequence[Member]) -> list[Shown]:
        groups: dict[tuple[str, ...], list[Member]] = {}
        for member in members:
            groups.setdefault(_label(member), []).append(member)
        shown: list[Shown] = []
        for group in groups.values():
            shown += [Alike(group)] if len(group) > self._most_alike else group
        return shown


def _has_failed(what: Shown) -> bool:
    return isinstance(what, FamilyRun) and what.state is RunState.FAILED


def _label(member: Member) -> tuple[str, ...]:
    """What those that are alike have in common."""
    if isinstance(member, FamilyEvent):
        return ("event", member.name, "duplicate" if member.is_duplicate else "")
    return ("run", member.function, member.parent_step or "", "replay" if member.replay_of else "")
