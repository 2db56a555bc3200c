"""`fanout cron trigger`: one tick by hand, and the wait for all that it causes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from fanout.client import Connection
from fanout.commands import report, text, waiting
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json, Timeout
from fanout.commands.project import project
from fanout.core import cron
from fanout.errors import NotFoundError, UsageError
from fanout.journal.family import Family, Watched
from fanout.journal.functions import KnownFunction
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import CronTrigger, FunctionSpec, RunState
from fanout.views import queue_reasons
from fanout.views.cron import milliseconds, moment
from fanout.views.function_words import cron_triggers, schedule_in_words, schedule_of
from fanout.views.functions import named
from fanout.views.runs import run_json
from fanout.views.trace import MOST_MEMBERS

_FIRST_YEAR, _LAST_YEAR = 1970, 9000


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
    timeout: Timeout = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    began = time.monotonic()
    given = None if at is None else _parsed(at)
    settings = project(config)
    asked: list[_Asked] = []

    def put(client: Connection) -> Watched:
        # By now the journal knows what the code has: also if this process is the engine.
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            functions = reader.functions()
        known = named([each for each in functions if each.is_present], function)
        asked.append(_asked(given, known))
        return Watched(request=client.request("tick", {"function": function, **asked[0]._asdict()}))

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        _check(reader, watched, function, asked[0].at)
        family = reader.family(watched, limit=MOST_MEMBERS)
        if as_json:
            report.print_json({"runs": [run_json(run) for run in reader.watched_runs(watched)]})
        else:
            hints = [*waiting.hints(reader, watched, family, waited), *_behind(reader, family)]
            what = f"a tick of `{text.printable(function)}`"
            report.print_report(reader, family, time.monotonic() - began, what, hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _parsed(at: str) -> datetime:
    try:
        given = datetime.fromisoformat(at)
    except ValueError:
        given = None
    # Others have no neighbours that a schedule could look at.
    if given is None or not _FIRST_YEAR <= given.year <= _LAST_YEAR:
        raise UsageError(f"`{at}` is not a time", hint="write it as 2025-10-26T02:30, or 2025-10-26T02:30+01:00")
    return given


class _Asked(NamedTuple):
    """A tick, as the engine is asked for it: of which trigger, and of which time, in milliseconds."""

    at: int | None
    cron: str | None = None
    timezone: str | None = None


def _asked(given: datetime | None, known: KnownFunction) -> _Asked:
    """Of several triggers, the only one that ticks at this time; else the first, and people are told."""
    triggers = cron_triggers(known.spec)
    if given is None or not triggers:
        return _Asked(None if given is None else milliseconds(given))
    ticking = [trigger for trigger in triggers if _ticks_at(known.spec, trigger, given)]
    chosen = ticking[0] if len(ticking) == 1 else triggers[0]
    if len(ticking) != 1 and len(triggers) > 1:
        which = "none" if not ticking else "all" if len(ticking) == len(triggers) else f"{len(ticking)}"
        of = f"of the {len(triggers)} schedules of `{text.printable(known.spec.id)}`"
        words = schedule_in_words(known.spec, chosen)
        say(f"{which} {of} {'ticks' if not ticking else 'tick'} then: taken as a tick of the first ({words})")
    return _Asked(milliseconds(_instant(known.spec, chosen, given)), chosen.expression, chosen.zone)


def _instant(spec: FunctionSpec, trigger: CronTrigger, given: datetime) -> datetime:
    """What has no offset is meant as the trigger's own clock shows it."""
    if given.tzinfo is not None:
        return given
    schedule = schedule_of(spec, trigger)
    return given.astimezone() if schedule is None else given.replace(tzinfo=schedule.zone)


def _ticks_at(spec: FunctionSpec, trigger: CronTrigger, given: datetime) -> bool:
    schedule, instant = schedule_of(spec, trigger), _instant(spec, trigger, given)
    return schedule is not None and cron.latest_at_or_before(schedule, instant) == instant.astimezone(UTC)


def _behind(reader: JournalReader, family: Family) -> list[str]:
    """What the runs wait for that begin after the tick before: nobody waits for that here."""
    said = []
    for run in family.runs.values():
        known = reader.function(run.function) if run.state is RunState.QUEUED else None
        if known is not None:
            reason = queue_reasons.reason(reader, reader.run(run.id), known.spec, text.now())
            if reason.code == queue_reasons.TICK_BEFORE:
                said.append(f"`{text.printable(run.function)}` {reason.words}")
    return said


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
    trigger = next(
        (each for each in cron_triggers(known.spec) if (each.expression, each.zone) == (tick.expression, tick.zone)),
        cron_triggers(known.spec)[0],
    )
    schedule = schedule_of(known.spec, trigger)
    when = f"{moment(tick.scheduled_at).astimezone(None if schedule is None else schedule.zone):%Y-%m-%d %H:%M:%S %Z}"
    hint = (
        f"`fanout replay {tick.run}` runs it once more" if tick.state.is_final else f"`fanout why {tick.run}` says more"
    )
    raise UsageError(f"`{function}` has a run of {when} already: {tick.run}, {tick.state}", hint=hint)
