"""`fanout functions`: what the code has, how it fares, and which of it is paused."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.client import Connection
from fanout.commands import function_page, loading, report, text, waiting
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.config import Config
from fanout.errors import NotFoundError
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import functions as function_views
from fanout.views.functions import named

functions_app = typer.Typer(rich_markup_mode=None)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids of functions.", show_default=False)]


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(functions_app, name="functions", help=help_)


@functions_app.callback(invoke_without_command=True)
def list_functions(context: typer.Context, as_json: Json = False, config: ConfigPath = None) -> None:
    if context.invoked_subcommand is not None:
        return
    settings = project(config)
    found = loading.functions_now(settings)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        shown = function_views.read(reader, found)
    if as_json:
        report.print_json(function_views.list_json(shown))
        return
    function_page.print_list(report.console(), shown.functions, shown.figures)
    if not shown.counts.is_whole:
        say(f"hint: runs are counted among the newest {shown.counts.counted:,}")


@functions_app.command(name="show", help="One function with all of its settings, its steps and how its runs fared.")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its id.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    _check(settings, [name])
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        shown = function_views.read(reader)
    known = named(shown.functions, name)
    if as_json:
        report.print_json(function_views.function_json(shown, known))
        return
    function_page.print_page(report.console(), known, shown.figures.get(name))


@functions_app.command(
    name="pause", help="Start no more runs of these; those that go on or are at work are left to end."
)
def pause(names: Names, as_json: Json = False, config: ConfigPath = None) -> None:
    _ask("pause", names, as_json=as_json, config=config)


@functions_app.command(name="resume", help="Start runs of these again, those first that were queued meanwhile.")
def resume(names: Names, as_json: Json = False, config: ConfigPath = None) -> None:
    _ask("resume", names, as_json=as_json, config=config)


def _ask(kind: str, names: list[str], *, as_json: bool, config: str | None) -> None:
    settings = project(config)
    chosen = list(dict.fromkeys(names))
    _check(settings, chosen)

    def put(client: Connection) -> Watched:
        return Watched(request=client.request(kind, {"functions": chosen}))

    waiting.put_and_ask(settings, put)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        known = [named(reader.functions(), name) for name in chosen]
    if as_json:
        report.print_json({"functions": [{"id": each.spec.id, "paused_at": each.paused_at} for each in known]})
        return
    for each in known:
        state = "not paused" if each.paused_at is None else f"paused since {text.clock(each.paused_at)}"
        print(f"{text.printable(each.spec.id)}  {state}")


def _check(settings: Config, names: list[str]) -> None:
    """All are functions; the code is loaded to see that only where the journal does not know one."""
    try:
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            known = {each.spec.id for each in reader.functions()}
    except NotFoundError:
        known = set()
    if not known.issuperset(names):
        found = loading.functions_now(settings)
        for name in names:
            named(found, name)
