"""Whether a JSON value fits a JSON Schema (draft 2020-12, https://json-schema.org/draft/2020-12/schema).

It checks what types are described by: whoever made the schema from a type looks at the value once more. So whatever is
not known here, or would take too long, fits: nothing is refused that should not be. It knows no functions or events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

MOST_LOOKS = 200_000
"""At so many parts of a value and its schema; a schema that branches could else have more than anybody waits for."""
_MOST_REFERENCES = 100
_MOST_MATCHED_CHARS = 256
_MOST_LISTED = 8

Path = tuple[str | int, ...]
Schema = Any
"""An object as JSON has it, or true or false."""


class Complaint(NamedTuple):
    """What is wrong with the part at `path`: `words` go on after it."""

    path: Path
    words: str

    def __str__(self) -> str:
        return f"`{path_text(self.path)}`{self.words}"


def path_text(path: Path) -> str:
    """As in `data.items[3].price`."""
    said = ""
    for key in path:
        said += f"[{key}]" if isinstance(key, int) else f".{_printable(key)}" if said else _printable(key)
    return said


def complaint(schema: Schema, value: Any, root: str) -> Complaint | None:
    """What is wrong with the value, which is called `root`; None if it fits. Of several, the first in the schema."""
    try:
        return _Look(schema).complaint(schema, value, (root,))
    except (_TooMuchError, RecursionError):
        return None


class _TooMuchError(Exception):
    pass


class _Look:
    """One look at one value."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._looks = 0

    def complaint(self, schema: Schema, value: Any, path: Path) -> Complaint | None:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise _TooMuchError
        if schema is False:
            return Complaint(path, " has no place there")
        if not isinstance(schema, dict):
            return None
        return next(self._complaints(schema, value, path), None)

    def _complaints(self, schema: dict[str, Any], value: Any, path: Path) -> Iterator[Complaint]:
        words = _of_itself(schema, value)
        if words is not None:
            yield Complaint(path, words)
            return
        for target, inner, inner_path in self._inner(schema, value, path):
            found = self.complaint(target, inner, inner_path)
            if found is not None:
                yield found
        for name in ("anyOf", "oneOf"):
            branches = schema.get(name)
            if isinstance(branches, list) and branches:
                found = self._of_branches(schema, branches, value, path)
                if found is not None:
                    yield found
        if isinstance(value, dict):
            yield from _of_fields(schema, value, path)

    def _inner(self, schema: dict[str, Any], value: Any, path: Path) -> Iterator[tuple[Schema, Any, Path]]:
        """Each schema that has to hold, with the value that it is about."""
        if "$ref" in schema:
            yield self._resolved(schema), value, path
        for each in schema.get("allOf", ()):
            yield each, value, path
        if isinstance(value, dict):
            yield from _fields(schema, value, path)
        elif isinstance(value, list):
            first = schema.get("prefixItems", [])
            for number, (each, inner) in enumerate(zip(first, value, strict=False)):
                yield each, inner, (*path, number)
            rest = schema.get("items", True)
            if rest is not True:
                for number, inner in enumerate(value[len(first) :], len(first)):
                    yield rest, inner, (*path, number)

    def _of_branches(self, schema: dict[str, Any], branches: list[Schema], value: Any, path: Path) -> Complaint | None:
        """Of a value that fits none, the complaint of the branch that is meant, as far as that can be told."""
        chosen = self._discriminated(schema, value)
        if chosen is not None:
            return self.complaint(chosen, value, path)
        found = []
        for branch in branches:
            each = self.complaint(branch, value, path)
            if each is None:
                return None
            found.append(each)
        # Where only one lets the value be what it is, that one is meant: None beside an object, most often.
        meant = [
            each
            for each, branch in zip(found, branches, strict=True)
            if _of_type(self._resolved(branch), value) is None
        ]
        deepest = max(meant or found, key=lambda each: len(each.path))
        if len(meant) == 1 or len(deepest.path) > len(path):
            return deepest
        kinds = [kind for branch in branches for kind in _kinds(self._resolved(branch))]
        if meant or not kinds:
            return deepest
        return Complaint(path, _expected(kinds, value))

    def _discriminated(self, schema: dict[str, Any], value: Any) -> Schema | None:
        """The branch that a field of the value names: OpenAPI's `discriminator`, which models are described with."""
        said = schema.get("discriminator")
        if not isinstance(said, dict) or not isinstance(value, dict):
            return None
        tag = value.get(said.get("propertyName"))
        target = said.get("mapping", {}).get(tag) if isinstance(tag, str) else None
        return {"$ref": target} if isinstance(target, str) else None

    def _resolved(self, schema: Schema) -> Schema:
        return resolved(self._document, schema)


