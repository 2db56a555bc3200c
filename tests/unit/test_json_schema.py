"""Whether a value fits a JSON Schema, and what is said where it does not."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.core.json_schema import complaint

ORDER = {
    "$ref": "#/$defs/Order",
    "$defs": {
        "Order": {
            "type": "object",
            "properties": {
                "user": {"$ref": "#/$defs/User"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "maxItems": 2},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "gift": {"anyOf": [{"$ref": "#/$defs/Line"}, {"type": "null"}]},
                "kind": {"enum": ["a", "b"]},
                "at": {"type": "string", "format": "date-time"},
            },
            "required": ["user"],
        },
        "User": {"type": "object", "properties": {"email": {"type": "string"}}, "required": ["email"]},
        "Line": {
            "type": "object",
            "properties": {"price": {"type": "number", "minimum": 0}},
            "additionalProperties": False,
        },
    },
}
USER = {"email": "a@b"}


def said(schema: Any, value: Any) -> str | None:
    found = complaint(schema, value, "data")
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, None),
        ({"another": 1}, None),
        ({"lines": [{"price": 1}, {"price": 2.5}], "note": None, "gift": {"price": 1}}, None),
        ({"user": 5}, "`data.user`: expected `object`, got `int`"),
        ({"user": {}}, "`data.user.email` is missing"),
        ({"user": {"email": 5}}, "`data.user.email`: expected `str`, got `int`"),
        ({"user": {"email": True}}, "`data.user.email`: expected `str`, got `bool`"),
        ({"user": {"email": None}}, "`data.user.email`: expected `str`, got `null`"),
        ({"lines": [{"price": 1}, {"price": "2"}]}, "`data.lines[1].price`: expected `float`, got `str`"),
        ({"lines": [{"price": -1}]}, "`data.lines[0].price` has to be at least 0"),
        ({"lines": [{}, {}, {}]}, "`data.lines` has 3 items, at most 2 can be"),
        ({"lines": [{"prise": 1}]}, "`data.lines[0].prise` is no field that there is"),
        ({"note": 5}, "`data.note`: expected `str | null`, got `int`"),
        ({"gift": {"price": "x"}}, "`data.gift.price`: expected `float`, got `str`"),
        ({"gift": 5}, "`data.gift`: expected `object | null`, got `int`"),
        ({"kind": "c"}, "`data.kind` has to be one of `a`, `b`"),
        ({"at": "tomorrow"}, "`data.at` has to be a date and time, such as `2027-01-31T09:00:00Z`"),
        ({"at": "2027-01-31 09:00"}, None),
        ({"at": "1700000000"}, None),
    ],
)
def test_the_field_is_named_by_its_path(more: dict[str, Any], words: str | None) -> None:
    assert said(ORDER, {"user": USER, **more}) == words


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (False, 1, "`data` has no place there"),
        ({"type": "integer"}, 1.0, None),
        ({"type": "integer"}, 1.5, "`data`: expected `int`, got `float`"),
        ({"type": "integer"}, True, "`data`: expected `int`, got `bool`"),
        ({"type": ["string", "number"]}, [], "`data`: expected `str | float`, got `array`"),
        ({"const": 1}, True, "`data` has to be `1`"),
        ({"enum": list(range(20))}, 30, "`data` has to be one of `0`, `1`, `2`, `3`, `4`, `5`, `6`, `7`, ..."),
        ({"minLength": 2}, "a", "`data` has 1 character, at least 2 can be"),
        ({"exclusiveMaximum": 3}, 3, "`data` has to be less than 3"),
        ({"multipleOf": 3}, 4, "`data` has to be a multiple of 3"),
        ({"pattern": "^a"}, "b", "`data` has to match `^a`"),
        ({"format": "uuid"}, "b", "`data` has to be a UUID"),
        ({"format": "date"}, "2027-13-01", "`data` has to be a date, such as `2027-01-31`"),
        ({"format": "time"}, "25:00", "`data` has to be a time of day, such as `09:00:00`"),
        ({"format": "email"}, "b", None),
        ({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2], "`data[1]` has no place there"),
        ({"prefixItems": [{"type": "integer"}]}, ["a"], "`data[0]`: expected `int`, got `str`"),
        ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, "`data.a`: expected `int`, got `str`"),
        ({"minProperties": 1}, {}, "`data` has 0 fields, at least 1 can be"),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, "`data.b` is missing"),
    ],
)  # fmt: skip
def test_each_rule(schema: Any, value: Any, words: str | None) -> None:
    assert said(schema, value) == words


def test_a_field_may_choose_the_branch() -> None:
    cat = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}}
    dog = {"type": "object", "properties": {"kind": {"const": "dog"}, "name": {"type": "string"}}}
    plain = {"anyOf": [cat, dog]}
    named = {
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}},
        "$defs": {"Cat": cat, "Dog": dog},
    }
    assert said(plain, {"kind": "dog", "name": "Rex"}) is said(named, {"kind": "dog", "name": "Rex"}) is None
    assert said(named, {"kind": "cat", "lives": "nine"}) == "`data.lives`: expected `int`, got `str`"
    assert said(named, {"kind": "cow"}) == "`data.kind` has to be `cat`"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/order.json"},
        {"$ref": "#/$defs/Gone"},
        {"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}},
        {"pattern": "("},
        {"type": "text"},
        {"minimum": "1"},
        {"unknown": True},
    ],
)
def test_what_is_not_known_here_fits(schema: Any) -> None:
    assert said(schema, "a") is said(schema, 1) is None


def test_a_schema_that_branches_for_ever_ends() -> None:
    part = {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    schema = {
        **part,
        "$defs": {name: {"type": "object", "properties": {"in": part}, "required": [name]} for name in "AB"},
    }
    value: Any = {}
    for _ in range(60):
        value = {"in": value, "A": 1, "B": 1}
    began = time.monotonic()
    assert said(schema, value) is None
    assert time.monotonic() - began < 10


def test_a_pattern_can_not_hold_up_whoever_sends() -> None:
    began = time.monotonic()
    assert said({"pattern": "^(a+)+$"}, "a" * 200 + "!") is None
    assert said({"pattern": "^a*a*$"}, "a" * 100_000 + "!") is None
    assert time.monotonic() - began < 5


# A second opinion, on schemas of all that types are described by but formats, where we take more than the standard.

names = st.sampled_from(["a", "b", "c"])
scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.sampled_from(["", "a", "bb"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
kinds = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null"])
small = st.integers(0, 3)
schemas = st.recursive(
    st.booleans()
    | st.fixed_dictionaries({"type": kinds})
    | st.fixed_dictionaries({"type": st.lists(kinds, min_size=1, max_size=2, unique=True)})
    | st.fixed_dictionaries({"enum": st.lists(scalars, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"minimum": small, "exclusiveMaximum": small})
    | st.fixed_dictionaries({"minLength": small, "maxLength": small, "minItems": small, "maxItems": small})
    | st.fixed_dictionaries({"minProperties": small, "maxProperties": small}),
    lambda inner: (
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries(
            {
                "properties": st.dictionaries(names, inner, max_size=2),
                "additionalProperties": inner,
                "required": st.lists(names, max_size=2, unique=True),
            }
        )
    ),
    max_leaves=6,
)


@settings(max_examples=400)
@given(schemas, values)
def test_another_implementation_agrees(schema: Any, value: Any) -> None:
    assert (complaint(schema, value, "data") is None) == jsonschema_rs.is_valid(schema, value)
