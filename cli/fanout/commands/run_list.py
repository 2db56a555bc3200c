"""Runs, a line each: as a table, or as they come and change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from fanout.commands import report, text
from fanout.commands.columns import Column
from fanout.commands.columns import print_table as print_lines
from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, RunState
from fanout.views.runs import run_json

if TYPE_CHECKING:
    from rich.text import Text

_NARROW = 70
"""Columns below which the list says less, so that what it says can be read."""
_WIDE = 100
"""Columns from which on a day that is not today has its time as well."""
_LOOK_EVERY_S = 0.1
_FUNCTION_WIDTH = 24
_LEAST_FUNCTION = 8
_EVENT_WIDTH = 20
_OTHERS_WIDTH = 36
"""What the other columns of a narrow line take."""


_COLUMNS = (
    Column("run"),
    Column("state"),
    Column("function", least=8),
    Column("event", least=8, rank=2),
    Column("began", rank=1),
    Column("took"),
    Column("", rank=3),
)


def print_table(runs: Sequence[Run]) -> None:
    """A line each. Ids are whole where this is not a terminal: what reads it there may look them up."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    out = report.console()
    is_crowded = out.is_terminal and out.width < _WIDE
    rows = [
        (
            # The end of an id tells runs apart, the beginning only says when; `show` takes either.
            Text(text.short_id(run.id) if out.is_terminal else run.id),
            _state(run),
            Text(text.printable(run.function)),
            Text(text.printable(run.event_name), style="dim"),
            Text(text.clock(run.started_at or run.queued_at, is_short=is_crowded)),
            Text(_time(run)),
            Text(_marks(run) if is_crowded else _links(run), style="dim"),
        )
        for run in runs
    ]
    print_lines(out, _COLUMNS if any(row[-1] for row in rows) else _COLUMNS[:-1], rows)


def _state(run: Run) -> Text:
    from rich.text import Text

    return Text(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))


def _time(run: Run) -> str:
    return text.took(run) if run.due_at is None else f"until {text.clock(run.due_at, is_short=True)}"


def _links(run: Run) -> str:
    """From which run this one comes, and which one came from it."""
    of = "" if run.replay_of is None else f"replay of {text.short_id(run.replay_of)}"
    by = "" if run.replayed_by is None else f"replayed by {text.short_id(run.replayed_by)}"
    return ", ".join(filter(None, (of, by)))


def _marks(run: Run) -> str:
    """The same where there is no room: a replay, and one that was replayed."""
    of, by = text.drawn("↩", "<-"), text.drawn("↪", "->")
    return (of if run.replay_of else "") + (by if run.replayed_by else "")


# As they come.


def follow(reader: JournalReader, meant: RunFilter, limit: int, *, as_json: bool) -> NoReturn:
    """The newest runs that are meant, then each that is new or changes, a line at a time, until Ctrl-C."""
    followed = _Followed(reader, meant)
    _print(reader.runs(meant, limit=limit, outputs=as_json)[::-1], as_json=as_json)
    while True:
        began = time.monotonic()
        if found := followed.changed():
            _print(reader.runs_by_key(found, outputs=as_json), as_json=as_json)
        # Of many live runs a look takes a while: most of the time is for others.
        time.sleep(max(_LOOK_EVERY_S, 4 * (time.monotonic() - began)))


class _Followed:
    """Knows the states of the runs that can still change."""

    def __init__(self, reader: JournalReader, meant: RunFilter) -> None:
        self._reader = reader
        self._meant = meant
        # In this order: what happens in between is seen twice, and not missed.
        self._version = reader.data_version()
        self._last = reader.last_run_key()
        self._live = reader.states_since(self._last, reader.live_keys(meant), meant)

    def changed(self) -> list[int]:
        """Keys of runs that are meant and are new, or are in another state than before."""
        version = self._reader.data_version()
        if version == self._version:
            return []
        self._version = version
        states = self._reader.states_since(self._last, self._live, self._meant)
        found = [key for key, state in states.items() if self._live.get(key) is not state and self._is_meant(state)]
        self._last = max((self._last, *states))
        self._live = {key: state for key, state in states.items() if not state.is_final}
        return found

    def _is_meant(self, state: RunState) -> bool:
        return not self._meant.states or state in self._meant.states


def _print(runs: Sequence[Run], *, as_json: bool) -> None:
    if as_json:
        for run in runs:
            report.print_json(run_json(run, has_steps=False))
        return
    out = report.console()
    for run in runs:
        out.print(_line(run, out.width), no_wrap=True, overflow="ellipsis", crop=out.is_terminal)
    out.file.flush()


def _line(run: Run, width: int) -> Text:
    """The same columns as the table, of fixed width: nobody knows what comes."""
    from rich.text import Text

    is_narrow = width < _NARROW
    state = f"{text.symbol(run.state)} {run.state:<9}"
    line = Text(f"{text.short_id(run.id)}  ").append(state, style=text.style(run.state))
    room = max(_LEAST_FUNCTION, width - _OTHERS_WIDTH) if is_narrow else _FUNCTION_WIDTH
    line.append(f"  {text.cut(text.printable(run.function), room):<{room}}")
    if not is_narrow:
        line.append(f"  {text.cut(text.printable(run.event_name), _EVENT_WIDTH):<{_EVENT_WIDTH}}", style="dim")
        line.append(f"  {text.clock(run.ended_at or run.started_at or run.queued_at)}")
    line.append(f"  {_time(run)}")
    links = _marks(run) if is_narrow else _links(run)
    return line.append(f"  {links}", style="dim") if links else line
