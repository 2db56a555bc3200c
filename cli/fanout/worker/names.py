"""Which recorded step a call is: by its name, its occurrence, and the parallel branch it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fanout.protocol import RecordedStep

_NUMBERED = re.compile(r"(.*)#([0-9]+)", re.DOTALL)


class Names:
    """Hands out the keys of one execution: `charge`, then `charge#2`.

    Branches that run at the same time reach their steps in any order, so a record is found by its branch: what one
    branch has recorded is never given to another.
    """

    def __init__(self, steps: Iterable[RecordedStep]) -> None:
        self._last: dict[str, int] = {}
        self._free: dict[str, list[tuple[int, str, str]]] = {}
        """By name: (number, key, branch) of records that no call has come to yet."""
        for step in steps:
            name, number = split(step.key)
            self._last[name] = max(number, self._last.get(name, 0))
            self._free.setdefault(name, []).append((number, step.key, step.branch))
        for records in self._free.values():
            records.sort()

    def take(self, name: str, branch: str) -> str:
        """The key of the next call by this name in this branch."""
        records = self._free.get(name)
        if records:
            found = self._find(records, branch)
            if found is not None:
                records.remove(found)
                return found[1]
        number = self._last.get(name, 0) + 1
        self._last[name] = number
        return name if number == 1 else f"{name}#{number}"

    def _find(self, records: list[tuple[int, str, str]], branch: str) -> tuple[int, str, str] | None:
        for record in records:
            if record[2] == branch:
                return record
        # The code may have been changed: to run in a branch what it ran outside of any, the other way round, or with
        # other branches. Between two branches of the same code nothing moves.
        return next(
            (record for record in records if not record[2] or not branch or _code(record[2]) != _code(branch)), None
        )

    def unreached(self) -> tuple[str, ...]:
        """Recorded steps that no call has come to."""
        return tuple(key for records in self._free.values() for _, key, _ in records)


def _code(branch: str) -> str:
    return branch.partition(":")[0]


def split(key: str) -> tuple[str, int]:
    """`charge#2` is the second `charge`."""
    numbered = _NUMBERED.fullmatch(key) if "#" in key else None
    return (key, 1) if numbered is None else (numbered[1], int(numbered[2]))
