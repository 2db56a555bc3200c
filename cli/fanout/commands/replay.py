"""`fanout replay`: new runs from old ones, with the steps that completed carried over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import typer

from fanout.client import Connection
from fanout.codec import decode_json
from fanout.commands import filters, replay_plan, report, waiting
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json, Timeout
from fanout.commands.project import project
from fanout.commands.text import count
from fanout.config import Config
from fanout.engine.local import Ending
from fanout.errors import UsageError
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.views.replays import Wish, choose, interval_ms, plans_of
from fanout.views.runs import run_json
from fanout.views.trace import MOST_MEMBERS


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="replay", help=help_)(replay)


def replay(
    runs: Annotated[list[str] | None, typer.Argument(help="Ids of runs.", show_default=False)] = None,
    run: Annotated[
        list[str] | None, typer.Option("--run", metavar="ID", help="The same; may be repeated.", show_default=False)
    ] = None,
    failed: filters.Failed = False,
    status: filters.Status = None,
    function: filters.Function = None,
    event: filters.Event = None,
    since: filters.Since = None,
    until: filters.Until = None,
    error: filters.Error = None,
    limit: Annotated[int | None, typer.Option(help="The oldest so many.", min=1, show_default=False)] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Carry no step over.")] = False,
    from_step: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Carry only the steps over that came before this one.", show_default=False),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STEP=JSON", help="Give a step its result; may be repeated.", show_default=False),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="Start so many: 10/s, 600/m, 1/30s.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    began = time.monotonic()
    options = filters.Options(status, failed, function, event, since, until, error)
    asked = _Asked(
        ids=[*(runs or ()), *(run or ())],
        options=options,
        limit=limit,
        again=again,
        is_from_start=from_start,
        from_step=from_step,
        given=_given(given or ()),
        interval_ms=None if rate is None else interval_ms(rate, f"--rate {rate}"),
    )
    wish = asked.wish()
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        chosen = choose(reader, wish)
        plans = plans_of(reader, wish, chosen) if chosen and (dry_run or wish.names_steps) else []
        last_run = reader.last_run_key()
        unknown = "" if chosen else filters.unknown_function(reader, options)
    if dry_run and chosen:
        replay_plan.show(len(chosen), plans, as_json=as_json)
    elif not chosen:
        if as_json:
            report.print_json({"runs": [], "planned": 0})
        else:
            say(f"there is nothing to replay{unknown}")
    else:
        _replay(settings, wish, chosen, last_run, timeout, began=began, as_json=as_json)


class _Asked(NamedTuple):
    """What was said on the command line."""

    ids: list[str]
    options: filters.Options
    limit: int | None
    again: bool
    is_from_start: bool
    from_step: str | None
    given: dict[str, str]
    interval_ms: float | None

    def wish(self) -> Wish:
        """What is wanted.

        Raises:
            UsageError: it is nothing, or two things that exclude each other.
        """
        if self.is_from_start and self.from_step is not None:
            raise UsageError("`--from-start` and `--from-step` exclude each other")
        options = self.options
        if not self.ids and not options.states and options.error is None:
            # To replay what has completed is rarely meant: it has to be said.
            raise UsageError("there is nothing to replay", hint="say `--failed`, or give the ids of runs")
        return Wish(
            ids=tuple(self.ids),
            meant=options.as_filter(),
            limit=self.limit,
            again=self.again,
            is_from_start=self.is_from_start,
            from_step=self.from_step,
            given=self.given,
            interval_ms=self.interval_ms,
        )


def _replay(
    settings: Config,
    wish: Wish,
    chosen: list[int],
    last_run: int,
    timeout: float | None,
    *,
    began: float,
    as_json: bool,
) -> None:
    def put(client: Connection) -> Watched:
        request = client.request("replay", wish.body(chosen))
        return Watched(request=request, replayed=tuple(chosen), after_run=last_run)

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        family = reader.family(watched, limit=MOST_MEMBERS)
        if as_json:
            made = reader.watched_runs(watched)
            report.print_json({"runs": [run_json(each) for each in made], "planned": len(chosen)})
        else:
            hints = waiting.hints(reader, watched, family, waited)
            left_out = len(chosen) - sum(each.replay_of is not None for each in family.runs.values())
            if left_out and not family.is_cut and waited.ending is Ending.DONE:
                hints.append(f"{count(left_out, 'run')} left out: replayed meanwhile, or the function is gone")
            seconds = time.monotonic() - began
            report.print_report(reader, family, seconds, count(len(chosen), "replay"), hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _given(said: Sequence[str]) -> dict[str, str]:
    """Results by step, as JSON text."""
    found: dict[str, str] = {}
    for each in said:
        step, equals, value = each.partition("=")
        if not step or not equals:
            raise UsageError(f"`--set {each}` names no step and result", hint="as in `--set 'charge={\"id\":7}'`")
        try:
            found[step] = msgspec.json.encode(decode_json(value.encode())).decode()
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise UsageError(
                f"`--set {each}`: what comes behind `=` is not JSON",
                hint=f"text needs quotes: `--set '{step}=\"...\"'`",
            ) from None
    return found
