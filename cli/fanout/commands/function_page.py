"""Functions as people see them, in a list and one in full, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.commands.columns import Column, labelled, print_table, runs_in_short
from fanout.journal.functions import KnownFunction
from fanout.journal.statistics import FunctionFigures
from fanout.views import event_schemas
from fanout.views.function_words import all_settings, triggers_in_words
from fanout.views.functions import Figures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_INDENT = 14
_FUNCTION_WIDTH = 14
_WIDE = 100
"""Columns from which on the time of day is said of what was on another day."""


def print_list(out: Console, functions: Sequence[KnownFunction], figures: Figures) -> None:
    """A line each; where there is room, all states its runs are in, and the times that they took."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    marks = [Text(", ").join(_marks(known)) for known in functions]
    columns = [
        Column("function", least=_FUNCTION_WIDTH),
        *((Column(""),) if any(marks) else ()),
        Column("started by", least=12, rank=1),
        Column("runs", least=20 if out.width >= _WIDE else None),
        Column("last run", rank=2),
        Column("p50", is_right=True, rank=4),
        Column("p95", is_right=True, rank=3),
    ]
    rows = []
    for known, mark in zip(functions, marks, strict=True):
        its = figures.get(known.spec.id)
        rows.append([
            Text(text.printable(known.spec.id), style="" if known.is_present else "dim"),
            *((mark,) if any(marks) else ()),
            Text("; ".join(triggers_in_words(known.spec)), style="dim"),
            runs_in_short(out, its.counts) if its is not None else Text("-", style="dim"),
            Text("" if its is None else text.clock(its.last_at, is_short=out.is_terminal and out.width < _WIDE)),
            _took(its and its.took.p50),
            _took(its and its.took.p95),
        ])  # fmt: skip
    print_table(out, columns, rows)


def _marks(known: KnownFunction) -> Iterator[Text]:
    """What keeps its runs from being started."""
    from rich.text import Text

    if not known.is_present:
        yield Text("not in the code", style="dim")
    elif known.is_stale:
        yield Text("not loaded", style="bold red")
    if known.paused_at is not None:
        yield Text("paused", style="yellow")


def _took(milliseconds: int | None) -> Text:
    from rich.text import Text

    return Text("-", style="dim") if milliseconds is None else Text(text.duration(milliseconds))


# One in full.


def print_page(out: Console, known: KnownFunction, figures: FunctionFigures | None) -> None:
    facts = [*_facts(known), *_figures(figures), *_settings(known)]
    last = ""
    for name, value, style in facts:
        label = "" if name == last else name
        out.print(labelled(label, _INDENT, value, style), soft_wrap=True)
        last = name


_Fact = tuple[str, str, str]


def _facts(known: KnownFunction) -> Iterator[_Fact]:
    spec = known.spec
    yield "function", text.printable(spec.id), "bold"
    if spec.name not in (spec.id, spec.local_id):
        yield "name", text.printable(spec.name), ""
    if not known.is_present:
        yield "state", "not in the code", "dim"
    elif known.is_stale:
        yield "state", "could not be loaded: this is what the code had before", "bold red"
    if known.paused_at is not None:
        yield "state", f"paused since {text.clock(known.paused_at)}", "yellow"
    is_async = "async " if spec.is_async else ""
    code = f"{is_async}def {text.printable(spec.qualname)} in {text.printable(spec.file)} line {spec.line}"
    yield "code", code, ""
    for trigger in triggers_in_words(spec):
        yield "started by", trigger, ""
    for schema in spec.schemas:
        of = "" if schema.event is None else f"{text.printable(schema.event)}: "
        yield "event data", f"{of}{event_schemas.in_short(schema)}", ""
    if spec.steps:
        yield "steps", ", ".join(map(text.printable, spec.steps)), ""


def _figures(figures: FunctionFigures | None) -> Iterator[_Fact]:
    if figures is None:
        yield "runs", "none yet", "dim"
        return
    for words, style in text.states(figures.counts):
        yield "runs", words, style
    last = f"{figures.last_run}  {figures.last_state}  {text.clock(figures.last_at)}"
    yield "last run", last, ""
    for name, times in (("took", figures.took), ("queued", figures.queued)):
        if times.p50 is not None and times.p95 is not None:
            yield name, f"{text.duration(times.p50)} (p50), {text.duration(times.p95)} (p95)", ""


def _settings(known: KnownFunction) -> Iterator[_Fact]:
    """All settings; those that are the default are dim."""
    for name, words, is_default in all_settings(known.spec):
        yield name, words, "dim" if is_default else ""
