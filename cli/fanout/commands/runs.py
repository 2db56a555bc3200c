"""`fanout runs` and `fanout runs show`: what ran, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import report, run_page, text
from fanout.commands.app import say
from fanout.commands.waiting import project
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, RunState

_NARROW = 70
"""Columns below which the list says less, so that what it says can be read."""

runs_app = typer.Typer(rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigPath = Annotated[str | None, typer.Option("--config", help="The fanout.toml to use.", show_default=False)]


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(runs_app, name="runs", help=help_)


@runs_app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    status: Annotated[
        list[RunState] | None, typer.Option(help="Only these; may be given several times.", show_default=False)
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --status failed.")] = False,
    function: Annotated[str | None, typer.Option(help="Only of this function.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    states = [*(status or ()), *((RunState.FAILED,) if failed else ())]
    with JournalReader(project(config).journal) as reader:
        found = reader.runs(states=states, function=function, limit=limit)
    if as_json:
        report.print_json({"runs": [report.run_json(run, has_steps=False) for run in found]})
    elif not found:
        say("no runs yet" if not states and function is None else "no such runs")
    else:
        _print_table(found)


@runs_app.command(name="show", help="One run with its steps, attempts and errors.")
def show(
    run: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    with JournalReader(project(config).journal) as reader:
        page = run_page.read(reader, reader.run(run))
    if as_json:
        report.print_json(run_page.as_json(page))
    else:
        run_page.print_page(page)


def _print_table(runs: list[Run]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    out = report.console()
    is_narrow = out.width < _NARROW
    for heading in ("run", "state", "function", *(() if is_narrow else ("event", "began")), "took"):
        # Where room is short only the columns that may wrap give way, which their text then doesn't: half an id finds
        # nothing.
        table.add_column(heading, no_wrap=heading not in ("function", "event"), overflow="ellipsis")
    for run in runs:
        state = Text(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))
        table.add_row(
            # The end of an id tells runs apart, the beginning only says when; `show` takes either.
            Text(run.id[-10:]),
            state,
            Text(text.printable(run.function), no_wrap=True, overflow="ellipsis"),
            *(
                ()
                if is_narrow
                else (
                    Text(text.printable(run.event_name), style="dim", no_wrap=True, overflow="ellipsis"),
                    Text(text.clock(run.started_at or run.queued_at)),
                )
            ),
            Text(text.took(run) if run.due_at is None else f"until {text.clock(run.due_at, is_short=True)}"),
        )
    out.print(table)
