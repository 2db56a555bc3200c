"""`fanout runs` and `fanout runs show`: what ran, and what became of it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.waiting import project
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Failure, Run, RunState

runs_app = typer.Typer(rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigPath = Annotated[str | None, typer.Option("--config", help="The fanout.toml to use.", show_default=False)]


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(runs_app, name="runs", help=help_)


@runs_app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    status: Annotated[
        list[RunState] | None, typer.Option(help="Only these; may be given several times.", show_default=False)
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --status failed.")] = False,
    function: Annotated[str | None, typer.Option(help="Only of this function.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    states = [*(status or ()), *((RunState.FAILED,) if failed else ())]
    with JournalReader(project(config).journal) as reader:
        found = reader.runs(states=states, function=function, limit=limit)
    if as_json:
        report.print_json({"runs": [report.run_json(run) for run in found]})
    elif not found:
        say("no runs yet" if not states and function is None else "no such runs")
    else:
        _print_table(found)


@runs_app.command(name="show", help="One run with its steps, attempts and errors.")
def show(
    run: Annotated[str, typer.Argument(help="Its id, or enough of its beginning or end.", show_default=False)],
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    with JournalReader(project(config).journal) as reader:
        found = reader.run(run)
        failures = reader.failures(found.key)
        data = reader.event_data(found.key)
        replays = reader.replays(found.key)
    if as_json:
        value = report.run_json(found)
        value["event_data"] = report.raw_json(data)
        value["failures"] = [
            {"step": step or None, "attempt": attempt, "at": at, **(report.failure_json(failure) or {})}
            for step, attempt, at, failure in failures
        ]
        value["replays"] = [{"id": id_, "state": state} for id_, state in replays]
        report.print_json(value)
        return
    _print_run(found, data, failures, replays)


def _print_table(runs: list[Run]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("run", "state", "function", "event", "began", "took"):
        table.add_column(heading, no_wrap=heading in ("run", "began", "took", "state"), overflow="ellipsis")
    for run in runs:
        state = Text(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))
        table.add_row(
            # The end of an id tells runs apart, the beginning only says when; `show` takes either.
            Text(run.id[-10:]),
            state,
            Text(text.printable(run.function)),
            Text(text.printable(run.event_name), style="dim"),
            Text(text.clock(run.started_at or run.queued_at)),
            Text(text.took(run)),
        )
    report.console().print(table)


def _print_run(
    run: Run, data: str, failures: list[tuple[str, int, int, Failure]], replays: list[tuple[str, RunState]]
) -> None:
    from rich.text import Text

    out = report.console()

    def row(name: str, value: str, style: str = "") -> None:
        out.print(Text.assemble((f"{name:<9}", "dim"), (value, style)), soft_wrap=True)

    reason = f" ({text.printable(run.reason)})" if run.reason else ""
    row("run", run.id)
    row("function", text.printable(run.function), "bold")
    row("state", f"{text.symbol(run.state)} {run.state}{reason}", text.style(run.state))
    row("event", f"{text.printable(run.event_name)}  {text.printable(run.event_id)}")
    row("data", text.first_line(data))
    row("queued", text.clock(run.queued_at))
    if run.started_at is not None:
        row("began", f"{text.clock(run.started_at)}, took {text.took(run)}")
    if run.due_at is not None:
        row("goes on", f"{text.clock(run.due_at)}, in {text.duration(run.due_at - time.time_ns() // 1_000_000)}")
    row("attempts", f"{run.attempts} of {run.max_attempts}")
    if run.replay_of:
        row("replay of", run.replay_of)
    for id_, state in replays:
        row("replay", f"{id_} {state}", text.style(state))
    if run.output is not None:
        row("output", text.first_line(bytes(run.output).decode()))
    if run.steps:
        out.print(Text("steps", style="dim"))
    for step in run.steps:
        line = Text.assemble("  ", (text.symbol(step.state), text.style(step.state)), f" {text.printable(step.name)}")
        if step.ended_at is not None and step.started_at is not None:
            line.append(f"  {text.duration(step.ended_at - step.started_at)}", style="dim")
        if step.attempts > 1:
            line.append(f"  {step.attempts} attempts", style="yellow")
        if step.output is not None:
            line.append(f"  {text.first_line(bytes(step.output).decode())}", style="dim")
        out.print(line, soft_wrap=True)
    for step_name, attempt, at, failure in failures:
        where = f"step `{text.printable(step_name)}`" if step_name else "the function"
        out.print()
        out.print(
            Text(f"{text.clock(at)}  {where}, attempt {attempt + 1}: {text.first_line(str(failure))}", style="red"),
            soft_wrap=True,
        )
        if failure.traceback:
            out.print(Text(text.printable(failure.traceback.rstrip(), keep_lines=True), style="dim"), soft_wrap=True)
