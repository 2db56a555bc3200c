"""`fanout runs` and `fanout runs show`: what ran, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.waiting import project
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Failure, Run, RunState, Step

if TYPE_CHECKING:
    from rich.text import Text

_NARROW = 70
"""Columns below which the list says less, so that what it says can be read."""

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
    out = report.console()
    is_narrow = out.width < _NARROW
    for heading in ("run", "state", "function", *(() if is_narrow else ("event", "began")), "took"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for run in runs:
        state = Text(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))
        table.add_row(
            # The end of an id tells runs apart, the beginning only says when; `show` takes either.
            Text(run.id[-10:]),
            state,
            Text(text.printable(run.function)),
            *(
                ()
                if is_narrow
                else (
                    Text(text.printable(run.event_name), style="dim"),
                    Text(text.clock(run.started_at or run.queued_at)),
                )
            ),
            Text(text.took(run)),
        )
    out.print(table)


def _print_run(
    run: Run, data: str, failures: list[tuple[str, int, int, Failure]], replays: list[tuple[str, RunState]]
) -> None:
    out = report.console()
    for name, value, style in _facts(run, data, replays):
        out.print(_line((f"{name:<9}", "dim"), (value, style)), soft_wrap=True)
    if run.steps:
        out.print(_line(("steps", "dim")))
    for step in run.steps:
        out.print(_step_line(step), soft_wrap=True)
    for step_name, attempt, at, failure in failures:
        if failure.type == "StepError" and run.steps:
            continue  # It only repeats what its step has said.
        where = f"step `{text.printable(step_name)}`" if step_name else "the function"
        said = f"{text.clock(at)}  {where}, attempt {attempt + 1}: {text.first_line(str(failure))}"
        out.print()
        out.print(_line((said, "red")), soft_wrap=True)
        if failure.traceback:
            out.print(_line((text.printable(failure.traceback.rstrip(), keep_lines=True), "dim")), soft_wrap=True)


def _facts(run: Run, data: str, replays: list[tuple[str, RunState]]) -> Iterator[tuple[str, str, str]]:
    """(name, value, style) of what there is to say about the run as a whole."""
    reason = f" ({text.printable(run.reason)})" if run.reason else ""
    yield "run", run.id, ""
    yield "function", text.printable(run.function), "bold"
    yield "state", f"{text.symbol(run.state)} {run.state}{reason}", text.style(run.state)
    yield "event", f"{text.printable(run.event_name)}  {text.printable(run.event_id)}", ""
    yield "data", text.first_line(data), ""
    yield "queued", text.clock(run.queued_at), ""
    if run.started_at is not None:
        yield "began", f"{text.clock(run.started_at)}, took {text.took(run)}", ""
    if run.due_at is not None:
        wait = text.duration(run.due_at - time.time_ns() // 1_000_000)
        yield "goes on", f"{text.clock(run.due_at)}, in {wait}", "yellow"
    yield "attempts", f"{run.attempts} of {run.max_attempts}", ""
    if run.replay_of:
        yield "replay of", run.replay_of, ""
    for id_, state in replays:
        yield "replay", f"{id_} {state}", text.style(state)
    if run.output is not None:
        yield "output", text.first_line(bytes(run.output).decode()), ""


def _step_line(step: Step) -> Text:
    parts = [("  ", ""), (text.symbol(step.state), text.style(step.state)), (f" {text.printable(step.name)}", "")]
    if step.ended_at is not None and step.started_at is not None:
        parts.append((f"  {text.duration(step.ended_at - step.started_at)}", "dim"))
    if step.attempts > 1:
        parts.append((f"  {step.attempts} attempts", "yellow"))
    if step.output is not None:
        parts.append((f"  {text.first_line(bytes(step.output).decode())}", "dim"))
    return _line(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    from rich.text import Text  # lazy: `--json` doesn't draw

    return Text.assemble(*parts)
