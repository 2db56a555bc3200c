"""What events do besides starting functions: runs that they woke or cancelled, and events that nobody has heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.journal.heard import Heard
from fanout.views.heard import told_apart

if TYPE_CHECKING:
    from rich.text import Text

    from fanout.journal.appender import AcceptedEvent
    from fanout.journal.sqlite_reader import JournalReader

_MOST_LINES = 10


def lines(heard: Sequence[Heard]) -> list[Text]:
    """Which runs the events have woken, and at which step, and which they have cancelled."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    drawn = []
    for verb, runs in told_apart(heard):
        for run in runs[:_MOST_LINES]:
            line = Text(f"{verb} ", no_wrap=True, overflow="ellipsis")
            line.append(text.symbol(run.state), style=text.style(run.state))
            line.append(f" {text.printable(run.function)}")
            line.append(f"  {text.short_id(run.id)}", style="dim")
            if run.step:
                line.append(f"  {text.printable(run.step)}")
            drawn.append(line)
        if len(runs) > _MOST_LINES:
            drawn.append(Text(f"{verb} … {text.count(len(runs) - _MOST_LINES, 'more run')}", style="dim"))
    return drawn


def duplicates(accepted: Sequence[AcceptedEvent]) -> list[str]:
    """That events are known already: those that start no function for that reason, or only others than before."""
    found = [text.printable(event.id) for event in accepted if event.is_duplicate]
    if not found:
        return []
    others, they = ("", "it starts") if len(found) == 1 else (f" and {len(found) - 1:,} more", "they start")
    were = "was" if len(found) == 1 else "were"
    return [f"`{found[0]}`{others} {were} sent before, in the last 24 hours: {they} no function twice"]


def unheard(
    reader: JournalReader,
    accepted: Sequence[AcceptedEvent],
    concerned: set[str],
    listening: Sequence[str],
    cancelling: Mapping[str, str],
) -> list[str]:
    """That nobody has heard an event; nothing is said of duplicates.

    `concerned` are the ids of those that did something; `listening` are the names that start functions, as far as is
    known, and `cancelling` those that cancel runs, each with one of the functions.
    """
    names = sorted({event.name for event in accepted if event.id not in concerned and not event.is_duplicate})
    return [_unheard(reader, names[0], listening, cancelling)] if names else []


def _unheard(reader: JournalReader, name: str, listening: Sequence[str], cancelling: Mapping[str, str]) -> str:
    said = f"no function listens to `{text.printable(name)}`"
    if waiting := reader.awaiting(name):
        waits = "waits" if waiting == 1 else "wait"
        return f"{said}; {text.count(waiting, 'run')} {waits} for one, but not for this one"
    if name in cancelling:
        return f"{said}: it cancels runs of `{text.printable(cancelling[name])}`, and there is none for it"
    known = sorted({*listening, *cancelling, *reader.awaited_names()})
    return f"{said}, and no run waits for it{text.nearest(name, known)}"
