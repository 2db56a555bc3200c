"""The types that functions have for the data of their events: described as JSON Schema, and made from JSON text.

msgspec knows them all but pydantic's, which are known by what they have: pydantic itself is never imported here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin
from weakref import WeakKeyDictionary

import msgspec

from fanout.attached import event_schema_of
from fanout.codec import failure_of
from fanout.core.event_schemas import INVOKED, UnfitError, chosen
from fanout.core.json_schema import JsonSchema
from fanout.errors import LoadError
from fanout.model import EventSchema, EventTrigger, FunctionSpec
from fanout.protocol import Envelope
from fanout.worker import context_data

MAX_SCHEMA_BYTES = 256 * 1024
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MOST_WORDS = 1_000
_KINDS = "give a TypedDict, a dataclass, a msgspec Struct or a pydantic model, of what JSON can hold"


class EventType(NamedTuple):
    """One type: how it is described, and what makes it from JSON text. `event`: see `EventSchema`."""

    event: str | None
    schema: JsonSchema
    decode: Callable[[str], Any]


class EventTypes:
    """Those of one function."""

    def __init__(self, types: tuple[EventType, ...]) -> None:
        self._types = types
        self._patterns = [each.event for each in types]

    def described(self) -> tuple[EventSchema, ...]:
        return tuple(
            EventSchema(each.event, msgspec.json.encode(each.schema.document).decode()) for each in self._types
        )

    def data_of(self, spec: FunctionSpec, envelope: Envelope) -> Any:
        """The data of this event, in the type that the function has for it.

        Raises:
            UnfitError: it does not fit.
        """
        _, name, _, text, _, _ = envelope
        number = chosen(self._patterns, spec, name)
        if number is None:
            return msgspec.json.decode(text)
        kind = self._types[number]
        try:
            return kind.decode(text)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - boundary: models and `__post_init__` are the user's code
            # The same words as where it would have been refused, if they can be had.
            found = kind.schema.complaint(msgspec.json.decode(text), "data")
            said = str(found) if found is not None else _words(error)
            what = "what it was invoked with" if name == INVOKED else f"event `{name}`"
            raise UnfitError(f"{what} does not fit function `{spec.id}`: {said}") from None


_known: WeakKeyDictionary[Callable[..., Any], EventTypes] = WeakKeyDictionary()


def types_of(function: Callable[..., Any], spec: FunctionSpec) -> EventTypes:
    """What `event_schema` of the function says.

    Raises:
        LoadError: a type can't be used.
    """
    known = _known.get(function)
    if known is None:
        declared = event_schema_of(function)
        context_data.check(function, declared)
        named = _named(declared, spec) if isinstance(declared, Mapping) else [(None, declared)]
        known = _known[function] = EventTypes(tuple(_event_type(name, kind) for name, kind in named))
    return known


def _named(declared: Mapping[Any, Any], spec: FunctionSpec) -> list[tuple[str | None, Any]]:
    heard = [each.name for each in spec.triggers if isinstance(each, EventTrigger)]
    for name in declared:
        if name != INVOKED and not any(_have_common(str(name), each) for each in heard):
            listed = ", ".join(f"`{each}`" for each in heard) or "none"
            raise LoadError(
                f"`event_schema` has the event `{name}`, which none of its triggers hears",
                hint=f"its events: {listed}; for all of them, write `event_schema=Type`",
            )
    return list(declared.items())


def _have_common(one: str, other: str) -> bool:
    """Whether an event's name can be both; either may have an open tail."""
    return EventTrigger(one).listens_to(other) or EventTrigger(other).listens_to(one)


def _event_type(name: str | None, kind: Any) -> EventType:
    what = "`event_schema`" if name is None else f"`event_schema` of `{name}`"
    if not isinstance(kind, type) and get_origin(kind) is None:
        raise LoadError(f"{what} is {kind!r}, which is no type", hint=_KINDS)
    try:
        made, decode = _of_pydantic(kind) if _is_pydantic(kind) else _of_msgspec(kind)
    except Exception as error:  # noqa: BLE001 - boundary: there are more types than can be described, and some have code
        reason = failure_of(error).message.splitlines()[-1:]
        raise LoadError(
            f"{what}: `{_name(kind)}` can't be described as JSON Schema: {''.join(reason) or type(error).__name__}",
            hint=_KINDS,
        ) from None
    text = msgspec.json.encode({"$schema": _DIALECT, **made})
    schema = JsonSchema(msgspec.json.decode(text))  # As JSON has it: tags that are numbers are keys in it.
    if "object" not in schema.kinds(schema.document):
        raise LoadError(f"{what}: `{_name(kind)}` is no object, as an event's data always is", hint=_KINDS)
    if len(text) > MAX_SCHEMA_BYTES:
        raise LoadError(
            f"{what}: `{_name(kind)}` has {len(text):,} bytes of JSON Schema, at most {MAX_SCHEMA_BYTES:,} can be"
        )
    return EventType(name, schema, decode)


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", None) or str(kind)


