"""`fanout replay`: new runs from old ones, with the steps that completed carried over."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fanout.client import Client
from fanout.commands import report, waiting
from fanout.commands.app import say
from fanout.commands.text import count
from fanout.engine.local import Ending
from fanout.errors import NotFoundError, UsageError
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="replay", help=help_)(replay)


def replay(
    runs: Annotated[list[str] | None, typer.Argument(help="Ids of runs.", show_default=False)] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed or crashed.")] = False,
    function: Annotated[
        str | None, typer.Option(help="With --failed: only of this function.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs it would be.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Wait so many seconds at most (exit code 5).", min=0, show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: Annotated[str | None, typer.Option(help="The fanout.toml to use.", show_default=False)] = None,
) -> None:
    began = time.monotonic()
    if not runs and not failed:
        raise UsageError("there is nothing to replay", hint="say `--failed`, or give the ids of runs")
    settings = waiting.project(config)
    with JournalReader(settings.journal) as reader:
        chosen = _choose(reader, runs or [], failed=failed, function=function, again=again)
        last_run = reader.last_run_key()
    if not chosen or dry_run:
        if as_json:
            report.print_json({"runs": [], "planned": len(chosen)})
        else:
            say(f"{count(len(chosen), 'run')} to replay" if dry_run else "there is nothing to replay")
        return

    def put(client: Client) -> Watched:
        request = client.request("replay", {"runs": chosen, "again": again})
        return Watched(request=request, replayed=tuple(chosen), after_run=last_run)

    watched, waited = waiting.put_and_wait(settings, put, timeout_s=timeout, is_quiet=as_json)
    with JournalReader(settings.journal) as reader:
        family = reader.family(watched, limit=report.MOST_MEMBERS)
        if as_json:
            made = reader.watched_runs(watched)
            report.print_json({"runs": [report.run_json(run) for run in made], "planned": len(chosen)})
        else:
            hints = waiting.hints(reader, watched, family, waited)
            left_out = len(chosen) - sum(run.replay_of is not None for run in family.runs.values())
            if left_out and not family.is_cut and waited.ending is Ending.DONE:
                hints.append(f"{count(left_out, 'run')} left out: replayed meanwhile, or the function is gone")
            seconds = time.monotonic() - began
            report.print_report(reader, family, seconds, count(len(chosen), "replay"), hints)
    raise typer.Exit(waiting.exit_code(waited, report.exit_code(family.counts)))


def _choose(reader: JournalReader, ids: list[str], *, failed: bool, function: str | None, again: bool) -> list[int]:
    chosen = reader.to_replay([RunState.FAILED], function, again=again) if failed else []
    for id_ in ids:
        run = reader.run(id_)
        if not run.state.is_final:
            raise UsageError(f"the run `{run.id}` is {run.state}: only one that has ended can be replayed")
        if not again and run.key not in reader.to_replay([run.state], run.function, again=False):
            raise NotFoundError(f"the run `{run.id}` was replayed already", hint="`--again` replays it once more")
        chosen.append(run.key)
    return list(dict.fromkeys(chosen))
