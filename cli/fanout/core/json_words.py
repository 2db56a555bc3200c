"""What is said of a JSON value that does not fit: where, and why, with nothing of the value itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_MOST_CHARS = 200

Path = tuple[str | int, ...]


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("str", lambda value: isinstance(value, str)),
    "boolean": ("bool", lambda value: isinstance(value, bool)),
    "integer": ("int", lambda value: _is_number(value) and value == value // 1),
    "number": ("float", _is_number),
    "object": ("object", lambda value: isinstance(value, dict)),
    "array": ("array", lambda value: isinstance(value, list)),
    "null": ("null", lambda value: value is None),
}
"""The types of JSON Schema: what we call each, and whether a value is of it."""


def of_error(error: Any, value: Any, path: Path) -> Complaint:
    """An error of jsonschema_rs, told with `it` in the place of values, about the value at the path."""
    match error.kind.name:
        case "required":
            return Complaint((*path, error.kind.value), " is missing")
        case "additionalProperties" | "unevaluatedProperties":
            return Complaint((*path, error.kind.value[0]), " is no field that there is")
        case "falseSchema" if error.schema_path[-1:] == ["additionalProperties"]:
            return Complaint((*path, next(iter(value))), " is no field that there is")
        case "falseSchema":
            return Complaint(path, " has no place there")
        case "type":
            return Complaint(path, expected(error.kind.value, value))
        case _:
            return Complaint(path, f": {_printable(error.message)}")


def expected(kinds: Iterable[str], value: Any) -> str:
    """What it has to be, of these types, and what it is."""
    allowed = set(kinds)
    wanted = " | ".join(said for name, (said, _) in KINDS.items() if name in allowed)
    got = "float" if isinstance(value, float) else next(said for said, is_it in KINDS.values() if is_it(value))
    return f": expected `{wanted}`, got `{got}`"


def _printable(text: str) -> str:
    shown = text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
    return "".join(character if character.isprintable() else "?" for character in shown)
