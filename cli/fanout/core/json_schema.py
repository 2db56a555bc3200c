"""Whether a JSON value fits a JSON Schema (draft 2020-12), and where and why it does not.

jsonschema_rs judges. What it can't read, or what is nested deeper than it can go, fits: whoever made the schema from a
type looks at the value once more, so nothing is refused that should not be. It knows no functions or events.
"""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Any
from urllib.parse import quote, unquote

from fanout.core.json_keywords import Format, Pattern, library
from fanout.core.json_places import place_of
from fanout.core.json_words import KINDS, Complaint, Path, expected, of_error

MAX_DEPTH = 100
"""Levels of lists and objects in a value. The library recurses, and beyond 200 overruns the smallest stacks."""

_BASE = "fanout:schema"
_MOST_STEPS = 2 * MAX_DEPTH


class JsonSchema:
    """A schema, as JSON has it. It is compiled when the first value is looked at."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self._compiled: dict[tuple[str, bool], Any] = {}

    def complaint(self, value: Any, root: str) -> Complaint | None:
        """What is wrong with the value, which is called `root`; None if it fits."""
        if _is_deep(value) or self.fits("", value):
            return None
        at = ""
        path: Path = (root,)
        for _ in range(_MOST_STEPS):
            error = self._error(at, value)
            if error is None:
                break
            inner, value = place_of(error.instance_path, value, is_it=partial(eq, error.instance))
            path = (*path, *inner)
            if error.kind.name not in ("anyOf", "oneOf"):
                return of_error(error, value, path)
            meant = self._meant(self.pointer_to(error.schema_path), value, path)
            if isinstance(meant, Complaint):
                return meant
            at = meant
        return Complaint(path, " does not fit")

    def fits(self, at: str, value: Any) -> bool:
        """Whether the value fits the schema at this place of the document."""
        validator = self._validator(at)
        return validator is None or bool(validator.is_valid(value))

    def _error(self, at: str, value: Any) -> Any:
        """The first error there, if any. Of `anyOf` and `oneOf` it tells no more than that.

        What is wrong with each choice would be twice as many errors at each level of a type that has itself in it, and
        one for each item of a list: minutes, for an event that is no larger than many.
        """
        validator = self._validator(at, is_telling=True)
        try:
            if validator is not None:
                validator.validate(value)
        except library().ValidationError as error:
            return error
        return None

    def _validator(self, at: str, *, is_telling: bool = False) -> Any:
        """What judges by the schema at this place; None if the library can't read it."""
        key = at, is_telling
        if key not in self._compiled:
            try:
                self._compiled[key] = self._made(at, is_telling=is_telling)
            except Exception:  # noqa: BLE001 - boundary: foreign code on what may be anything, and there is one answer
                self._compiled[key] = None
        return self._compiled[key]

    def _made(self, at: str, *, is_telling: bool) -> Any:
        choices = dict.fromkeys(("anyOf", "oneOf"), partial(_Union, self)) if is_telling else {}
        return library().Draft202012Validator(
            {"$ref": f"{_BASE}#{at}"},
            registry=library().Registry([(_BASE, self.document)], retriever=_found_nowhere),
            retriever=_found_nowhere,
            keywords={"format": Format, "pattern": Pattern, **choices},
            pattern_options=library().RegexOptions(),
            mask="it",
        )

    # Choices.

    def _meant(self, at: str, value: Any, path: Path) -> str | Complaint:
        """Where the only schema is that the value can be meant for; or what to say, if there is none."""
        place, _, name = at.rpartition("/")
        holder = self._at(place)
        if not isinstance(holder, dict) or name not in holder:
            return Complaint(path, " does not fit")
        tagged = _tagged(holder, value, path)
        if tagged is not None:
            return tagged
        branches = {f"{at}/{number}": self.kinds(each) for number, each in enumerate(holder[name])}
        meant = [place for place, kinds in branches.items() if any(KINDS[kind][1](value) for kind in kinds)]
        if len(meant) == 1:
            return meant[0]
        if meant:
            number = "not exactly one" if name == "oneOf" else "none"
            return Complaint(path, f" fits {number} of {len(branches)} schemas")
        return Complaint(path, expected((kind for kinds in branches.values() for kind in kinds), value))

    def kinds(self, schema: Any) -> set[str]:
        """The types that a value of this part of the document can have, as JSON Schema calls them."""
        found: set[str] = set()
        open_ = [schema]
        for _ in range(_MOST_STEPS):
            if not open_:
                return found
            match self.resolved(open_.pop()):
                case {"anyOf": list(choices)} | {"oneOf": list(choices)}:
                    open_ += choices
                case {"type": str(kind)}:
                    found.add(kind)
                case {"type": list(kinds)}:
                    found.update(kinds)
                case _:
                    found.update(KINDS)
        return set(KINDS)

    def resolved(self, schema: Any) -> Any:
        """What a `$ref` within the document stands for; what can't be found has no rules."""
        for _ in range(_MOST_STEPS):
            if not isinstance(schema, dict) or "$ref" not in schema:
                return schema
            reference = schema["$ref"]
            is_here = isinstance(reference, str) and reference.startswith("#")
            schema = self._at(reference[1:]) if is_here else True
        return True

    def pointer_to(self, path: list[str | int]) -> str:
        """Where in the document the list of choices is that the library calls so."""
        exact, _ = place_of(path, self.document, is_it=lambda found: isinstance(found, list))
        return _pointer(exact)

    def _at(self, pointer: str) -> Any:
        found: Any = self.document
        for part in unquote(pointer).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (LookupError, TypeError, ValueError):
                return True
        return found


class _Union:
    """The keywords `anyOf` and `oneOf` where errors are told."""

    def __init__(self, schema: JsonSchema, _holder: Any, branches: list[Any], at: list[str | int]) -> None:
        self._places = [f"{schema.pointer_to(at)}/{number}" for number in range(len(branches))]
        self._schema, self._most = schema, 1 if at[-1] == "oneOf" else len(branches)

    def validate(self, value: Any) -> None:
        if not 1 <= sum(self._schema.fits(place, value) for place in self._places) <= self._most:
            raise ValueError


def _pointer(path: Path) -> str:
    return "".join(f"/{quote(str(part).replace('~', '~0').replace('/', '~1'), safe='~$')}" for part in path)


def _tagged(holder: dict[str, Any], value: Any, path: Path) -> str | Complaint | None:
    """What a field of the value chooses: OpenAPI's `discriminator`, by which unions of models are described."""
    match holder.get("discriminator"):
        case {"propertyName": str(name), "mapping": dict(mapping)} if isinstance(value, dict):
            if name not in value:
                return Complaint((*path, name), " is missing")
            tag = value[name]
            target = mapping.get(str(tag)) if isinstance(tag, str | int) and not isinstance(tag, bool) else None
            if isinstance(target, str):
                return target.removeprefix("#")
            return Complaint((*path, name), f" has to be one of {', '.join(f'`{each}`' for each in mapping)}")
    return None


def _found_nowhere(address: str) -> Any:
    raise LookupError(address)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for part in level
            if isinstance(part, dict | list)
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True
