"""`fanout trace`: all that an event has caused, from any event or run of it."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.commands.tree import Traced, tree
from fanout.journal.family import Family, Member
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import trace as trace_views
from fanout.views.trace import MOST_MEMBERS

_MOST_LINES = 200


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="trace", help=help_)(trace)


def trace(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="EVENT|RUN",
            help="The id of an event or a run, or enough of its beginning or end.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        event, run = reader.event_or_run(id_)
        family, levels_above = reader.trace(event, run, limit=MOST_MEMBERS)
        marked: Member = family.events[event] if run is None else family.runs[run]
        if as_json:
            report.print_json(trace_views.as_json(reader, family, marked))
            return
        _print(reader, family, marked)
    if levels_above:
        above = text.count(levels_above, "level")
        say(f"hint: {above} above this one left out; `fanout trace {family.roots[0].id}` shows more of them")
    if family.is_cut:
        say(f"hint: there are more runs than can be shown: these are {len(family.runs):,} of them")
    if not family.runs:
        say("hint: no function has been started by it")


def _print(reader: JournalReader, family: Family, marked: Member) -> None:
    from rich.console import Group  # lazy: `--json` doesn't draw

    out = report.console()
    since = family.roots[0].received_at
    lines = tree(family, reader.runs_with_steps, out.width, most_lines=_MOST_LINES, traced=Traced(since, marked))
    out.print(Group(*lines))
    ends = [text.now() if run.ended_at is None else run.ended_at for run in family.runs.values()]
    seconds = (max(ends, default=since) - since) / 1000
    out.print(report.summary(family.counts, seconds, f"`{text.printable(family.roots[0].name)}`"), soft_wrap=True)
