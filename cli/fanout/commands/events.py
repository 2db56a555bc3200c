"""`fanout events` and `fanout events show`: what has happened, who it came from, and what it has started."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fanout.commands import event_page, report
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.commands.text import printable
from fanout.errors import UsageError
from fanout.journal.received import EventFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import event_schemas
from fanout.views import events as event_views
from fanout.views.filters import moment

events_app = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(events_app, name="events", help=help_)


@events_app.callback(invoke_without_command=True)
def list_events(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of this name; or `app/*`.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Come since: `2h` ago, or 2025-10-26T02:30.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Come before; as --since.", show_default=False)
    ] = None,
    unheard: Annotated[bool, typer.Option("--unheard", help="That have started nothing.")] = False,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    wanted = EventFilter(name, moment("--since", since), moment("--until", until), unheard)
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise UsageError("`--since` is after `--until`: nothing is between them")
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        found = reader.events(wanted, limit)
        unheard_names = event_views.names_unheard(reader, found)
    if as_json:
        report.print_json({"events": [event_views.listed_json(event, unheard_names) for event in found]})
    elif not found:
        say("no events yet" if wanted.is_any else "no such events")
    else:
        event_page.print_list(report.console(), found, unheard_names)


@events_app.command(name="show", help="One event with its data, where it came from, and its runs.")
def show(
    event: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        found = reader.event(event)
        unheard_names = event_views.names_unheard(reader, [found.listed])
    if as_json:
        report.print_json(event_views.full_json(found, unheard_names))
        return
    event_page.print_page(report.console(), found, unheard_names)
    if found.runs:
        say(f"hint: `fanout trace {event_page.argument(found.listed.id)}` shows all that it has caused")


@events_app.command(name="schema", help="What functions say that the data of an event has to be, as JSON Schema.")
def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    from fanout.commands import loading  # lazy: who only looks at the journal needs no engine

    known = loading.functions_now(project(config))
    found = event_schemas.expected([each.spec for each in known if each.is_present], name)
    if as_json:
        report.print_json(event_schemas.as_json(found))
        return
    print(msgspec.json.format(msgspec.json.encode(found.document), indent=2).decode())
    for need in found.needed:
        say(f"`{printable(need.function.id)}` needs it so: {printable(need.function.file)} line {need.function.line}")
    for other in found.others:
        say(f"`{printable(other.id)}` listens, too, and takes any data")
