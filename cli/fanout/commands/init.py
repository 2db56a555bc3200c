"""`fanout init`: a project to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fanout.commands.app import say


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="init", help=help_)(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Where; it is made if it is not there.")] = Path(),
) -> None:
    from fanout.starter import write_starter  # lazy: nothing else needs a TOML writer

    written = write_starter(folder)
    for path in written:
        print(path)
    event = next((path for path in written if path.suffix == ".json"), None)
    if event is not None:
        there = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
        say(f"hint: `{there}fanout send {event.relative_to(folder)}` runs it")
