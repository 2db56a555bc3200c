"""`fanout check`: whether the project can be loaded, what its schedules mean, and what nothing starts or hears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fanout.commands import report, text
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.commands.text import count, printable
from fanout.config import App, Config
from fanout.config_tracing import sampling_of
from fanout.core.mentions import Mentions, is_heard, mentions, unreached
from fanout.engine.describing import Description, describe
from fanout.errors import ConfigError
from fanout.model import FunctionSpec
from fanout.views.cron import ticks_after
from fanout.views.function_words import cron_triggers, schedule_in_words, triggers_in_words

_TICKS = 3


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is probably not meant. Errors keep an app from being loaded; the others are warnings."""

    is_error: bool = False
    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="check", help=help_)(check)


def check(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings, too, end with exit code 1.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    described = describe(settings, on_output=lambda line: say(printable(line)))
    functions = [spec for each in described for spec in each.functions]
    problems = [
        *_errors(described),
        *_not_installed(settings),
        *_warnings(settings, functions, is_whole=all(not each.error for each in described)),
    ]
    if as_json:
        report.print_json(_as_json(described, functions, problems))
    else:
        _print_page(described, functions, problems)
    has_failed = any(each.is_error or strict for each in problems)
    raise typer.Exit(1 if has_failed else 0)


def _errors(described: Sequence[Description]) -> Iterator[Problem]:
    for each in described:
        if each.error is not None:
            yield Problem(is_error=True, message=f"app `{each.app.id}`: {each.error.message}", hint=each.error.hint)


def _not_installed(settings: Config) -> Iterator[Problem]:
    """It need not be where the code is only checked."""
    try:
        sampling_of(settings)
    except ConfigError as error:
        yield Problem(message=error.message, hint=error.hint)


def _warnings(settings: Config, functions: Sequence[FunctionSpec], *, is_whole: bool) -> Iterator[Problem]:
    """What is found by reading the modules; nothing where an app is missing, whose functions may be the answer."""
    if not is_whole:
        return
    read = [(file, mentions(source)) for app in settings.apps for file, source in _sources(app, settings.root)]
    said = [found for _, found in read]
    for spec in unreached(functions, {name for each in said for name in each.invoked}):
        yield Problem(
            message=f"nothing starts `{spec.id}`: it has no trigger, and no step of the project invokes it",
            hint=f"`fanout invoke {spec.id}` runs it by hand",
            file=spec.file,
            line=spec.line,
        )
    awaited = {name for each in said for name in each.awaited}
    yield from _unheard(read, functions, awaited)


def _unheard(
    read: Sequence[tuple[str, Mentions]], functions: Sequence[FunctionSpec], awaited: set[str]
) -> Iterator[Problem]:
    told: set[str] = set()
    for file, found in read:
        for event in found.sent:
            if event.name in told or is_heard(event, functions, awaited):
                continue
            told.add(event.name)
            name = f"{event.name}…" if event.is_prefix else event.name
            known = [each.name for spec in functions for each in spec.triggers if hasattr(each, "name")]
            near = text.nearest(event.name, known).removeprefix("; ")
            yield Problem(message=f"nobody listens to `{name}`", hint=near or None, file=file, line=event.line)


def _sources(app: App, root: Path) -> Iterator[tuple[str, str]]:
    """The app's modules as people know them, each with its text."""
    for module in app.functions:
        place = app.root.joinpath(*module.split("."))
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for file in files:
            try:
                source = file.read_text()
            except (OSError, ValueError):
                continue
            yield str(file.relative_to(root) if file.is_relative_to(root) else file), source


# What is said.


def _print_page(described: Sequence[Description], functions: Sequence[FunctionSpec], problems: list[Problem]) -> None:
    from rich.text import Text  # lazy: `--json` doesn't draw

    out = report.console()
    for each in described:
        mark, style = (text.drawn("✓", "v"), "green") if each.error is None else (text.drawn("✗", "x"), "bold red")
        line = Text().append(f"{mark} ", style=style).append(f"app `{printable(each.app.id)}`")
        if each.error is None:
            modules = len({spec.module for spec in each.functions})
            line.append(f"  {count(len(each.functions), 'function')} in {count(modules, 'module')}")
            line.append(f"  {text.duration(each.took_ms)}", style="dim")
        out.print(line, soft_wrap=True)
    schedules = [(spec, trigger) for spec in functions for trigger in cron_triggers(spec)]
    now = text.now()
    if schedules:
        out.print(Text("\nschedules", style="dim"))
    for spec, trigger in schedules:
        out.print(Text(f"  {printable(spec.id)}  {schedule_in_words(spec, trigger)}"), soft_wrap=True)
        ticks = ", ".join(text.clock(at) for at in islice(ticks_after(spec, trigger, now), _TICKS))
        out.print(Text(f"    next {ticks or 'never'}", style="dim"), soft_wrap=True)
    if problems:
        out.print()
    for problem in problems:
        word, style = ("error", "bold red") if problem.is_error else ("warning", "yellow")
        where = "" if problem.file is None else f"{printable(problem.file)}:{problem.line}: "
        line = Text().append(f"{word}: ", style=style).append(f"{where}{printable(problem.message, keep_lines=True)}")
        out.print(line, soft_wrap=True)
        if problem.hint:
            out.print(Text(f"  hint: {printable(problem.hint)}", style="dim"), soft_wrap=True)
    errors = sum(problem.is_error for problem in problems)
    warnings = len(problems) - errors
    found = [count(number, noun) for number, noun in ((errors, "error"), (warnings, "warning")) if number]
    say(", ".join(found) or "no problems found")


def _as_json(
    described: Sequence[Description], functions: Sequence[FunctionSpec], problems: Sequence[Problem]
) -> dict[str, Any]:
    now = text.now()
    return {
        "ok": not any(problem.is_error for problem in problems),
        "apps": [
            {"id": each.app.id, "functions": len(each.functions), "error": each.error and each.error.message}
            for each in described
        ],
        "functions": [
            {"id": spec.id, "file": spec.file, "line": spec.line, "triggers": triggers_in_words(spec)}
            for spec in functions
        ],
        "schedules": [
            {
                "function": spec.id,
                "cron": trigger.expression,
                "timezone": trigger.zone,
                "words": schedule_in_words(spec, trigger),
                "next": [*islice(ticks_after(spec, trigger, now), _TICKS)],
            }
            for spec in functions
            for trigger in cron_triggers(spec)
        ],
        "problems": [
            {
                "level": "error" if each.is_error else "warning",
                "message": each.message,
                "hint": each.hint,
                "file": each.file,
                "line": each.line,
            }
            for each in problems
        ],
    }
