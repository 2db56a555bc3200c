"""`fanout stats`: how many runs there were, how long they took, and what failed."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import report, stats_page, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.errors import NotFoundError
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import statistics
from fanout.views.filters import moment

_ALL = "all"
_DAY = "24h"
_SLICES_AS_JSON = 60


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="stats", help=help_)(stats)


def stats(
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Runs queued since: `2h` ago, 2025-10-26T02:30, or `all`.")
    ] = _DAY,
    function: Annotated[
        str | None, typer.Option("--function", metavar="ID", help="Only of this function.", show_default=False)
    ] = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    first = None if since == _ALL else moment("--since", since)
    out = report.console()
    slices = _SLICES_AS_JSON if as_json else stats_page.slices(out)
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        found = reader.statistics(first, text.now(), function, most_slices=slices)
        if function is not None and not found.counts:
            _check(function, reader)
    if as_json:
        report.print_json(statistics.as_json(found, function))
        return
    stats_page.print_page(out, found, function, is_all=first is None)
    for hint in stats_page.hints(found, since):
        say(f"hint: {hint}")


def _check(function: str, reader: JournalReader) -> None:
    known = [each.spec.id for each in reader.functions()]
    if function not in known:
        near = text.nearest(function, known).removeprefix("; ")
        raise NotFoundError(f"there is no function `{function}`", hint=near or "`fanout functions` lists them")
