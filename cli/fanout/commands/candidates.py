"""Functions, runs and events to complete on a command line, as the journal knows them. Nobody's code is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fanout import config
from fanout.commands.completion_word import Word
from fanout.journal.functions import KnownFunction
from fanout.journal.received import EventFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import CronTrigger, EventTrigger, Run
from fanout.views.words import ULID_LENGTH, clock, printable, short_id

_NEWEST = 200
"""So many runs and events are looked at."""


def values(kind: str, begun: str, explicit: str | None) -> Iterable[Word]:
    """What a value of this kind may be, of the project of `--config` or of the nearest one.

    Raises:
        FanoutError: there is no project, or no journal that can be read.
    """
    if kind not in _KINDS:
        return []
    settings = config.load(config.find(Path.cwd(), explicit))
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        return list(_KINDS[kind](reader, begun))


# Functions.


def _functions_that(holds: Callable[[KnownFunction], bool]) -> Callable[[JournalReader, str], Iterator[Word]]:
    def find(reader: JournalReader, _begun: str) -> Iterator[Word]:
        return (_function(each) for each in reader.functions() if holds(each))

    return find


def _function(known: KnownFunction) -> Word:
    triggers = known.spec.triggers
    said = ", ".join(each.name if isinstance(each, EventTrigger) else each.expression for each in triggers)
    gone = "" if known.is_present else "gone from the code: "
    return Word(known.spec.id, printable(gone + (said or "invoked")))


def _has_schedule(known: KnownFunction) -> bool:
    return any(isinstance(each, CronTrigger) for each in known.spec.triggers)


# Runs and events, the newest first.


def _runs_that(holds: Callable[[Run], bool]) -> Callable[[JournalReader, str], Iterator[Word]]:
    def find(reader: JournalReader, begun: str) -> Iterator[Word]:
        for run in reader.runs(limit=_NEWEST, outputs=False):
            if holds(run):
                yield Word(_id(run.id, begun), printable(f"{run.function} {run.state} {clock(run.queued_at)}"))

    return find


def _events(reader: JournalReader, begun: str) -> Iterator[Word]:
    for event in reader.events(EventFilter(), _NEWEST):
        yield Word(_id(event.id, begun), printable(f"{event.name} {clock(event.received_at)}"))


def _events_and_runs(reader: JournalReader, begun: str) -> Iterator[Word]:
    yield from _events(reader, begun)
    yield from _runs_that(lambda _: True)(reader, begun)


def _id(id_: str, begun: str) -> str:
    """Its end, which tells ids apart sooner than the beginning, unless someone has begun with that."""
    return id_ if len(id_) != ULID_LENGTH or (begun and id_.startswith(begun)) else short_id(id_)


def _event_names(reader: JournalReader, _begun: str) -> Iterator[Word]:
    """Of events that functions listen to, that runs wait for, or that have come lately."""
    found: dict[str, str] = {}
    for known in reader.functions():
        for each in known.spec.triggers if known.is_present else ():
            if isinstance(each, EventTrigger) and not each.name.endswith("*"):
                found[each.name] = f"{found[each.name]}, {known.spec.id}" if each.name in found else known.spec.id
    for name in reader.awaited_names():
        found.setdefault(name, "runs wait for it")
    for event in reader.events(EventFilter(), _NEWEST):
        found.setdefault(event.name, f"came {clock(event.received_at)}")
    return (Word(name, printable(meaning)) for name, meaning in sorted(found.items()))


_KINDS: dict[str, Callable[[JournalReader, str], Iterator[Word]]] = {
    "function": _functions_that(lambda _: True),
    "function that runs": _functions_that(lambda known: known.is_present),
    "function with a schedule": _functions_that(lambda known: known.is_present and _has_schedule(known)),
    "paused function": _functions_that(lambda known: known.paused_at is not None),
    "function to pause": _functions_that(lambda known: known.is_present and known.paused_at is None),
    "run": _runs_that(lambda _: True),
    "live run": _runs_that(lambda run: not run.state.is_final),
    "ended run": _runs_that(lambda run: run.state.is_final),
    "event": _events,
    "event or run": _events_and_runs,
    "event name": _event_names,
}
