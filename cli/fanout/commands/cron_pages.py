"""Schedules, their ticks and what the clocks' changes do to them, as people see them and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.views.cron import Next, Row, edge_in_words, in_time, milliseconds
from fanout.views.function_words import schedule_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NARROW = 70
"""Columns below which each has lines of its own instead of a row."""
_TICKS_LOOKED_AT = 50
"""So many of a function's newest ticks are looked at, to find the last one of each of its triggers."""
_EDGES_WITHIN = timedelta(days=366)
_DAY_MS = 24 * 3600 * 1000


# The list.


def print_rows(out: Console, found: Sequence[Row], now: int) -> None:
    """A row for each trigger, or on a narrow terminal a few lines."""
    from rich.table import Table  # lazy: `--json` doesn't draw
    from rich.text import Text

    if out.width < NARROW:
        for row in found:
            _print_narrow(out, row, now)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("function", "schedule", "last tick", "next tick"):
        table.add_column(heading, overflow="fold")
    for row in found:
        words, expression = _when(row)
        schedule = Text(words).append(f"\n{expression}", style="dim")
        cells = (_function(row), [schedule], _last(row), _next_tick(row, now))
        table.add_row(*(Text("\n").join(cell) for cell in cells))
    out.print(table)


def _print_narrow(out: Console, row: Row, now: int) -> None:
    from rich.text import Text

    name, *marks = _function(row)
    words, expression = _when(row)
    # The id of a tick's run finds no room here.
    last = [Text("last")] * (row.last is not None) + _last(row)[:2]
    following = [Text("next")] * (row.next_at is not None) + _next_tick(row, now)
    out.print(name, soft_wrap=True)
    for line in (*marks, Text(words), Text(expression, style="dim"), Text(" ").join(last), Text(" ").join(following)):
        out.print(Text("  ").append(line), soft_wrap=True)


def _function(row: Row) -> Iterator[Text]:
    """Its id, and what keeps its runs from being started."""
    from rich.text import Text

    yield Text(text.printable(row.known.spec.id), style="" if row.known.is_present else "dim")
    if row.known.is_present and row.known.is_stale:
        yield Text("could not be loaded", style="bold red")
    if row.known.paused_at is not None:
        yield Text("paused", style="yellow")


def _when(row: Row) -> tuple[str, str]:
    return schedule_in_words(row.known.spec, row.trigger), text.printable(row.trigger.expression)


def _last(row: Row) -> list[Text]:
    from rich.text import Text

    if row.last is None:
        return [Text("no tick yet", style="dim")]
    state = row.last.state
    became = Text(f"{text.symbol(state)} {state}", style=text.style(state))
    return [Text(text.clock(row.last.scheduled_at)), became, Text(text.short_id(row.last.run), style="dim")]


def _next_tick(row: Row, now: int) -> list[Text]:
    from rich.text import Text

    if not row.known.is_present:
        return [Text("not in the code", style="dim")]
    if row.next_at is None:
        return [Text("unknown here", style="yellow")]
    return [Text(text.clock(row.next_at)), Text(in_time(row.next_at - now), style="dim")]


# The next ticks of one trigger.


def next_lines(found: Next, now: int, *, is_narrow: bool) -> list[str]:
    """The trigger in words; its ticks by its own clock and in UTC; what the changes of that clock do."""
    words, expression = schedule_in_words(found.spec, found.trigger), text.printable(found.trigger.expression)
    lines = [words, f"  {expression}"] if is_narrow else [f"{words}  ({expression})"]
    for tick in found.ticks:
        here = f"{tick.astimezone(found.zone):%a %Y-%m-%d %H:%M:%S %Z}"
        everywhere = [] if found.trigger.zone == "UTC" else [f"{tick:%Y-%m-%d %H:%M:%S} UTC"]
        if is_narrow:
            lines += [f"  {here}", *(f"      {each}" for each in everywhere)]
        else:
            lines.append("  " + "  ".join((here, *everywhere, in_time(milliseconds(tick) - now))))
    return [*lines, *(f"  {edge.low:%Y-%m-%d}: {edge_in_words(edge)}" for edge in found.edges)]
