"""`fanout runs` and `fanout runs show`: what ran, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import filters, report, run_list
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.journal.sqlite_reader import JournalReader
from fanout.views.runs import run_json

runs_app = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(runs_app, name="runs", help=help_)


@runs_app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    status: filters.Status = None,
    failed: filters.Failed = False,
    function: filters.Function = None,
    event: filters.Event = None,
    since: filters.Since = None,
    until: filters.Until = None,
    error: filters.Error = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that are new or change.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    options = filters.Options(status, failed, function, event, since, until, error)
    meant = options.as_filter()
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        if follow:
            run_list.follow(reader, meant, limit, as_json=as_json)
        found = reader.runs(meant, limit=limit, outputs=as_json)
        if as_json:
            report.print_json({"runs": [run_json(run, has_steps=False) for run in found]})
        elif found:
            run_list.print_table(found)
        else:
            nothing = "no runs yet" if options == filters.Options() else "no such runs"
            say(nothing + filters.unknown_function(reader, options))


@runs_app.command(name="show", help="One run with its steps, attempts and errors.")
def show(
    run: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    from fanout.commands import run_page  # lazy: the list does without
    from fanout.views import run as run_view

    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        page = run_view.read(reader, reader.run(run))
    if as_json:
        report.print_json(run_view.as_json(page))
    else:
        run_page.print_page(page)
