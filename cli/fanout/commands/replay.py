"""`fanout replay`: new runs from old ones, with the steps that completed carried over."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from fanout.client import Client
from fanout.codec import decode_json
from fanout.commands import filters, replay_plan, report, waiting
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json, Timeout
from fanout.commands.project import project
from fanout.commands.text import count
from fanout.config import Config
from fanout.core import replays
from fanout.core.replays import FunctionPlan
from fanout.durations import parse_duration
from fanout.engine.local import Ending
from fanout.errors import NotFoundError, UsageError
from fanout.journal.family import Watched
from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_reader import JournalReader

_RATE = re.compile(r"([0-9]+)/(.+)")


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
        interval_ms=_interval(rate),
    )
    asked.check()
    settings = project(config)
    with JournalReader(settings.journal) as reader:
        chosen = _choose(reader, asked)
        plans = _plans(reader, asked, chosen) if chosen and (dry_run or asked.names_steps) else []
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
        _replay(settings, asked, chosen, last_run, timeout, began=began, as_json=as_json)


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

    @property
    def names_steps(self) -> bool:
        return self.from_step is not None or bool(self.given)

    def check(self) -> None:
        if self.is_from_start and self.from_step is not None:
            raise UsageError("`--from-start` and `--from-step` exclude each other")
        options = self.options
        if not self.ids and not options.states and options.error is None:
            # To replay what has completed is rarely meant: it has to be said.
            raise UsageError("there is nothing to replay", hint="say `--failed`, or give the ids of runs")

    def meant(self, keys: tuple[int, ...] | None) -> RunFilter:
        options = self.options
        if keys is None and not options.states:
            options = options._replace(is_failed=True)
        return options.as_filter(keys)

    def body(self, chosen: Sequence[int]) -> dict[str, Any]:
        """As the engine is asked."""
        return {
            "runs": list(chosen),
            "again": self.again,
            "from_start": self.is_from_start,
            "from_step": self.from_step,
            "set": self.given,
            "interval_ms": self.interval_ms,
        }


def _replay(
    settings: Config,
    asked: _Asked,
    chosen: list[int],
    last_run: int,
    timeout: float | None,
    *,
    began: float,
    as_json: bool,
) -> None:
    def put(client: Client) -> Watched:
        request = client.request("replay", asked.body(chosen))
        return Watched(request=request, replayed=tuple(chosen), after_run=last_run)

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal) as reader:
        family = reader.family(watched, limit=report.MOST_MEMBERS)
        if as_json:
            made = reader.watched_runs(watched)
            report.print_json({"runs": [report.run_json(each) for each in made], "planned": len(chosen)})
        else:
            hints = waiting.hints(reader, watched, family, waited)
            left_out = len(chosen) - sum(each.replay_of is not None for each in family.runs.values())
            if left_out and not family.is_cut and waited.ending is Ending.DONE:
                hints.append(f"{count(left_out, 'run')} left out: replayed meanwhile, or the function is gone")
            seconds = time.monotonic() - began
            report.print_report(reader, family, seconds, count(len(chosen), "replay"), hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


# Which runs.


def _choose(reader: JournalReader, asked: _Asked) -> list[int]:
    if not asked.ids:
        return reader.to_replay(asked.meant(None), again=asked.again, limit=asked.limit)
    keys = []
    for id_ in asked.ids:
        run = reader.run(id_)
        if not run.state.is_final:
            raise UsageError(f"the run `{run.id}` is {run.state}: only one that has ended can be replayed")
        if not asked.again and not reader.to_replay(RunFilter(keys=(run.key,)), again=False):
            raise NotFoundError(f"the run `{run.id}` was replayed already", hint="`--again` replays it once more")
        keys.append(run.key)
    return reader.to_replay(asked.meant(tuple(keys)), again=asked.again, limit=asked.limit)


# What becomes of their steps.


def _plans(reader: JournalReader, asked: _Asked, chosen: list[int]) -> list[FunctionPlan]:
    recorded = reader.recorded_steps(chosen, asked.from_step)
    known = {each.spec.id: each.spec.steps for each in reader.functions() if each.is_present}
    code = {each.function: known.get(each.function) for each in recorded}
    names = replays.recorded_names(recorded)
    if asked.from_step is not None and asked.from_step not in names:
        raise replay_plan.no_such_step(asked.from_step, names)
    in_code = replays.coded_names(code)
    if in_code is not None:
        for step in asked.given:
            if step not in names and replays.name_of(step) not in in_code:
                raise replay_plan.no_such_step(step, list(dict.fromkeys([*names, *in_code])))
    return [
        replays.plan(each, code[each.function], is_from_start=asked.is_from_start, given=asked.given)
        for each in recorded
    ]


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


def _interval(rate: str | None) -> float | None:
    """Milliseconds between two starts."""
    if rate is None:
        return None
    parts = _RATE.fullmatch(rate.strip())
    try:
        number, period = int(parts[1]), parts[2] if parts[2][0].isdigit() else f"1{parts[2]}"  # type: ignore[index]
        interval_ms = parse_duration(period) * 1000 / number
    except (TypeError, ValueError, ZeroDivisionError):
        interval_ms = 0.0
    if not interval_ms:
        raise UsageError(f"`--rate {rate}` is no rate", hint="write it as `10/s`, `600/m` or `1/30s`")
    return interval_ms
