"""Events in words and as JSON: where they came from, what each has started, or that nobody listens."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fanout.core.routing import Routes
from fanout.journal.received import Caused, FullEvent, ListedEvent, Source
from fanout.views import words
from fanout.views.runs import raw_json

if TYPE_CHECKING:
    from fanout.journal.appender import AcceptedEvent
    from fanout.journal.sqlite_reader import JournalReader


def names_unheard(reader: JournalReader, events: list[ListedEvent]) -> Collection[str]:
    """The names to which nothing listens today: no function, and no run that waits."""
    names = dict.fromkeys(event.name for event in events if not event.counts)
    if not names:
        return {}
    specs = [each.spec for each in reader.functions() if each.is_present]
    routes = Routes(specs)
    cancelling = {rule.event for spec in specs for rule in spec.cancel_on}
    return {name: None for name in names if not (routes.match(name) or name in cancelling or reader.awaiting(name))}


def source_in_words(event: ListedEvent, *, is_short: bool) -> str:
    """Who has sent it, as in `a step of ship-order 01K...`."""
    origin = event.origin
    by = ""
    if origin is not None:
        by = f"{words.printable(origin.function)} {words.short_id(origin.run) if is_short else origin.run}"
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


def without_runs(event: ListedEvent, unheard: Collection[str]) -> str:
    """Why it has no runs, as far as that can be told."""
    if not event.is_routed:
        return "not looked at yet"
    if event.source is Source.DUPLICATE:
        return "a duplicate"
    return "nobody listens" if event.name in unheard else "none"


def below(caused: Caused) -> Iterator[str]:
    """What a run of it has sent and invoked, as in `sent app/paid`."""
    for verb, found in (("sent", caused.sent), ("invoked", caused.invoked)):
        for name, number in found.items():
            yield f"{verb} {words.printable(name)}{f' {words.times(number)}' if number > 1 else ''}"


# JSON.


def accepted_json(events: Sequence[AcceptedEvent]) -> list[dict[str, Any]]:
    return [{"id": event.id, "name": event.name, "duplicate": event.is_duplicate} for event in events]


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
        "user": None if event.user is None else raw_json(event.user),
        "data": raw_json(event.data),
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