def resolved(document: Schema, schema: Schema) -> Schema:
    """What a `$ref` within the document stands for; what can't be found has no rules."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        schema = _at(document, schema["$ref"])
    return True


def _at(document: Schema, reference: Any) -> Schema:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found: Any = document
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            return True
        found = found[key]
    return found


# Objects.


def _fields(schema: dict[str, Any], value: Mapping[str, Any], path: Path) -> Iterator[tuple[Schema, Any, Path]]:
    named = schema.get("properties", {})
    for name, each in named.items():
        if name in value:
            yield each, value[name], (*path, name)
    others = schema.get("additionalProperties", True)
    if isinstance(others, dict) and "patternProperties" not in schema:
        for name, inner in value.items():
            if name not in named:
                yield others, inner, (*path, name)


def _of_fields(schema: dict[str, Any], value: Mapping[str, Any], path: Path) -> Iterator[Complaint]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Complaint((*path, name), " is missing")
    if schema.get("additionalProperties", True) is False and "patternProperties" not in schema:
        for name in value:
            if name not in schema.get("properties", {}):
                yield Complaint((*path, name), " is no field that there is")


# What a schema says of the value as a whole.


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("str", lambda value: isinstance(value, str)),
    "integer": ("int", lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer())),
    "number": ("float", _is_number),
    "boolean": ("bool", lambda value: isinstance(value, bool)),
    "object": ("object", lambda value: isinstance(value, dict)),
    "array": ("array", lambda value: isinstance(value, list)),
    "null": ("null", lambda value: value is None),
}


def _of_itself(schema: dict[str, Any], value: Any) -> str | None:
    words = _of_type(schema, value) or _of_choice(schema, value)
    if words is not None:
        return words
    match value:
        case str():
            return _of_text(schema, value)
        case bool() | None:
            return None
        case int() | float():
            return _of_number(schema, value)
        case list():
            return _of_size(schema, len(value), "minItems", "maxItems", "item")
        case _:
            return _of_size(schema, len(value), "minProperties", "maxProperties", "field")


def _of_type(schema: Schema, value: Any) -> str | None:
    kinds = _kinds(schema)
    if not kinds or any(_KINDS[kind][1](value) for kind in kinds):
        return None
    return _expected(kinds, value)


def _kinds(schema: Schema) -> list[str]:
    said = schema.get("type", []) if isinstance(schema, dict) else []
    kinds = [said] if isinstance(said, str) else said
    return [kind for kind in kinds if kind in _KINDS] if isinstance(kinds, list) else []


def _expected(kinds: list[str], value: Any) -> str:
    wanted = " | ".join(dict.fromkeys(_KINDS[kind][0] for kind in kinds))
    return f": expected `{wanted}`, got `{_kind_of(value)}`"


def _kind_of(value: Any) -> str:
    match value:
        case float():
            return "float"
        case _:
            return next((name for name, fits in _KINDS.values() if fits(value)), type(value).__name__)


def _of_choice(schema: dict[str, Any], value: Any) -> str | None:
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(choices, list) or any(_is_same(each, value) for each in choices):
        return None
    listed = ", ".join(f"`{_printable(str(each))}`" for each in choices[:_MOST_LISTED])
    more = ", ..." if len(choices) > _MOST_LISTED else ""
    return f" has to be {listed}" if len(choices) == 1 else f" has to be one of {listed}{more}"


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _of_number(schema: dict[str, Any], value: float) -> str | None:
    for name, words, holds in _BOUNDS:
        bound = schema.get(name)
        if _is_number(bound) and not holds(value, bound):
            return f" has to be {words} {bound}"
    step = schema.get("multipleOf")
    if isinstance(step, int) and isinstance(value, int) and step > 0 and value % step:
        return f" has to be a multiple of {step}"
    return None


_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", "at least", lambda value, bound: value >= bound),
    ("maximum", "at most", lambda value, bound: value <= bound),
    ("exclusiveMinimum", "more than", lambda value, bound: value > bound),
    ("exclusiveMaximum", "less than", lambda value, bound: value < bound),
)


def _of_size(schema: dict[str, Any], size: int, least: str, most: str, noun: str) -> str | None:
    for name, words, is_wrong in (
        (least, "at least", lambda bound: size < bound),
        (most, "at most", lambda bound: size > bound),
    ):
        bound = schema.get(name)
        if _is_number(bound) and is_wrong(bound):
            return f" has {size:,} {noun}{'' if size == 1 else 's'}, {words} {bound:,} can be"
    return None


def _of_text(schema: dict[str, Any], value: str) -> str | None:
    words = _of_size(schema, len(value), "minLength", "maxLength", "character")
    if words is not None:
        return words
    known = _FORMATS.get(schema.get("format", ""))
    if known is not None and not _is_readable(known[1], value):
        return f" has to be {known[0]}"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and len(value) <= _MOST_MATCHED_CHARS:
        expression = _compiled(pattern)
        if expression is not None and expression.search(value) is None:
            return f" has to match `{_printable(pattern)}`"
    return None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for what Python can't read, or what may take for ever: a repetition of what has one itself."""
    if re.search(r"\)[*+{]", pattern):
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError):
        return None


def _is_readable(read: Callable[[str], object], value: str) -> bool:
    try:
        read(value)
    except ValueError:
        return bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value))  # Some take seconds since 1970 for a time.
    return True


_FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    "date-time": ("a date and time, such as `2027-01-31T09:00:00Z`", datetime.fromisoformat),
    "date": ("a date, such as `2027-01-31`", lambda value: date.fromisoformat(value[:10])),
    "time": ("a time of day, such as `09:00:00`", time.fromisoformat),
    "uuid": ("a UUID", UUID),
}


def _printable(text: str) -> str:
    shown = text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - as much as a line has
    return "".join(character if character.isprintable() else "?" for character in shown)
