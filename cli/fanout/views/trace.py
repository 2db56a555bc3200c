"""All that an event has caused, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanout.journal.family import Family, FamilyEvent, FamilyRun, Member
from fanout.views.runs import run_json

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader

MOST_MEMBERS = 200_000
"""So many runs of a family are told apart at most."""


def as_json(reader: JournalReader, family: Family, marked: Member) -> dict[str, Any]:
    """Flat, with links: `event_id` and `parent` of a run, `origin` of an event (the run that sent it)."""
    runs = reader.runs_with_steps(list(family.runs), outputs=True)
    return {
        "id": marked.id,
        "root": family.roots[0].id,
        "events": [_event_json(event, family) for event in family.events.values()],
        "runs": [
            {
                **run_json(runs[key]),
                "parent_step": member.parent_step,
                "item": member.item,
                "item_key": member.item_key,
            }
            for key, member in family.runs.items()
            if key in runs
        ],
    }


def _event_json(event: FamilyEvent, family: Family) -> dict[str, Any]:
    origin: FamilyRun | None = None if event.origin is None else family.runs.get(event.origin)
    return {
        "id": event.id,
        "name": event.name,
        "received_at": event.received_at,
        "origin": None if origin is None else origin.id,
        "duplicate": event.is_duplicate,
    }
