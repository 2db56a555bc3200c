"""`fanout init`: a project to begin with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

from fanout.commands.app import say
from fanout.commands.options import Json
from fanout.starter import TEMPLATES, Started, write_starter

_SET_UP = ("pyproject.toml", "pytest.toml", "pytest.ini", "tox.ini", "setup.cfg")
"""Where pytest's settings may be."""


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="init", help=help_)(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Where; it is made if it is not there.")] = Path(),
    template: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="`signup` (one event, several functions), `documents` (one run for each part), `cron` (a schedule) or "
            "`minimal`.",
            show_default="signup",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The app's id.", show_default="the folder's name")
    ] = None,
    as_json: Json = False,
) -> None:
    started = write_starter(folder, template, name=name)
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
    for line in (*_what_was_there(folder, started), "\nnext:", *_lines(commands)):
        say(line)
    if template is None and folder.name in TEMPLATES:
        say(f"\nhint: `{folder.name}` is the folder; a template is named by `--template {folder.name}`")


def _next(folder: Path, started: Started) -> dict[str, str]:
    """What to type now, and what it does."""
    commands = {} if folder.resolve() == Path.cwd() else {f"cd {shlex.quote(str(folder))}": ""}
    event = next((path for path in started.written if path.suffix == ".json"), None)
    if event is None:
        return commands | {"fanout check": "load the functions, and say what is wrong"}
    schedules = {"fanout cron list": "see when the schedule ticks"} if started.template == "cron" else {}
    # Where the tests are a package, pytest finds the package `functions` beside them, unless it is set up otherwise.
    is_found = (folder / "tests" / "__init__.py").exists() and not any((folder / each).exists() for each in _SET_UP)
    test = "pytest" if is_found else "python -m pytest"
    has_pytest = find_spec("pytest") is not None
    return {
        **commands,
        f"fanout send {event.relative_to(folder)}": "send an event, and see what it starts",
        **schedules,
        "fanout dev watch": "run everything, and load the code again when it is saved",
        test: "test the functions" + ("" if has_pytest else "; `pip install pytest` first"),
    }


def _what_was_there(folder: Path, started: Started) -> Iterator[str]:
    if started.kept:
        yield f"kept as they were: {', '.join(map(str, started.kept))}"
    for path in started.kept:
        if path.name == ".gitignore" and not _knows_the_journal(path):
            yield f"hint: add a line `.fanout/` to `{path}`: the journal is for this machine"
    if started.template is None:
        yield f"`{folder / 'functions'}` was there already: no example was put into it"


def _knows_the_journal(gitignore: Path) -> bool:
    try:
        return ".fanout" in gitignore.read_text(encoding="utf-8", errors="replace")
    except OSError:  # what can't be read may say so
        return True


def _lines(commands: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, commands))
    lines = [f"  {command:<{width}}  {meaning}".rstrip() for command, meaning in commands.items()]
    if max(map(len, lines)) <= get_terminal_size((200, 0)).columns:
        yield from lines
        return
    for command, meaning in commands.items():
        yield f"  {command}"
        if meaning:
            yield f"    {meaning}"
