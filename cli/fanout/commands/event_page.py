"""Events as people see them, in a list and one in full, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.commands import report, text
from fanout.commands.columns import Column, labelled, print_table, runs_in_short
from fanout.journal.received import Caused, FullEvent, ListedEvent, Source

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
            Text(_source(event, is_short=out.is_terminal), style="dim"),
            runs_in_short(out, event.counts) if event.counts else Text(_without_runs(event, unheard), style="yellow"),
        )
        for event in events
    ]
    print_table(out, _COLUMNS, rows)


def _source(event: ListedEvent, *, is_short: bool) -> str:
    origin = event.origin
    by = ""
    if origin is not None:
        by = f"{text.printable(origin.function)} {text.short_id(origin.run) if is_short else origin.run}"
    match event.source:
        case Source.SENT:
            return "sent"
        case Source.DUPLICATE:
            return "sent again"
        case Source.STEP:
            return f"a step of {by}"
        case Source.CRON:
            return "cron"
        case Source.INVOKE:
            return f"invoked by {by}" if by else "invoked by hand"
        case Source.ENGINE:
            return f"the end of {by}" if by else "the engine"


def _without_runs(event: ListedEvent, unheard: Collection[str]) -> str:
    """Why it has no runs, as far as that can be told."""
    if not event.is_routed:
        return "not looked at yet"
    if event.source is Source.DUPLICATE:
        return "a duplicate"
    return "nobody listens" if event.name in unheard else "none"


# One in full.


def print_page(out: Console, event: FullEvent, unheard: Collection[str]) -> None:
    from rich.text import Text

    for name, value, style in _facts(event):
        for number, line in enumerate(value.split("\n")):
            label = "" if number else name
            out.print(labelled(label, _INDENT, line, style), soft_wrap=True)
    if not event.runs:
        out.print(labelled("runs", _INDENT, _without_runs(event.listed, unheard), "yellow"), soft_wrap=True)
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
    below = ", ".join((*([mark] if mark else []), *_below(caused)))
    return [state, Text(text.name(run)), Text(id_), Text(text.took(run)), Text(below, style="dim")]


def _below(caused: Caused) -> Iterator[str]:
    for verb, found in (("sent", caused.sent), ("invoked", caused.invoked)):
        for name, number in found.items():
            yield f"{verb} {text.printable(name)}{f' {text.times(number)}' if number > 1 else ''}"


def _facts(event: FullEvent) -> Iterator[tuple[str, str, str]]:
    """What is said of the event as a whole: names, values of one line or more, styles."""
    listed = event.listed
    yield "event", text.printable(listed.id), ""
    yield "name", text.printable(listed.name), "bold"
    yield "from", _source(listed, is_short=False), "yellow" if listed.source is Source.DUPLICATE else ""
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


# JSON.


def listed_json(event: ListedEvent, unheard: Collection[str]) -> dict[str, Any]:
    return {
        "id": event.id,
        "name": event.name,
        "ts": event.ts,
        "received_at": event.received_at,
        "source": event.source,
        "origin": None if event.origin is None else {"run": event.origin.run, "function": event.origin.function},
        "is_routed": event.is_routed,
        "is_unheard": not event.counts and event.name in unheard,
        "functions": list(event.functions),
        "runs": dict(event.counts),
    }


def full_json(event: FullEvent, unheard: Collection[str]) -> dict[str, Any]:
    """As in the list, but with its runs one by one, `run_counts` in their place, and what was sent."""
    listed = listed_json(event.listed, unheard)
    return {
        **listed,
        "v": event.v,
        "user": None if event.user is None else report.raw_json(event.user),
        "data": report.raw_json(event.data),
        "run_counts": listed["runs"],
        "runs": [
            {
                "id": caused.run.id,
                "function": caused.run.function,
                "state": caused.run.state,
                "started_at": caused.run.started_at,
                "ended_at": caused.run.ended_at,
                "is_replay": caused.run.replay_of is not None,
                "sent": dict(caused.sent),
                "invoked": dict(caused.invoked),
            }
            for caused in event.runs
        ],
    }
