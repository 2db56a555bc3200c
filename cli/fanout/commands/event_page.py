"""Events as people see them, in a list and one in full, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from fanout.commands import text
from fanout.commands.columns import Column, labelled, print_table, runs_in_short
from fanout.journal.received import Caused, FullEvent, ListedEvent, Source
from fanout.views.events import below, source_in_words, without_runs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_COLUMNS = (
    Column("event", least=16),
    Column("name", least=12),
    Column("came"),
    Column("from", least=10, rank=1),
    Column("runs", least=14),
)
_INDENT = 10
_NARROW = 70


def print_list(out: Console, events: Sequence[ListedEvent], unheard: Collection[str]) -> None:
    """A line each. Ids are whole where this is not a terminal: what reads it there may look them up."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    is_narrow = out.is_terminal and out.width < _NARROW
    rows = [
        (
            Text(text.short_id(event.id) if out.is_terminal else text.printable(event.id)),
            Text(text.printable(event.name), style="bold"),
            Text(text.clock(event.received_at, is_short=is_narrow)),
            Text(source_in_words(event, is_short=out.is_terminal), style="dim"),
            runs_in_short(out, event.counts) if event.counts else Text(without_runs(event, unheard), style="yellow"),
        )
        for event in events
    ]
    print_table(out, _COLUMNS, rows)


# One in full.


def print_page(out: Console, event: FullEvent, unheard: Collection[str]) -> None:
    from rich.text import Text

    for name, value, style in _facts(event):
        for number, line in enumerate(value.split("\n")):
            label = "" if number else name
            out.print(labelled(label, _INDENT, line, style), soft_wrap=True)
    if not event.runs:
        out.print(labelled("runs", _INDENT, without_runs(event.listed, unheard), "yellow"), soft_wrap=True)
        return
    out.print(Text("runs", style="dim"))
    print_table(out, _RUN_COLUMNS, [_row(caused, is_short=out.is_terminal) for caused in event.runs], indent=2)
    if event.runs_in_all > len(event.runs):
        more = event.runs_in_all - len(event.runs)
        out.print(Text(f"  {text.drawn('…', '...')} {text.count(more, 'more run')}", style="dim"))


_RUN_COLUMNS = (
    Column("state"),
    Column("function", least=12),
    Column("run"),
    Column("took", is_right=True, rank=2),
    Column("caused", least=10, rank=1),
)


def _row(caused: Caused, *, is_short: bool) -> list[Text]:
    from rich.text import Text

    run = caused.run
    state = Text(f"{text.symbol(run.state)} {run.state}", style=text.style(run.state))
    id_ = text.short_id(run.id) if is_short else run.id
    mark = "replay" if run.replay_of is not None else ""
    caused_here = ", ".join((*([mark] if mark else []), *map(text.shown, below(caused))))
    return [state, Text(text.name(run)), Text(id_), Text(text.took(run)), Text(caused_here, style="dim")]


def _facts(event: FullEvent) -> Iterator[tuple[str, str, str]]:
    """What is said of the event as a whole: names, values of one line or more, styles."""
    listed = event.listed
    yield "event", text.printable(listed.id), ""
    yield "name", text.printable(listed.name), "bold"
    yield "from", source_in_words(listed, is_short=False), "yellow" if listed.source is Source.DUPLICATE else ""
    yield "came", text.clock(listed.received_at), ""
    if listed.ts != listed.received_at:
        yield "happened", text.clock(listed.ts), ""
    if event.v is not None:
        yield "version", text.printable(event.v), ""
    for name, value in (("user", event.user), ("data", event.data)):
        if value is not None:
            yield name, text.printable(msgspec.json.format(value, indent=2), keep_lines=True).replace("\t", "\\t"), ""


def argument(id_: str) -> str:
    """The id as it can be given to a shell: a sender may have chosen anything."""
    return text.printable(shlex.quote(id_))
