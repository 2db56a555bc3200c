"""Who would hear an event: the functions that it starts or whose runs it cancels, and the runs that wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fanout.core.routing import Routes
from fanout.model import EventTrigger
from fanout.views import words

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader


class Hearing(NamedTuple):
    """`starts` and `cancels` are functions, `waiting` is how many runs wait; `hint` is for when it is nobody."""

    starts: tuple[str, ...]
    cancels: tuple[str, ...]
    waiting: int
    hint: str

    @property
    def is_nobody(self) -> bool:
        return not (self.starts or self.cancels or self.waiting)


def hearing(reader: JournalReader, name: str) -> Hearing:
    """Who would hear an event of this name today."""
    specs = [each.spec for each in reader.functions() if each.is_present]
    starts = tuple(dict.fromkeys(spec.id for spec in Routes(specs).match(name)))
    cancels = tuple(spec.id for spec in specs if any(rule.event == name for rule in spec.cancel_on))
    waiting = reader.awaiting(name)
    found = Hearing(starts, cancels, waiting, "")
    if not found.is_nobody:
        return found
    return found._replace(hint=words.nearest(name, heard_names(reader)).removeprefix("; "))


def heard_names(reader: JournalReader) -> list[str]:
    """The names and patterns that anything listens to."""
    specs = [each.spec for each in reader.functions() if each.is_present]
    listening = {trigger.name for spec in specs for trigger in spec.triggers if isinstance(trigger, EventTrigger)}
    cancelling = {rule.event for spec in specs for rule in spec.cancel_on}
    return sorted({*listening, *cancelling, *reader.awaited_names()})
