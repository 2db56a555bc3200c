"""What functions say of an event's data: as one JSON Schema, and in a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from fanout.core.event_schemas import EventSchemas, Needed
from fanout.core.json_schema import JsonSchema
from fanout.core.routing import Routes
from fanout.errors import NotFoundError
from fanout.model import EventSchema, EventTrigger, FunctionSpec
from fanout.views import words

_MOST_FIELDS = 20
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Expected(NamedTuple):
    """What an event of this name has to be: `needed` by some, while `others` listen and take any data."""

    name: str
    needed: list[Needed]
    others: list[FunctionSpec]

    @property
    def document(self) -> dict[str, Any]:
        """One JSON Schema for its data: it has to fit all of them.

        Each keeps its own names by an `$id`, so that a `$ref` in it stays in it.
        """
        if len(self.needed) == 1:
            return dict(self.needed[0].schema.document)
        each = [{"$id": f"fanout:{need.function.id}", **_inner(need.schema.document)} for need in self.needed]
        return {"$schema": _DIALECT, "title": self.name, "allOf": each}


def _inner(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$schema"}


def expected(functions: Sequence[FunctionSpec], name: str) -> Expected:
    """What functions need of events of this name.

    Raises:
        NotFoundError: none listens, or none of them says.
    """
    listening = Routes(functions).match(name)
    if not listening:
        known = [each.name for spec in functions for each in spec.triggers if isinstance(each, EventTrigger)]
        near = words.nearest(name, known).removeprefix("; ")
        raise NotFoundError(
            f"no function listens to `{name}`", hint=near or "`fanout functions` lists what starts them"
        )
    needed = EventSchemas(listening).needed(name)
    if not needed:
        listed = ", ".join(f"`{each.id}`" for each in listening)
        raise NotFoundError(
            f"no function says what the data of `{name}` has to be",
            hint=f"listening: {listed}; `event_schema=` of a function says it",
        )
    ids = {need.function.id for need in needed}
    return Expected(name, needed, [each for each in listening if each.id not in ids])


def as_json(found: Expected) -> dict[str, Any]:
    return {
        "event": found.name,
        "schema": found.document,
        "functions": [
            {
                "id": need.function.id,
                "file": need.function.file,
                "line": need.function.line,
                "schema": need.schema.document,
            }
            for need in found.needed
        ],
        "others": [each.id for each in found.others],
    }


def in_short(schema: EventSchema) -> str:
    """As in `Order (user, total, note?)`, its fields: a `?` is for those that may be left out."""
    read = JsonSchema(msgspec.json.decode(schema.schema))
    top = read.resolved(read.document)
    title = words.printable(str(top.get("title", ""))) if isinstance(top, dict) else ""
    fields = list(top.get("properties") or ()) if isinstance(top, dict) else []
    if not fields:
        return title or "one of several"
    required = top.get("required", ())
    said = [words.printable(name) + ("" if name in required else "?") for name in fields[:_MOST_FIELDS]]
    more = f" and {len(fields) - _MOST_FIELDS} more" if len(fields) > _MOST_FIELDS else ""
    return f"{title} ({', '.join(said)}{more})".strip()
