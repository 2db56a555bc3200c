"""`fanout cancel`: end runs that are going on or waiting, and what they have invoked."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.client import Connection
from fanout.commands import report, text, waiting
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.errors import UsageError
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, RunState
from fanout.views.runs import run_json


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="cancel", help=help_)(cancel)


def cancel(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        chosen = list(dict.fromkeys(_live(reader, id_) for id_ in runs))
    asked_at = text.now()

    def put(client: Connection) -> Watched:
        return Watched(request=client.request("cancel", {"runs": chosen}))

    waiting.put_and_ask(settings, put)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        found = reader.runs_with_steps(chosen, outputs=as_json)
        ended = [(found[key], reader.cancelled_children(key, asked_at)) for key in chosen]
    if as_json:
        report.print_json({"runs": [{**run_json(run), "cancelled_children": children} for run, children in ended]})
        return
    out = report.console()
    for run, children in ended:
        out.print(_line(run, children), soft_wrap=True)


def _live(reader: JournalReader, id_: str) -> int:
    run = reader.run(id_)
    if run.state.is_final:
        raise UsageError(f"the run `{run.id}` is {run.state}: only one that has not ended can be cancelled")
    return run.key


def _line(run: Run, children: int) -> object:
    from rich.text import Text  # lazy: `--json` doesn't draw

    line = Text(f"{run.id}  ")
    line.append(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))
    line.append(f"  {text.printable(run.function)}")
    if children:
        line.append(f", and {text.count(children, 'run')} that it had invoked")
    if run.state.is_final and run.state is not RunState.CANCELLED:
        line.append(": it ended before it could be cancelled")
    return line
