"""Whether a value fits a JSON Schema, and what is said where it does not."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.core.json_schema import MAX_DEPTH, JsonSchema

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
    found = JsonSchema(schema).complaint(value, "data")
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
        ({"lines": [{"price": -1}]}, "`data.lines[0].price`: it is less than the minimum of 0"),
        ({"lines": [{}, {}, {}]}, "`data.lines`: it has more than 2 items"),
        ({"lines": [{"prise": 1}]}, "`data.lines[0].prise` is no field that there is"),
        ({"note": 5}, "`data.note`: expected `str | null`, got `int`"),
        ({"gift": {"price": "x"}}, "`data.gift.price`: expected `float`, got `str`"),
        ({"gift": 5}, "`data.gift`: expected `object | null`, got `int`"),
        ({"kind": "c"}, '`data.kind`: it is not one of "a" or "b"'),
        ({"at": "tomorrow"}, "`data.at`: it is no date-time"),
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
        ({"const": 1}, True, "`data`: 1 was expected"),
        ({"enum": list(range(20))}, 30, "`data`: it is not one of 0, 1 or 18 other candidates"),
        ({"minLength": 2}, "a", "`data`: it is shorter than 2 characters"),
        ({"exclusiveMaximum": 3}, 3, "`data`: it is greater than or equal to the maximum of 3"),
        ({"multipleOf": 3}, 4, "`data`: it is not a multiple of 3"),
        ({"pattern": "^a"}, "b", "`data`: it does not match `^a`"),
        ({"format": "uuid"}, "b", "`data`: it is no uuid"),
        ({"format": "date"}, "2027-13-01", "`data`: it is no date"),
        ({"format": "time"}, "25:00", "`data`: it is no time"),
        ({"format": "date-time"}, "2027-01-31t09:00:00z", None),
        ({"format": "time"}, "09:00:00z", None),
        ({"format": "decimal"}, "1,50", "`data`: it is no decimal"),
        ({"format": "decimal"}, " 1_0e5", None),
        ({"format": "decimal"}, "NaN", None),
        ({"format": "email"}, "b", None),
        ({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2], "`data[1]` has no place there"),
        ({"prefixItems": [{"type": "integer"}]}, ["a"], "`data[0]`: expected `int`, got `str`"),
        ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, "`data.a`: expected `int`, got `str`"),
        ({"minProperties": 1}, {}, "`data`: it has less than 1 property"),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, "`data.b` is missing"),
    ],
)  # fmt: skip
def test_each_rule(schema: Any, value: Any, words: str | None) -> None:
    assert said(schema, value) == words


TEXTS = {"additionalProperties": {"type": "string"}}
CHOICE = {"oneOf": [{"type": "string"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (TEXTS, {"1001": 1}, "`data.1001`: expected `str`, got `int`"),
        (TEXTS, {"1": "a", "01": 1}, "`data.01`: expected `str`, got `int`"),
        (TEXTS, {"a": "a", "": 1}, "`data.`: expected `str`, got `int`"),
        ({"additionalProperties": TEXTS}, {"1": {"2": "a"}, "": {"+2": 1}}, "`data..+2`: expected `str`, got `int`"),
        ({"properties": {"7": False}}, {"7": 1}, "`data.7` has no place there"),
        ({"properties": {"7": CHOICE, "07": CHOICE, "": CHOICE}}, {"7": "a", "07": 1, "": None},
         "`data.07`: expected `str | null`, got `int`"),
        ({"properties": {"7": CHOICE, "07": CHOICE, "": CHOICE}}, {"7": "a", "07": None, "": 1},
         "`data.`: expected `str | null`, got `int`"),
        ({"properties": {"": {"properties": {"oneOf": {}, "": CHOICE}}}}, {"": {"": 1}},
         "`data..`: expected `str | null`, got `int`"),
    ],
)  # fmt: skip
def test_keys_may_be_numbers_or_empty(schema: Any, value: Any, words: str) -> None:
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
    assert said(named, {"kind": "cow"}) == "`data.kind` has to be one of `cat`, `dog`"


def test_the_field_that_chooses_may_be_a_number() -> None:
    one = {"properties": {"v": {"const": 1}, "a": {"type": "integer"}}, "required": ["a"]}
    two = {"properties": {"v": {"const": 2}, "b": {"type": "integer"}}, "required": ["b"]}
    schema = {
        "oneOf": [{"$ref": "#/$defs/One"}, {"$ref": "#/$defs/Two"}],
        "discriminator": {"propertyName": "v", "mapping": {"1": "#/$defs/One", "2": "#/$defs/Two"}},
        "$defs": {"One": one, "Two": two},
    }
    assert said(schema, {"v": 2, "b": 1}) is None
    assert said(schema, {"v": 2, "b": "x"}) == "`data.b`: expected `int`, got `str`"
    assert said(schema, {"v": 3}) == said(schema, {"v": True}) == "`data.v` has to be one of `1`, `2`"


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, [], "`data`: expected `str | int`, got `array`"),
        ({"anyOf": [{"minimum": 5}, {"maxLength": 1}]}, 3, None),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "`data` fits none of 2 schemas"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 5, "`data` fits not exactly one of 2 schemas"),
        ({"anyOf": [{"anyOf": [{"type": "object", "required": ["a"]}, {"type": "null"}]}, {"type": "null"}]}, {},
         "`data.a` is missing"),
        ({"properties": {"a b/~ü": {"anyOf": [{"items": {"type": "null"}, "type": "array"}, {"type": "null"}]}}},
         {"a b/~ü": [None, 1]}, "`data.a b/~ü[1]`: expected `null`, got `int`"),
        ({"anyOf": [{"$ref": "#/$defs/A%20B"}, False], "$defs": {"A B": {"type": "array", "maxItems": 0}}}, [1],
         "`data` fits none of 2 schemas"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}, "`data.b` is missing"),
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"xa": None}, "`data.xa`: expected `int`, got `null`"),
        ({"additionalProperties": False}, {"a": 1}, "`data.a` is no field that there is"),
        ({"not": {"type": "null"}}, None, '`data`: {"type":"null"} is not allowed for it'),
    ],
)  # fmt: skip
def test_of_what_it_can_be_the_only_one_is_meant_that_it_may_be(schema: Any, value: Any, words: str | None) -> None:
    assert said(schema, value) == words


@pytest.mark.parametrize(
    ("pattern", "text", "is_refused"),
    [
        (r"^\w+$", "José", False),
        (r"^\w+$", "Jose!", True),
        (r"^\d{5}$", "1234", True),
        (r"^\d{5}$", "١٢٣٤٥", False),
        (r"^(?!a)", "a", False),
        (r"^b\Z", "a", False),
        (r"(", "a", False),
        (r"(a{1000}){1000}", "b", False),
    ],
)
def test_a_text_is_refused_where_every_type_with_that_pattern_refuses_it(
    pattern: str, text: str, *, is_refused: bool
) -> None:
    assert said({"pattern": pattern}, text) == (f"`data`: it does not match `{pattern}`" if is_refused else None)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Gone"},
        {"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "text"},
        {"minimum": "1"},
        {"$schema": "https://example.org/other"},
        {"unknown": True},
        "text",
    ],
)
def test_what_can_not_be_read_fits(schema: Any) -> None:
    assert said(schema, "a") is said(schema, 1) is None


def test_a_schema_from_elsewhere_is_not_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/order.json"
        assert said({"$ref": address}, 1) is None
        assert said({"properties": {"a": {"$ref": address}}, "type": "string"}, 1) is None
        assert said({"$schema": address, "type": "string"}, 1) is None
        assert said({"$id": address, "type": "string"}, 1) == "`data`: expected `str`, got `int`"
        with pytest.raises(BlockingIOError):
            server.accept()


def branching() -> dict[str, Any]:
    """A type with itself in it in two ways: twice as many ways at each level."""
    part = {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    parts = {"in": part, "list": {"type": "array", "items": part}}
    return {**part, "$defs": {name: {"type": "object", "properties": parts, "required": [name]} for name in "AB"}}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels // 2):
        value = {"list": [value], "A": 1, "B": 1}
    return value


def test_what_has_many_ways_to_fit_is_soon_known_not_to() -> None:
    began = time.monotonic()
    assert said(branching(), nested(MAX_DEPTH - 2)) == "`data` fits none of 2 schemas"
    many = {"anyOf": [{"type": "array", "items": {"required": ["a"]}}, {"type": "null"}]}
    assert said(many, [[]] + [{}] * 100_000) == "`data[1].a` is missing"
    assert time.monotonic() - began < 5


def test_a_value_as_deep_as_can_be_needs_little_of_a_stack() -> None:
    found = []
    before = threading.stack_size(128 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.append(said(branching(), nested(MAX_DEPTH - 2))))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert found == ["`data` fits none of 2 schemas"]


def test_deeper_values_fit() -> None:
    assert said(branching(), nested(MAX_DEPTH + 4)) is None
    assert said({"type": "string"}, nested(900)) is None


def test_a_pattern_can_not_hold_up_whoever_sends() -> None:
    began = time.monotonic()
    assert said({"pattern": "^(a+)+$"}, "a" * 100_000 + "!") == "`data`: it does not match `^(a+)+$`"
    assert said({"pattern": "^(?=(a+)+$)"}, "a" * 100_000 + "!") is None
    assert time.monotonic() - began < 5


def test_nothing_of_the_value_is_told() -> None:
    hidden = "hunter2"
    schemas = [
        {"type": "integer"}, {"enum": ["a"]}, {"const": 1}, {"minLength": 50}, {"maxLength": 1}, {"pattern": "^1"},
        {"format": "uuid"}, {"not": {"type": "string"}}, {"anyOf": [{"minLength": 50}, {"type": "integer"}]},
        {"oneOf": [{"maxLength": 50}, {"minLength": 1}]},
    ]  # fmt: skip
    told = [said({"properties": {"password": schema}}, {"password": hidden}) for schema in schemas]
    told += [said({"items": schema}, [hidden]) for schema in schemas]
    assert None not in told
    assert [each for each in told if hidden in str(each)] == []


# Whatever the library refuses is told, at a place that is there or could be.

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
    | st.fixed_dictionaries({"minimum": small, "maxLength": small, "maxItems": small, "minProperties": small}),
    lambda inner: (
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"not": inner})
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


@settings(max_examples=300)
@given(schemas, values)
def test_whatever_is_refused_is_told_at_a_place(schema: Any, value: Any) -> None:
    found = JsonSchema(schema).complaint(value, "data")
    assert (found is None) == jsonschema_rs.is_valid(schema, value)
    if found is not None:
        *above, last = ["data", *found.path[1:]]
        there: Any = {"data": value}
        for key in above:
            there = there[key]
        assert isinstance(there, list | dict)
        assert found.words != " is missing" or last not in there
