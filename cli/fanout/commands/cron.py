"""`fanout cron`: what ticks when, one tick by hand, and the schedules in the foreground."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fanout.client import Client
from fanout.commands import cron_pages, cron_run, loading, report, text, waiting
from fanout.commands.app import say
from fanout.commands.function_words import cron_triggers
from fanout.engine import lock
from fanout.errors import UsageError
from fanout.journal.family import Watched
from fanout.journal.functions import KnownFunction
from fanout.journal.sqlite_reader import JournalReader

_NARROW = 70
_MOST_NEXT = 1_000
_LONGEST_ANSWER_S = 5.0

cron_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Function = Annotated[str, typer.Argument(help="Its id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ConfigPath = Annotated[str | None, typer.Option("--config", help="The fanout.toml to use.", show_default=False)]


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(cron_app, name="cron", help=help_)
    cron_app.command(name="run", help="Run the schedules in the foreground until Ctrl-C; a line for each tick.")(
        cron_run.run
    )


@cron_app.command(name="list", help="All schedules, with the last tick of each and the next one.")
def list_schedules(as_json: Json = False, config: ConfigPath = None) -> None:
    settings = waiting.project(config)
    found = loading.functions_now(settings)
    now = text.now()
    with JournalReader(settings.journal) as reader:
        rows = cron_pages.rows(reader, found, now)
    if as_json:
        report.print_json({"schedules": cron_pages.rows_json(rows)})
        return
    if not rows:
        say("no function has a cron trigger")
        return
    cron_pages.print_rows(report.console(), rows, now)
    if lock.holder(settings.journal) is None:
        say(
            "hint: no engine is running, so nothing ticks: `fanout cron run` runs the schedules, and so does `fanout serve`"
        )


@cron_app.command(name="next", help="The next ticks of one function, by its own clock and in UTC.")
def next_ticks(
    function: Function,
    number: Annotated[int, typer.Option("-n", "--number", help="How many.", min=1, max=_MOST_NEXT)] = 5,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    known = loading.function_named(loading.functions_now(waiting.project(config)), function)
    triggers = _cron_triggers(known)
    now = text.now()
    found = [cron_pages.upcoming(known.spec, trigger, now, number) for trigger in triggers]
    if as_json:
        report.print_json({"function": known.spec.id, "schedules": [cron_pages.next_json(each) for each in found]})
        return
    is_narrow = report.console().width < _NARROW
    for each in found:
        for line in cron_pages.next_lines(each, now, is_narrow=is_narrow):
            print(line)


def _cron_triggers(known: KnownFunction) -> list[Any]:
    triggers = cron_triggers(known.spec)
    if not triggers:
        raise UsageError(
            f"`{known.spec.id}` has no cron trigger", hint=f"`fanout invoke {known.spec.id}` runs it by hand"
        )
    return triggers


@cron_app.command(name="trigger", help="One tick now, by hand: a run as the schedule makes it.")
def trigger(
    function: Function,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The tick of another time, such as 2025-10-26T02:30; by the schedule's own clock if it has no offset.",
            show_default=False,
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask for the tick.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Wait so many seconds at most (exit code 5).", min=0, show_default=False)
    ] = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    began = time.monotonic()
    moment = None if at is None else _parsed(at)
    settings = waiting.project(config)

    def put(client: Client) -> Watched:
        # By now the journal knows what the code has, if this process is the engine.
        with JournalReader(settings.journal) as reader:
            scheduled_at = None if moment is None else _scheduled_at(moment, reader.function(function))
        return Watched(request=client.request("tick", {"function": function, "at": scheduled_at}))

    if no_wait:
        with Client(settings.journal) as client:
            watched = put(client)
            has_engine = client.ring()
            if has_engine:
                client.follow(watched, lambda progress: progress.is_routed, timeout_s=_LONGEST_ANSWER_S)
        _print_asked(settings, watched, function, moment, has_engine=has_engine, as_json=as_json)
        return
    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal) as reader:
        _check_made(reader, watched, function, moment)
        family = reader.family(watched, limit=report.MOST_MEMBERS)
        if as_json:
            report.print_json({"runs": [report.run_json(run) for run in reader.watched_runs(watched)]})
        else:
            hints = report.next_steps(reader, watched, family, has_engine=waited.has_engine)
            hints += waiting.left(waited)
            what = f"a tick of `{text.printable(function)}`"
            report.print_report(reader, family, time.monotonic() - began, what, hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))
