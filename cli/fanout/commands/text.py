"""The words of `views.words` as a terminal shows them: with symbols and colours, in ASCII where it has nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from fanout.journal.family import FamilyRun
from fanout.model import RunState, StepState
from fanout.views import words
from fanout.views.words import (
    SYMBOLS,
    ULID_LENGTH,
    as_run_state,
    clock,
    count,
    duration,
    nearest,
    now,
    percent,
    printable,
    short_id,
    size,
    took,
)

__all__ = [
    "ASCII_SYMBOLS",
    "STYLES",
    "SYMBOLS",
    "ULID_LENGTH",
    "as_run_state",
    "clock",
    "count",
    "cut",
    "drawn",
    "duration",
    "first_line",
    "name",
    "nearest",
    "now",
    "percent",
    "printable",
    "short_id",
    "shown",
    "size",
    "states",
    "style",
    "symbol",
    "times",
    "took",
]

ASCII_SYMBOLS = {"·": ".", "»": ">", "↻": "~", "✓": "+", "✗": "x", "⊘": "/", "-": "-"}
_IN_ASCII = {words.MORE: "~", words.TIMES: "x"}
STYLES = {
    RunState.QUEUED: "dim",
    RunState.RUNNING: "cyan",
    RunState.WAITING: "yellow",
    RunState.COMPLETED: "green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "magenta",
    RunState.SKIPPED: "dim",
}


def first_line(text: str, width: int = 200) -> str:
    return shown(words.first_line(text, width))


def cut(said: str, width: int) -> str:
    """As much of it as there is room for, and a sign if that is not all."""
    return words.cut(said, width, drawn(words.MORE, _IN_ASCII[words.MORE]))


def shown(said: str) -> str:
    """Words with the signs that they are made of, or what stands for those where they can't be shown."""
    for sign, in_ascii in _IN_ASCII.items():
        if sign in said:
            said = said.replace(sign, drawn(sign, in_ascii))
    return said


def symbol(state: RunState | StepState, encoding: str | None = None) -> str:
    """One character for the state, that can be told apart without colour."""
    mark = words.symbol(state)
    return drawn(mark, ASCII_SYMBOLS[mark], encoding)


def drawn(mark: str, in_ascii: str, encoding: str | None = None) -> str:
    """The mark, or what stands for it where it can't be shown."""
    try:
        mark.encode(encoding or sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return in_ascii
    return mark


def style(state: RunState | StepState) -> str:
    return STYLES[as_run_state(state)]


def name(run: FamilyRun) -> str:
    """The function, and of a map which item: by its key, or by its number from 0."""
    return shown(words.name(run))


def times(number: int) -> str:
    """How many there are of something, behind its name."""
    return shown(words.times(number))


def states(counts: Mapping[RunState, int]) -> list[tuple[str, str]]:
    """`49,990 completed`, `10 failed`, ..., each with its style."""
    return [(said, style(state)) for said, state in zip(words.states(counts), sorted(counts), strict=True)]
