"""`fanout logs`: what a run has printed and logged."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, JsonLines
from fanout.commands.project import project
from fanout.engine import lock
from fanout.journal.logs import MOST_LINES, LogLine, LogSize, logs_path
from fanout.journal.sqlite_logs import LogReader
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run
from fanout.views.logs import line_json, mark, where

if TYPE_CHECKING:
    from rich.console import Console

_LOOK_EVERY_S = 0.1
_LINES_A_LOOK = 2_000
_STREAMS = ("stdout", "stderr")
_STYLES = {
    "stderr": "dim", "debug": "dim", "info": "cyan", "warning": "yellow", "error": "red", "critical": "bold red",
}  # fmt: skip


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="logs", help=help_)(logs)


def logs(
    run: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    step: Annotated[str | None, typer.Option(help="Only what this step's own code wrote.", show_default=False)] = None,
    as_json: JsonLines = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    journal, redact = settings.journal, settings.redact
    with JournalReader(journal, redact=redact) as reader, LogReader(logs_path(journal), redact=redact) as log:
        found = reader.run(run)
        if follow and not found.state.is_final and lock.holder(journal) is None:
            say("hint: no engine is running; `fanout serve` goes on with this run")
        shown = _Shown(found.id, as_json=as_json)
        for lines in _looks(reader, log, found, step, is_following=follow):
            shown.show(lines)
        size = log.size(found.id)
    _say_rest(found, step, shown.number, size)


def _looks(
    reader: JournalReader, log: LogReader, run: Run, step: str | None, *, is_following: bool
) -> Iterator[list[LogLine]]:
    """What there is, and if it is followed what is added, until the run is over."""
    after = 0
    while True:
        # First the run, then its lines: those of a run that is over are there.
        is_over = not is_following or run.state.is_final
        while lines := log.lines(run.id, after=after, step=step, limit=_LINES_A_LOOK):
            after = lines[-1].number
            yield lines
        if is_over:
            return
        time.sleep(_LOOK_EVERY_S)
        there = reader.runs_by_key([run.key])
        if not there:
            return  # Somebody has removed it, and its log too.
        run = there[0]


def _say_rest(run: Run, step: str | None, number: int, size: LogSize) -> None:
    if size.left_out:
        say(f"hint: {text.count(size.left_out, 'more line')} left out: of a run {MOST_LINES:,} are kept")
    if number:
        return
    if step is None:
        say(f"{text.short_id(run.id)} has {'' if run.state.is_final else 'so far '}printed and logged nothing")
        return
    say(f"step `{text.printable(step)}` of {text.short_id(run.id)} has printed and logged nothing")
    near = text.nearest(step, [each.name for each in run.steps if each.name != step]).removeprefix("; ")
    if near:
        say(f"hint: {near}")


class _Shown:
    """Prints lines as they come; the column of steps grows with what is in it."""

    def __init__(self, run: str, *, as_json: bool) -> None:
        self.number = 0
        self._run = run
        self._as_json = as_json
        self._width = 1
        self._console: Console | None = None if as_json or not sys.stdout.isatty() else report.console()

    def show(self, lines: Sequence[LogLine]) -> None:
        self.number += len(lines)
        if self._as_json:
            for line in lines:
                report.print_json(line_json(self._run, line))
            return
        heads = [(f"{text.clock(line.at)}.{line.at % 1000:03}", text.shown(where(line))) for line in lines]
        self._width = max(self._width, *(len(place) for _, place in heads))
        for (at, place), line in zip(heads, lines, strict=True):
            self._print(at, place.ljust(self._width), line)
        sys.stdout.flush()

    def _print(self, at: str, place: str, line: LogLine) -> None:
        before, style = mark(line), _STYLES.get(line.source, "")
        first, *more = (text.printable(each, keep_lines=True) for each in line.text.split("\n"))
        rows = [(f"{at}  {place}  ", before, first)]
        # What belongs to the same record stands below its beginning.
        rows += [(" " * (len(at) + self._width + 4), "", each) for each in more]
        for head, its_mark, said in rows:
            if self._console is None:
                print(f"{head}{its_mark}{said}")
            else:
                from rich.text import Text  # lazy: only a terminal needs it

                is_dim = line.source == "stderr"
                parts = Text.assemble((head, "dim"), (its_mark, style), (said, style if is_dim else ""))
                self._console.print(parts, soft_wrap=True)
