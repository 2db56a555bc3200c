"""`fanout why`: what a run waits for, or what became of it, in one sentence."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import reasons


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="why", help=help_)(why)


def why(
    run: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        found = reader.run(run)
        reason = reasons.reason(reader, found, text.now())
    if as_json:
        said = {"run": found.id, "function": found.function, "state": found.state, **reasons.as_json(reason)}
        report.print_json(said)
        return
    print(f"`{text.printable(found.function)}` {text.shown(reason.words)}")
    if reason.hint is not None:
        say(f"hint: {reason.hint}")
