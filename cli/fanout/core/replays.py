"""What a replay does with the steps that its runs have recorded, given the steps that today's code has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

_NUMBERED = re.compile(r"(.*)#[0-9]+", re.DOTALL)


class RecordedSteps(NamedTuple):
    """Of a function's runs that are to be replayed: how many there are; of each step, in the order in which they were
    reached, how many of them would keep it, and how many have it but would not.
    """

    function: str
    runs: int
    kept: dict[str, int]
    others: dict[str, int]


class FunctionPlan(NamedTuple):
    """What becomes of a function's runs. Steps are counted by runs.

    `reused`: recorded, and not run again. `again`: recorded, and run again. `new`: in the code, and recorded by none.
    `given`: their results are given by hand. `gone`: recorded, but the code has no such step any more.
    `is_known`: all steps of the code are known; otherwise nothing is `new` or `gone`.
    """

    function: str
    runs: int
    reused: dict[str, int]
    again: dict[str, int]
    given: tuple[str, ...]
    new: tuple[str, ...]
    gone: dict[str, int]
    is_known: bool


def plan(
    recorded: RecordedSteps,
    code: Sequence[str] | None,
    *,
    is_from_start: bool = False,
    given: Collection[str] = (),
) -> FunctionPlan:
    """The plan for a function whose code has steps by these names, or any, if that is not known."""
    reused: dict[str, int] = {}
    again: dict[str, int] = {}
    gone: dict[str, int] = {}
    for key, before in recorded.kept.items():
        if key in given:
            continue
        there = before + recorded.others[key]
        kept = 0 if is_from_start else before
        if not _is_in(code, key):
            gone[key] = there
            continue
        if kept:
            reused[key] = kept
        if there > kept:
            again[key] = there - kept
    known = {name_of(key) for key in (*recorded.kept, *given)}
    return FunctionPlan(
        function=recorded.function,
        runs=recorded.runs,
        reused=reused,
        again=again,
        given=tuple(given),
        new=tuple(name for name in code or () if name not in known),
        gone=gone,
        is_known=code is not None,
    )


def name_of(key: str) -> str:
    """`charge` of `charge#2`, the second of that name."""
    numbered = _NUMBERED.fullmatch(key)
    return key if numbered is None else numbered[1]


def _is_in(code: Sequence[str] | None, key: str) -> bool:
    return code is None or name_of(key) in code


def recorded_names(recorded: Sequence[RecordedSteps]) -> list[str]:
    """The steps that any of the runs has, each once."""
    return list(dict.fromkeys(key for each in recorded for key in each.kept))


def coded_names(code: Mapping[str, Sequence[str] | None]) -> list[str] | None:
    """The steps that the code of these functions has; None if that of one is not known."""
    if any(names is None for names in code.values()):
        return None
    return list(dict.fromkeys(name for names in code.values() for name in names or ()))
