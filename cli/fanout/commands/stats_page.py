"""Figures of a stretch of time, as people see them and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.commands.columns import Column, labelled, print_table
from fanout.core import figures
from fanout.durations import period
from fanout.journal.statistics import Statistics
from fanout.model import RunState
from fanout.views.statistics import rate_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_BARS_IN_ASCII = ".:-=+*#%"
_LABEL_WIDTH = 10
_LEAST_SLICES = 12
_MOST_SLICES = 120
_BEHIND_BARS = 18
"""What is kept free for the highest number, behind the bars."""
_MOST_ROWS = 10
_HIGH_SHARE = 0.05
"""From this share of failed runs on, it is a colour's worth."""
_DAY_MS = 24 * 3600 * 1000
_WEEK_MS = 7 * _DAY_MS


def slices(out: Console) -> int:
    """Into how many slices the time is divided, a bar each."""
    return min(_MOST_SLICES, max(_LEAST_SLICES, out.width - _LABEL_WIDTH - _BEHIND_BARS))


def print_page(out: Console, found: Statistics, function: str | None, *, is_all: bool) -> None:
    total = sum(found.counts.values())
    out.print(_heading(found, function, total, is_all=is_all), soft_wrap=True)
    if total:
        out.print(_states(found), soft_wrap=True)
        out.print()
        for line in _throughput(found):
            out.print(line, soft_wrap=True)
    for columns, rows in (_functions(found), _steps(found), _errors(found)):
        if rows:
            out.print()
            print_table(out, columns, rows)
    facts = list(_facts(found))
    if facts:
        out.print()
    for name, words in facts:
        out.print(_labelled(name, words), soft_wrap=True)


def _heading(found: Statistics, function: str | None, total: int, *, is_all: bool) -> Text:
    from rich.text import Text  # lazy: `--json` doesn't draw

    of = "" if function is None else f" of {text.printable(function)}"
    since = "in all" if is_all else f"since {text.clock(found.since)}"
    rate = rate_in_words(total, found.until - found.since)
    return Text.assemble((f"{text.count(total, 'run')}{of}", "bold"), f" {since}{rate}")


def _states(found: Statistics) -> Text:
    from rich.text import Text

    line = Text()
    for state, number in found.counts.items():
        line.append("  " if line.plain else "").append(
            f"{text.symbol(state)} {number:,} {state}", style=text.style(state)
        )
    return line


def _labelled(name: str, words: str) -> Text:

    return labelled(name, _LABEL_WIDTH, words)


# Over time.


def bars(values: Sequence[int]) -> str:
    """A character for each value, the higher the fuller."""
    marks = text.drawn(_BARS, _BARS_IN_ASCII)
    return "".join(marks[level - 1] if level else " " for level in figures.levels(values, len(marks)))


def _throughput(found: Statistics) -> Iterator[Text]:
    """Bars of all runs, and of those that failed if any have; below them the times of both ends."""
    from rich.text import Text

    flow = found.throughput
    rows = [("runs", flow.runs, "cyan")]
    if any(flow.failed):
        rows.append(("failed", flow.failed, "red"))
    for name, values, style in rows:
        line = _labelled(name, "").append(bars(values), style=style)
        yield line.append(f"  up to {max(values):,}/{period(flow.slice_ms)}")
    first, last = _moment(max(flow.first_at, found.since), found), _moment(found.until, found)
    room = len(flow.runs) - len(first) - len(last)
    said = first + " " * room + last if room > 0 else f"{first} to {last}"
    yield Text(f"{'':<{_LABEL_WIDTH}}{said}", style="dim")


def _moment(at: int, found: Statistics) -> str:
    """As short as the stretch of time allows."""
    span = found.until - found.since
    form = "%H:%M" if span < _DAY_MS else "%m-%d %H:%M" if span < _WEEK_MS else "%Y-%m-%d"
    return time.strftime(form, time.localtime(at / 1000))


# The tables.


Table = tuple[tuple[Column, ...], list[list["Text"]]]


def _functions(found: Statistics) -> Table:
    from rich.text import Text

    columns = (
        Column("function", least=12),
        Column("runs", is_right=True),
        Column("failed", is_right=True),
        Column("p50", is_right=True, rank=1),
        Column("p95", is_right=True),
        Column("queued p95", is_right=True, rank=2),
    )
    rows = []
    for each in found.functions:
        runs, failed = sum(each.counts.values()), each.counts.get(RunState.FAILED, 0)
        rows.append([
            Text(text.printable(each.function)),
            Text(f"{runs:,}"),
            Text(text.percent(failed, runs), style=_failed_style(failed, runs)),
            _took(each.took.p50),
            _took(each.took.p95),
            _took(each.queued.p95),
        ])  # fmt: skip
    return columns, rows


def _failed_style(part: int, whole: int) -> str:
    if not part:
        return "dim"
    return "red" if part >= _HIGH_SHARE * whole else "yellow"


def _took(milliseconds: int | None) -> Text:
    from rich.text import Text

    return Text("-", style="dim") if milliseconds is None else Text(text.duration(milliseconds))


def _steps(found: Statistics) -> Table:
    from rich.text import Text

    columns = (
        Column("slowest steps", least=12),
        Column("function", least=10, rank=1),
        Column("times", is_right=True, rank=2),
        Column("p50", is_right=True),
        Column("p95", is_right=True),
    )
    rows = [
        [
            Text(text.printable(each.step)),
            Text(text.printable(each.function), style="dim"),
            Text(f"{each.number:,}"),
            _took(each.took.p50),
            _took(each.took.p95),
        ]
        for each in found.steps[:_MOST_ROWS]
    ]
    return columns, rows


def _errors(found: Statistics) -> Table:
    from rich.text import Text

    columns = (
        Column("errors", least=16),
        Column("times", is_right=True),
        Column("last", rank=2),
        Column("function", least=10, rank=1),
        Column("run"),
    )
    rows = [
        [
            Text(text.first_line(f"{each.type}: {each.message}" if each.message else each.type), style="red"),
            Text(f"{each.number:,}"),
            Text(text.clock(each.last_at)),
            Text(text.printable(each.function), style="dim"),
            Text(text.short_id(each.last_run), style="dim"),
        ]
        for each in found.errors[:_MOST_ROWS]
    ]
    return columns, rows


def _facts(found: Statistics) -> Iterator[tuple[str, str]]:
    attempts = found.attempts
    if attempts.failed:
        yield "attempts", f"{attempts.failed:,} failed, {attempts.retried:,} tried again"
    if attempts.crashes:
        yield "crashes", f"{attempts.crashes:,}: a worker died of a run"
    cron = found.cron
    if cron.late.p50 is not None and cron.late.p95 is not None:
        late = f"began {text.duration(cron.late.p50)} late (p50), {text.duration(cron.late.p95)} (p95)"
        yield "cron", f"{text.count(cron.ticks, 'tick')}, {late}"


def hints(found: Statistics, since: str) -> Iterator[str]:
    """What the figures leave out."""
    if not found.are_all_runs_timed:
        yield f"times are of the newest {found.timed_runs:,} runs"
    if not found.are_all_failures_counted:
        yield f"errors are counted among the newest {found.failures:,} failed attempts"
    for what, number in (("steps", len(found.steps)), ("errors", len(found.errors))):
        if number > _MOST_ROWS:
            yield f"`--json` has all of the {number:,} {what}"
    if not found.counts and since != "all":
        yield "`--since all` looks at all there is"
