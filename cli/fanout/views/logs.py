"""What a run has printed and logged: where each line comes from in words, and lines as JSON."""

from __future__ import annotations

from typing import Any

from fanout.journal.logs import LogLine
from fanout.views import words

_WIDEST_STEP = 32


def where(line: LogLine) -> str:
    """As in `charge, attempt 2`; a dash where there is neither a step nor a second attempt."""
    step = "" if line.step is None else words.first_line(line.step, _WIDEST_STEP)
    attempt = f"attempt {line.attempt + 1}" if line.attempt else ""
    return ", ".join(part for part in (step, attempt) if part) or "-"


def mark(line: LogLine) -> str:
    """What tells it from a line of stdout."""
    if line.logger is None:
        return "" if line.source == "stdout" else f"{line.source}: "
    is_usual = line.logger == "root" or line.logger.startswith("fanout.")
    return f"{words.printable(line.source)}{'' if is_usual else f' ({words.printable(line.logger)})'}: "


def line_json(run: str, line: LogLine) -> dict[str, Any]:
    """`attempt` counts from 0, as the failures of `runs show` do; what was printed has a stream, a record a level."""
    is_printed = line.logger is None
    return {
        "run": run,
        "step": line.step,
        "attempt": line.attempt,
        "at": line.at,
        "stream": line.source if is_printed else None,
        "level": None if is_printed else line.source,
        "logger": line.logger,
        "text": line.text,
    }
