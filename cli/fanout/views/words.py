"""Values as people read them. Whatever comes from outside is made printable: no colour, no cursor moves, no markup."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fanout.journal.family import FamilyRun
from fanout.model import Run, RunState, StepState

ULID_LENGTH = 26
MORE = "…"
"""Stands for what was cut off."""
TIMES = "\N{MULTIPLICATION SIGN}"
_LONGEST_KEY = 24
_UNITS = ("B", "KB", "MB", "GB", "TB")
_UNIT = 1_000

SYMBOLS = {
    RunState.QUEUED: "·",
    RunState.RUNNING: "»",
    RunState.WAITING: "↻",
    RunState.COMPLETED: "✓",
    RunState.FAILED: "✗",
    RunState.CANCELLED: "⊘",
    RunState.SKIPPED: "-",
}
_STEP_STATES = {
    StepState.RUNNING: RunState.RUNNING,
    StepState.RETRYING: RunState.WAITING,
    StepState.WAITING: RunState.WAITING,
    StepState.COMPLETED: RunState.COMPLETED,
    StepState.FAILED: RunState.FAILED,
    StepState.CANCELLED: RunState.CANCELLED,
}


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text with every control character made visible; line breaks stay if they may."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or (keep_lines and character in "\n\t") else ascii(character)[1:-1]
        for character in text
    )


def first_line(text: str, width: int = 200) -> str:
    return cut(printable(text.strip().split("\n", 1)[0]), width)


def cut(said: str, width: int, sign: str = MORE) -> str:
    """As much of it as there is room for, and a sign if that is not all."""
    return said if len(said) <= width else said[: max(0, width - 1)] + sign


def as_run_state(state: RunState | StepState) -> RunState:
    return _STEP_STATES[state] if isinstance(state, StepState) else state


def symbol(state: RunState | StepState) -> str:
    """One character for the state, that can be told apart without colour."""
    return SYMBOLS[as_run_state(state)]


def duration(milliseconds: int) -> str:
    """`42 ms`, `3.1 s`, `2 m 5 s`, `3 h 20 m`."""
    if milliseconds < 1_000:  # noqa: PLR2004 - a second
        return f"{max(milliseconds, 0)} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} m {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m"


def clock(milliseconds: int | None, *, is_short: bool = False) -> str:
    """Local time; with the date if it is not today's, or in short only the date then."""
    if milliseconds is None:
        return "-"
    moment = time.localtime(milliseconds / 1_000)
    if moment[:3] == time.localtime()[:3]:
        return time.strftime("%H:%M:%S", moment)
    return time.strftime("%Y-%m-%d" if is_short else "%Y-%m-%d %H:%M:%S", moment)


def took(run: Run | FamilyRun) -> str:
    """How long it has taken since its first start, or nothing if it has not started."""
    if run.started_at is None:
        return ""
    return duration((run.ended_at or now()) - run.started_at)


def name(run: FamilyRun) -> str:
    """The function, and of a map which item: by its key, or by its number from 0."""
    if run.item is None:
        return printable(run.function)
    item = str(run.item) if run.item_key is None else first_line(run.item_key, _LONGEST_KEY)
    return f"{printable(run.function)}[{item}]"


def now() -> int:
    return time.time_ns() // 1_000_000


def short_id(id_: str) -> str:
    """Enough of an id of ours to find it by: its end tells ids apart, its beginning only says when."""
    return id_[-10:] if len(id_) == ULID_LENGTH else printable(id_)


def times(number: int) -> str:
    """How many there are of something, behind its name."""
    return f"{TIMES}{number:,}"


def states(counts: Mapping[RunState, int]) -> list[str]:
    """`49,990 completed`, `10 failed`, ..."""
    return [f"{number:,} {state}" for state, number in sorted(counts.items())]


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(part: int, whole: int) -> str:
    """`0.02%`, `3.1%`, `100%`; a dash for none at all. What is there never looks like nothing, nor like all."""
    if not part:
        return "-"
    if part == whole:
        return "100%"
    share = 100 * part / whole
    if share < 0.01:  # noqa: PLR2004 - the last digit that is shown
        return "<0.01%"
    return f"{share:.2f}%" if share < 1 else f"{min(share, 99.9):.1f}%"


def size(number: float) -> str:
    """`512 B`, `4.1 MB`."""
    unit = 0
    while number >= _UNIT and unit < len(_UNITS) - 1:
        number /= _UNIT
        unit += 1
    return f"{number:.0f} B" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean ...?`, if one of the known names is like it."""
    import difflib  # lazy: only when something is odd

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{printable(close[0])}`?" if close else ""
