"""`fanout invoke`: one function, by hand, with data of one's own."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from fanout.client import Connection
from fanout.commands import report, waiting
from fanout.commands.app import say
from fanout.commands.inputs import DATA_HELP, event_with
from fanout.commands.options import ConfigPath, Json, Timeout
from fanout.commands.project import project
from fanout.commands.text import nearest, printable
from fanout.engine.local import Ending
from fanout.errors import NotFoundError
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, RunState
from fanout.views.runs import run_json
from fanout.views.trace import MOST_MEMBERS

_LONGEST_ANSWER_S = 5.0


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="invoke", help=help_)(invoke)


def invoke(
    function: Annotated[str, typer.Argument(help="The function's id.", show_default=False)],
    data: Annotated[
        str | None, typer.Option(help=f"Its data, {DATA_HELP}; {{}} if left out.", show_default=False)
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask for the run.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    began = time.monotonic()
    settings = project(config)
    # What an event's data may be, an invocation's may be; its name is the engine's own affair.
    text = event_with("invoked", data).data

    def put(client: Connection) -> Watched:
        body = {"function": function, "data": msgspec.Raw(text.encode())}
        return Watched(request=client.request("invoke", body))

    if no_wait:
        with Connection(settings.journal) as client:
            watched = put(client)
            has_engine = client.ring()
            if has_engine:
                client.follow(watched, lambda progress: progress.is_routed, timeout_s=_LONGEST_ANSWER_S)
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            _print_asked(_invoked(reader, watched, function, []), has_engine=has_engine, as_json=as_json)
        return
    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        run = _invoked(reader, watched, function, waited.functions)
        family = reader.family(watched, limit=MOST_MEMBERS)
        if as_json:
            report.print_json({"runs": [run_json(each) for each in reader.watched_runs(watched)]})
        else:
            hints = waiting.hints(reader, watched, family, waited)
            output = _output(run) if waited.ending is Ending.DONE else None
            seconds = time.monotonic() - began
            report.print_report(reader, family, seconds, f"`{printable(function)}`", hints, output=output)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _invoked(reader: JournalReader, watched: Watched, function: str, known: list[str]) -> Run | None:
    """The run that was made, if the engine has come to it.

    Raises:
        NotFoundError: the engine has no such function.
    """
    is_handled, key = reader.request_answer(watched.request or 0)
    if is_handled and key is None:
        near = nearest(function, known).removeprefix("; ")
        raise NotFoundError(f"there is no function `{function}`", hint=near or None)
    return None if key is None else reader.runs_with_steps([key], outputs=True)[key]


def _output(run: Run | None) -> str | None:
    if run is None or run.state is not RunState.COMPLETED or run.output is None:
        return None
    return bytes(run.output).decode()


def _print_asked(run: Run | None, *, has_engine: bool, as_json: bool) -> None:
    if as_json:
        report.print_json({"runs": [] if run is None else [run_json(run)]})
    elif run is not None:
        print(run.id)
    elif has_engine:
        say("hint: the engine is busy; it will come to it")
    else:
        say("hint: no engine is running; `fanout serve` runs what was asked for, or the next `fanout send`")
