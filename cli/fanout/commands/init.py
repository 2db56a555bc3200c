"""`fanout init`: a project to begin with."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fanout.commands.app import say
from fanout.commands.options import Json
from fanout.starter import Started, write_starter


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="init", help=help_)(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Where; it is made if it is not there.")] = Path(),
    template: Annotated[
        str | None,
        typer.Option(metavar="TEMPLATE", help="`signup`, `documents`, `cron` or `minimal`.", show_default="signup"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The app's id.", show_default="the folder's name")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Json = False,
) -> None:
    started = write_starter(folder, template, name=name, may_replace=force)
    commands = _next(folder, started)
    if as_json:
        from fanout.commands import report  # lazy: it knows the journal, too

        report.print_json(
            {
                "folder": str(folder.resolve()),
                "name": started.name,
                "template": started.template,
                "written": [str(path) for path in started.written],
                "kept": [str(path) for path in started.kept],
                "next": list(commands),
            }
        )
        return
    for path in started.written:
        print(path)
    _say_what_is_left(started)
    width = max(map(len, commands))
    say("\nnext:")
    for command, meaning in commands.items():
        say(f"  {command:<{width}}  {meaning}".rstrip())


def _next(folder: Path, started: Started) -> dict[str, str]:
    """What to type now, and what it does."""
    commands = {} if folder.resolve() == Path.cwd() else {f"cd {shlex.quote(str(folder))}": ""}
    event = next((path for path in started.written if path.suffix == ".json"), None)
    if event is None:
        return commands | {"fanout check": "load the functions, and say what is wrong"}
    has_pytest = find_spec("pytest") is not None
    schedules = {"fanout cron list": "see when the schedule ticks"} if started.template == "cron" else {}
    return {
        **commands,
        f"fanout send {event.relative_to(folder)}": "send an event, and see what it starts",
        **schedules,
        "fanout dev watch": "run everything, and load the code again when it is saved",
        "pytest": "test the functions" + ("" if has_pytest else "; `pip install pytest` first"),
    }


def _say_what_is_left(started: Started) -> None:
    for path in started.kept:
        if path.name == ".gitignore" and ".fanout" not in path.read_text(encoding="utf-8", errors="replace"):
            say(f"hint: `{path}` is there already; add a line `.fanout/` to it")
