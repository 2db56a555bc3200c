"""`fanout cron trigger`: one tick by hand, and the wait for all that it causes."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from fanout.client import Client
from fanout.commands import report, text, waiting
from fanout.commands.cron_pages import milliseconds, moment
from fanout.commands.function_words import cron_triggers, schedule_of
from fanout.commands.loading import function_named
from fanout.errors import NotFoundError, UsageError
from fanout.journal.family import Watched
from fanout.journal.functions import KnownFunction
from fanout.journal.sqlite_reader import JournalReader


def trigger(
    function: Annotated[str, typer.Argument(help="Its id.", show_default=False)],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The tick of that time instead, such as 2025-10-26T02:30; by the schedule's clock, or with an offset.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Wait so many seconds at most (exit code 5).", min=0, show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: Annotated[str | None, typer.Option(help="The fanout.toml to use.", show_default=False)] = None,
) -> None:
    began = time.monotonic()
    given = None if at is None else _parsed(at)
    settings = waiting.project(config)
    asked: list[int | None] = []

    def put(client: Client) -> Watched:
        # By now the journal knows what the code has: also if this process is the engine.
        with JournalReader(settings.journal) as reader:
            functions = reader.functions()
        known = function_named([each for each in functions if each.is_present], function)
        asked.append(None if given is None else _scheduled_at(given, known))
        return Watched(request=client.request("tick", {"function": function, "at": asked[0]}))

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal) as reader:
        _check(reader, watched, function, asked[0])
        family = reader.family(watched, limit=report.MOST_MEMBERS)
        if as_json:
            report.print_json({"runs": [report.run_json(run) for run in reader.watched_runs(watched)]})
        else:
            hints = waiting.hints(reader, watched, family, waited)
            what = f"a tick of `{text.printable(function)}`"
            report.print_report(reader, family, time.monotonic() - began, what, hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _parsed(at: str) -> datetime:
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(
            f"`{at}` is not a time", hint="write it as 2025-10-26T02:30, or 2025-10-26T02:30+01:00"
        ) from None


def _scheduled_at(given: datetime, known: KnownFunction) -> int:
    """In milliseconds; what has no offset is meant as the first cron trigger's own clock shows it."""
    if given.tzinfo is None:
        schedules = [schedule_of(known.spec, trigger) for trigger in cron_triggers(known.spec)]
        zone = next((schedule.zone for schedule in schedules if schedule is not None), None)
        given = given.astimezone() if zone is None else given.replace(tzinfo=zone)
    return milliseconds(given)


def _check(reader: JournalReader, watched: Watched, function: str, at: int | None) -> None:
    """The engine has made a run, or has not come to it yet.

    Raises:
        NotFoundError: there is no such function.
        UsageError: it has no cron trigger, or a run of that tick already.
    """
    is_handled, run = reader.request_answer(watched.request or 0)
    if not is_handled or run is not None:
        return
    known = reader.function(function)
    if known is None or not known.is_present:
        raise NotFoundError(f"there is no function `{function}`", hint="`fanout functions` lists them")
    if not cron_triggers(known.spec):
        raise UsageError(
            f"`{function}` has no cron trigger", hint=f"`fanout invoke {text.printable(function)}` runs it"
        )
    tick = None if at is None else reader.tick_at(function, at)
    if tick is None:
        raise UsageError(
            f"`{function}` has a run of this tick already", hint="try again: each moment is a tick of its own"
        )
    schedule = schedule_of(known.spec, cron_triggers(known.spec)[0])
    when = f"{moment(tick.scheduled_at).astimezone(None if schedule is None else schedule.zone):%Y-%m-%d %H:%M:%S %Z}"
    hint = (
        f"`fanout replay {tick.run}` runs it once more" if tick.state.is_final else f"`fanout why {tick.run}` says more"
    )
    raise UsageError(f"`{function}` has a run of {when} already: {tick.run}, {tick.state}", hint=hint)
