"""What functions have done, as they wrote it down themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple


class Effect(NamedTuple):
    """`what` is enter (the function), begin or end (a step's own code)."""

    at_ns: int
    pid: int
    what: str
    run: str
    step: str


class Span(NamedTuple):
    """A step's own code was at work."""

    begin_ns: int
    end_ns: int
    run: str


def read(path: Path) -> list[Effect]:
    """In the order in which they happened. A line is written at once, so there are no halves."""
    if not path.exists():
        return []
    return sorted(Effect(*json.loads(line)) for line in path.read_text().splitlines())


def without_strays(effects: Iterable[Effect], strays: dict[int, int]) -> list[Effect]:
    """Without what was done by workers that were stopped when their engine died, after that.

    Such a worker does not know yet that it has been replaced, and ends when it finds out.
    """
    return [each for each in effects if each.pid not in strays or each.at_ns < strays[each.pid]]


def spans(effects: Iterable[Effect]) -> list[Span]:
    """Only of what came to its end: how long a dead process was at work nobody knows."""
    begun: dict[tuple[int, str, str], int] = {}
    found: list[Span] = []
    for each in effects:
        place = each.pid, each.run, each.step
        if each.what == "begin":
            begun[place] = each.at_ns
        elif each.what == "end" and place in begun:
            found.append(Span(begun.pop(place), each.at_ns, each.run))
    return found


def most_at_once(found: Collection[Span]) -> int:
    """How many runs were at work at the same time, at most."""
    moments = [(each.begin_ns, 1, each.run) for each in found] + [(each.end_ns, -1, each.run) for each in found]
    there: dict[str, int] = defaultdict(int)
    most = 0
    for _, change, run in sorted(moments):
        there[run] += change
        if not there[run]:
            del there[run]
        most = max(most, len(there))
    return most
