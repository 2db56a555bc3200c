"""`fanout send`: events in, and the wait for all that they cause."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fanout.client import Connection, watched_events
from fanout.commands import heard, report
from fanout.commands.app import say
from fanout.commands.inputs import DATA_HELP, bytes_of, event_with
from fanout.commands.options import ConfigPath, Json, Timeout
from fanout.commands.project import project
from fanout.commands.text import count
from fanout.errors import EventError, UsageError
from fanout.events import DEFAULT_LIMITS, NewEvent, parse
from fanout.journal.appender import AcceptedEvent
from fanout.journal.family import Family, Watched
from fanout.journal.heard import Heard, Hearer
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import heard as heard_views
from fanout.views.events import accepted_json
from fanout.views.runs import run_json
from fanout.views.trace import MOST_MEMBERS

if TYPE_CHECKING:
    from fanout.commands import waiting


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="send", help=help_)(send)


def send(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Files with an event, a list of them, or one a line; `-` is stdin.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The event's name, instead of a file.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help=f"With --name: its data, {DATA_HELP}.", show_default=False)] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only store the events.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    began = time.monotonic()
    settings = project(config)
    events, places = _read(files or [], name, data)
    accepted: list[AcceptedEvent] = []

    hearers: set[Hearer] = set()

    def put(client: Connection) -> Watched:
        # Those that begin to wait while the events are being stored may hear them as well.
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            hearers.update(reader.hearers(events))
            accepted.extend(client.append(events, places))
            hearers.update(reader.hearers(events))
        return watched_events(accepted)

    if no_wait:
        with Connection(settings.journal) as client:
            put(client)
            _print_stored(accepted, has_engine=client.ring(), as_json=as_json)
        return
    from fanout.commands import waiting  # lazy: who doesn't wait needs no engine

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        family = reader.family(watched, limit=MOST_MEMBERS)
        found = reader.heard(hearers, accepted)
        if as_json:
            runs = [run_json(run) for run in reader.watched_runs(watched)]
            report.print_json({"events": accepted_json(accepted), "runs": runs, **heard_views.as_json(found)})
        else:
            hints = heard.duplicates(accepted)
            if reader.progress(watched).is_routed:
                hints += _notes(reader, accepted, family, found, waited)
            hints += waiting.hints(reader, watched, family, waited)
            seconds = time.monotonic() - began
            report.print_report(reader, family, seconds, count(len(accepted), "event"), hints, heard=found)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _read(files: Sequence[str], name: str | None, data: str | None) -> tuple[list[NewEvent], list[str]]:
    """The events, and what messages call the place of each."""
    if name is not None:
        if files:
            raise UsageError("events come from files or from `--name`, not from both", hint="leave one of them out")
        return [event_with(name, data)], ["`--data`"]
    if data is not None:
        raise UsageError("`--data` goes with `--name`", hint="as in `fanout send --name app/hello --data '{\"n\": 1}'`")
    if not files:
        raise UsageError(
            "there is no event to send",
            hint="name a file, `-` for stdin, or `--name app/hello --data '{}'`",
        )
    events, places = [], []
    for file in files:
        source = "stdin" if file == "-" else file
        found = parse(bytes_of(file), source)
        events += found
        places += [f"`{source}`"] if len(found) == 1 else [f"`{source}` event {n}" for n in range(1, len(found) + 1)]
    if not events:
        raise EventError("there is no event in what was given", hint='an event is `{"name": "app/hello", "data": {}}`')
    if len(events) > DEFAULT_LIMITS.request_events:
        raise EventError(
            f"there are {len(events):,} events, at most {DEFAULT_LIMITS.request_events:,} can be sent at once",
            hint="send the files one after another",
        )
    return events, places


def _print_stored(accepted: Sequence[AcceptedEvent], *, has_engine: bool, as_json: bool) -> None:
    if as_json:
        report.print_json({"events": accepted_json(accepted), "runs": [], **heard_views.as_json([])})
        return
    for event in accepted:
        print(event.id)
    for hint in heard.duplicates(accepted):
        say(f"hint: {hint}")
    if not has_engine:
        say("hint: no engine is running; `fanout serve` runs what was stored, or the next `fanout send`")


def _notes(
    reader: JournalReader, accepted: list[AcceptedEvent], family: Family, found: list[Heard], waited: waiting.Waited
) -> list[str]:
    """Events that nobody has heard, and runs that can't go on."""
    from fanout.commands.loading import without_code  # lazy: as above

    concerned = {event.id for event in family.roots if family.runs_of(event)} | {each.event_id for each in found}
    unheard = heard.unheard(reader, accepted, concerned, waited.listening, waited.cancelling)
    return unheard + without_code(reader, waited.stranded)
