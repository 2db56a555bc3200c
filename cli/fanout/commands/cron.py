"""`fanout cron list` and `fanout cron next`: what ticks when. The others of the group have modules of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import cron_pages, cron_run, cron_trigger, loading, report, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.engine import lock
from fanout.errors import UsageError
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import cron as cron_views
from fanout.views.function_words import cron_triggers
from fanout.views.functions import named

_MOST_NEXT = 1_000

cron_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(cron_app, name="cron", help=help_)


@cron_app.command(name="list", help="All schedules, with the last tick of each and the next one.")
def list_schedules(as_json: Json = False, config: ConfigPath = None) -> None:
    settings = project(config)
    found = loading.functions_now(settings)
    now = text.now()
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        rows = cron_views.rows(reader, found, now)
    if as_json:
        report.print_json({"schedules": cron_views.rows_json(rows)})
    elif not rows:
        say("no function has a cron trigger")
    else:
        cron_pages.print_rows(report.console(), rows, now)
        if lock.holder(settings.journal) is None:
            say("hint: no engine is running: nothing ticks before `fanout cron run` or `fanout serve`")


@cron_app.command(name="next", help="The next ticks of one function, by its own clock and in UTC.")
def next_ticks(
    function: Annotated[str, typer.Argument(help="Its id.", show_default=False)],
    number: Annotated[int, typer.Option("-n", "--number", help="How many.", min=1, max=_MOST_NEXT)] = 5,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    known = named(loading.functions_now(project(config)), function)
    triggers, now = cron_triggers(known.spec), text.now()
    if not triggers:
        hint = f"`fanout invoke {text.printable(function)}` runs it by hand"
        raise UsageError(f"`{function}` has no cron trigger", hint=hint)
    found = [cron_views.upcoming(known.spec, trigger, now, number) for trigger in triggers]
    if as_json:
        report.print_json({"function": known.spec.id, "schedules": [cron_views.next_json(each) for each in found]})
        return
    is_narrow = report.console().width < cron_pages.NARROW
    for each in found:
        print("\n".join(cron_pages.next_lines(each, now, is_narrow=is_narrow)))


cron_app.command(name="trigger", help="One tick now, by hand: a run as the schedule makes it.")(cron_trigger.trigger)
cron_app.command(name="run", help="Run the schedules in the foreground until Ctrl-C; a line for each tick.")(
    cron_run.run
)