# By msgspec.


def _of_msgspec(kind: Any) -> tuple[dict[str, Any], Callable[[str], Any]]:
    schema = msgspec.json.schema(kind)
    _mend(msgspec.inspect.type_info(kind), schema, JsonSchema(schema), set())
    return schema, msgspec.json.Decoder(kind).decode


_FORMATS = {"DateTimeType": "date-time", "TimeType": "time"}


def _mend(info: Any, schema: Any, document: JsonSchema, seen: set[int]) -> None:
    """What msgspec's description leaves out: a datetime need not have a zone, but a time it is all the same; and a
    Decimal is read from a number as well as from text.
    """
    schema = document.resolved(schema)
    if not isinstance(schema, dict) or id(schema) in seen:
        return
    seen.add(id(schema))
    name = type(info).__name__
    if name in _FORMATS and schema.get("type") == "string":
        schema.setdefault("format", _FORMATS[name])
    elif name == "DecimalType":
        schema["type"] = ["string", "number"]
    elif name == "UnionType":
        branches = schema.get("anyOf", [])
        # Of a union's branches at most one is text without any rules, and so is at most one of its types.
        for each in info.types:
            kinds = [branch for branch in branches if _may_describe(each, document.resolved(branch))]
            if len(kinds) == 1:
                _mend(each, kinds[0], document, seen)
    for inner, target in _parts(info, schema):
        _mend(inner, target, document, seen)


def _may_describe(info: Any, schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    if hasattr(info, "fields"):
        return schema.get("type") == "object" and schema.get("title") == info.cls.__name__
    kinds = {"ListType": "array", "DictType": "object", "DateTimeType": "string", "TimeType": "string"}
    is_decimal = type(info).__name__ == "DecimalType"
    return schema.get("format") == "decimal" if is_decimal else schema.get("type") == kinds.get(type(info).__name__)


def _parts(info: Any, schema: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """What a type has in it, each with how that is described."""
    if hasattr(info, "fields"):
        for field in info.fields:
            yield field.type, schema.get("properties", {}).get(field.encode_name)
    elif hasattr(info, "item_type"):
        yield info.item_type, schema.get("items")
    elif hasattr(info, "value_type"):
        yield info.value_type, schema.get("additionalProperties")
    yield from zip(getattr(info, "item_types", ()), schema.get("prefixItems", ()), strict=False)


# By pydantic.


def _is_pydantic(kind: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether it is one of pydantic's, or has one in it."""
    if hasattr(kind, "__pydantic_validator__"):
        return True
    if any(kind is each for each in seen):
        return False
    inside = [*get_args(kind), *_annotations(kind)]
    return any(_is_pydantic(each, (*seen, kind)) for each in inside)


def _annotations(kind: Any) -> list[Any]:
    if not isinstance(kind, type) or "pydantic" not in sys.modules:
        return []
    from typing import get_type_hints  # only for who uses pydantic

    try:
        return list(get_type_hints(kind).values())
    except Exception:  # noqa: BLE001 - boundary: annotations are the user's code
        return []


def _of_pydantic(kind: Any) -> tuple[dict[str, Any], Callable[[str], Any]]:
    adapter = sys.modules["pydantic"].TypeAdapter(kind)
    schema: dict[str, Any] = adapter.json_schema()

    def decode(text: str) -> Any:
        try:
            # A model that another function has invoked this one with was recorded by the names of its fields.
            return adapter.validate_json(text, by_alias=True, by_name=True)
        except TypeError:  # pydantic before 2.11 has no such choice
            return adapter.validate_json(text)

    return schema, decode


def _words(error: Exception) -> str:
    """What is wrong, in the library's words, without the values."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        try:
            first = errors(include_url=False, include_input=False, include_context=False)[0]
            path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"])
            return f"`data{path}`: {'Unknown tag' if first['type'] == 'union_tag_invalid' else first['msg']}"
        except Exception:  # noqa: BLE001 - boundary: an exception of the user's own, with an `errors` of its own
            return failure_of(error).message[:_MOST_WORDS]
    message = failure_of(error).message[:_MOST_WORDS]
    text, found, path = message.rpartition(" - at `$")
    said = re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", text if found else message, flags=re.DOTALL)
    return f"`data{path.rstrip('`') if found else ''}`: {said or type(error).__name__}"
