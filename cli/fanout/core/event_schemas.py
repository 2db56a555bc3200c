"""What functions say that the data of events has to be, and whether an event fits all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from fanout.core.routing import Routes
from fanout.errors import EventError
from fanout.model import EventTrigger, FunctionSpec

if TYPE_CHECKING:
    from fanout.core.json_schema import JsonSchema

INVOKED = "fanout/function.invoked"
"""The event of a function that was called by name."""


class UnfitError(EventError):
    """The event of a run does not fit its function: none of the user's code has run."""


class Sent(Protocol):
    """An event that somebody sends; `data` and `user` are JSON text."""

    @property
    def name(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def ts(self) -> int | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def v(self) -> str | None: ...


class Needed(NamedTuple):
    """What a function says of the data of an event."""

    function: FunctionSpec
    schema: JsonSchema


def chosen(patterns: Sequence[str | None], spec: FunctionSpec, name: str) -> int | None:
    """Which of a function's schemas is for events of this name: the number of the one that says most of it.

    One without a name is for all that the function listens to, and for being invoked.
    """
    if list(patterns) == [None]:
        return 0 if name == INVOKED or any(each.listens_to(name) for each in _heard(spec)) else None
    named = [
        (len(each) if each.endswith("*") else len(name) + 1, number)
        for number, each in enumerate(patterns)
        if each is not None and EventTrigger(each).listens_to(name)
    ]
    return max(named)[1] if named else None


def _heard(spec: FunctionSpec) -> Iterable[EventTrigger]:
    return (each for each in spec.triggers if isinstance(each, EventTrigger))


class EventSchemas:
    """Those of some functions. One without any costs nothing."""

    def __init__(self, functions: Iterable[FunctionSpec] = ()) -> None:
        having = [spec for spec in functions if spec.schemas]
        self._routes = Routes(having) if having else None
        self._read: dict[tuple[str, int], JsonSchema] = {}

    def needed(self, name: str) -> list[Needed]:
        """What an event of this name has to be, for each function that listens and says so."""
        if self._routes is None:
            return []
        found = []
        for spec in self._routes.match(name):
            number = chosen([each.event for each in spec.schemas], spec, name)
            if number is not None:
                found.append(Needed(spec, self._schema(spec, number)))
        return found

    def _schema(self, spec: FunctionSpec, number: int) -> JsonSchema:
        key = spec.id, number
        if key not in self._read:
            from fanout.core.json_schema import JsonSchema  # lazy: most functions have none, and workers start sooner

            self._read[key] = JsonSchema(msgspec.json.decode(spec.schemas[number].schema))
        return self._read[key]

    def check(self, events: Sequence[Sent], source: str | Sequence[str] = "") -> None:
        """`source` is what messages call where the events come from, or each of them.

        Raises:
            EventError: one does not fit a function that it would start. The message names both, and the field.
        """
        if self._routes is None:
            return
        for number, event in enumerate(events):
            refused = self._refused(event)
            if refused is not None:
                import shlex  # lazy: as above

                place = _place(source, number, len(events)) if isinstance(source, str) else f"{source[number]}: "
                raise EventError(
                    f"{place}event `{event.name}` does not fit function `{refused[0].id}`: {refused[1]}",
                    hint=f"`fanout events schema {shlex.quote(event.name)}` shows what its data has to be",
                )

    def _refused(self, event: Sent) -> tuple[FunctionSpec, str] | None:
        needed = self.needed(event.name)
        data = msgspec.json.decode(event.data) if needed else None
        for function, schema in needed:
            found = schema.complaint(data, "data")
            if found is not None and _would_start(function, event, data):
                return function, str(found)
        return None


def _place(source: str, number: int, total: int) -> str:
    if total > 1:
        return f"`{source}` event {number + 1}: " if source else f"event {number + 1}: "
    return f"`{source}`: " if source else ""


def _would_start(spec: FunctionSpec, event: Sent, data: Any) -> bool:
    """A function can tell versions of an event apart by `if_`: what it is not for needs not fit."""
    conditions = [each.if_ for each in _heard(spec) if each.listens_to(event.name)]
    if None in conditions:
        return True
    from fanout.core import expressions  # lazy: CEL is slow to load, and few functions use it

    said = _as_dict(event, data)
    return any(expressions.parse(each).is_true(event=said) for each in conditions if each is not None)


def _as_dict(event: Sent, data: Any) -> Mapping[str, Any]:
    """As expressions see it. What the journal gives it later, an id and a time, is not there yet."""
    user = None if event.user is None else msgspec.json.decode(event.user)
    known = {"id": event.id, "ts": event.ts, "user": user, "v": event.v}
    return {"name": event.name, "data": data, **{key: value for key, value in known.items() if value is not None}}
