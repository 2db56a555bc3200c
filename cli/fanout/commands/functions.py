"""`fanout functions`: what the code has, and which of it is paused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanout.client import Client
from fanout.commands import loading, report, text, waiting
from fanout.commands.app import say
from fanout.commands.function_words import settings_in_words, settings_json, trigger_json, triggers_in_words
from fanout.config import Config
from fanout.errors import NotFoundError
from fanout.journal.family import Watched
from fanout.journal.functions import KnownFunction, RunCounts
from fanout.journal.sqlite_reader import JournalReader

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NARROW = 70
"""Columns below which each function has lines of its own instead of a row."""
_MOST_COUNTED = 100_000
"""Runs are counted among the newest so many: more would take long, and say little."""

functions_app = typer.Typer(rich_markup_mode=None)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids of functions.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ConfigPath = Annotated[str | None, typer.Option("--config", help="The fanout.toml to use.", show_default=False)]


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(functions_app, name="functions", help=help_)


@functions_app.callback(invoke_without_command=True)
def list_functions(context: typer.Context, as_json: Json = False, config: ConfigPath = None) -> None:
    if context.invoked_subcommand is not None:
        return
    settings = waiting.project(config)
    found = loading.functions_now(settings)
    with JournalReader(settings.journal) as reader:
        counts = reader.run_counts(_MOST_COUNTED)
    # Of those that are gone, the ones whose runs wait for them still matter.
    shown = [each for each in found if each.is_present or _has_live(each, counts)]
    if as_json:
        report.print_json(page_json(shown, counts))
        return
    print_page(report.console(), shown, counts)
    if not counts.is_whole:
        say(f"hint: runs are counted among the newest {counts.counted:,}")


def _has_live(known: KnownFunction, counts: RunCounts) -> bool:
    return any(not state.is_final for state in counts.by_function.get(known.spec.id, ()))


@functions_app.command(
    name="pause", help="Start no more runs of these; those that go on or are at work are left to end."
)
def pause(names: Names, as_json: Json = False, config: ConfigPath = None) -> None:
    _ask("pause", names, as_json=as_json, config=config)


@functions_app.command(name="resume", help="Start runs of these again, those first that were queued meanwhile.")
def resume(names: Names, as_json: Json = False, config: ConfigPath = None) -> None:
    _ask("resume", names, as_json=as_json, config=config)


def _ask(kind: str, names: list[str], *, as_json: bool, config: str | None) -> None:
    settings = waiting.project(config)
    chosen = list(dict.fromkeys(names))
    _check(settings, chosen)

    def put(client: Client) -> Watched:
        return Watched(request=client.request(kind, {"functions": chosen}))

    waiting.put_and_ask(settings, put)
    with JournalReader(settings.journal) as reader:
        known = [loading.function_named(reader.functions(), name) for name in chosen]
    if as_json:
        report.print_json({"functions": [{"id": each.spec.id, "paused_at": each.paused_at} for each in known]})
        return
    for each in known:
        state = "not paused" if each.paused_at is None else f"paused since {text.clock(each.paused_at)}"
        print(f"{text.printable(each.spec.id)}  {state}")


def _check(settings: Config, names: list[str]) -> None:
    """All are functions; the code is loaded to see that only where the journal does not know one."""
    try:
        with JournalReader(settings.journal) as reader:
            known = {each.spec.id for each in reader.functions()}
    except NotFoundError:
        known = set()
    if not known.issuperset(names):
        found = loading.functions_now(settings)
        for name in names:
            loading.function_named(found, name)


# For people.


def print_page(out: Console, functions: list[KnownFunction], counts: RunCounts) -> None:
    """A row for each function, or on a narrow terminal a few lines."""
    from rich.table import Table  # lazy: `--json` doesn't draw
    from rich.text import Text

    if out.width < _NARROW:
        for known in functions:
            name, *marks = _name(known)
            out.print(name, soft_wrap=True)
            lines = [*triggers_in_words(known.spec), *settings_in_words(known.spec), *_runs(known, counts)]
            for line in (*marks, *map(Text, lines)):
                out.print(Text("  ").append(line), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("function", "started by", "settings", "runs"):
        table.add_column(heading, overflow="fold")
    for known in functions:
        table.add_row(
            Text("\n").join(_name(known)),
            *(Text("\n".join(each)) for each in (triggers_in_words(known.spec), settings_in_words(known.spec))),
            Text("\n".join(_runs(known, counts))),
        )
    out.print(table)


def _name(known: KnownFunction) -> Iterator[Text]:
    """Its id, and what keeps its runs from being started."""
    from rich.text import Text

    yield Text(text.printable(known.spec.id), style="" if known.is_present else "dim")
    if not known.is_present:
        yield Text("not in the code", style="dim")
    elif known.is_stale:
        yield Text("could not be loaded", style="bold red")
    if known.paused_at is not None:
        yield Text(f"paused since {text.clock(known.paused_at)}", style="yellow")


def _runs(known: KnownFunction, counts: RunCounts) -> list[str]:
    return [said for said, _ in text.states(counts.by_function.get(known.spec.id, {}))]


# JSON.


def page_json(functions: list[KnownFunction], counts: RunCounts) -> dict[str, Any]:
    return {
        "functions": [_json(known, counts) for known in functions],
        "runs_counted": counts.counted,
        "are_all_runs_counted": counts.is_whole,
    }


def _json(known: KnownFunction, counts: RunCounts) -> dict[str, Any]:
    spec = known.spec
    return {
        "id": spec.id,
        "name": spec.name,
        "app": spec.app,
        "module": spec.module,
        "qualname": spec.qualname,
        "file": spec.file,
        "line": spec.line,
        "is_present": known.is_present,
        "is_loadable": not known.is_stale,
        "loaded_at": known.loaded_at,
        "paused_at": known.paused_at,
        "triggers": [trigger_json(spec, trigger) for trigger in spec.triggers],
        "settings": settings_json(spec),
        "runs": dict(counts.by_function.get(spec.id, {})),
    }
