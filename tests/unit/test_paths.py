from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.paths import value_at

EVENT: dict[str, Any] = {
    "id": "01J",
    "name": "app/user.signup",
    "ts": 5,
    "data": {
        "user_id": 7,
        "none": None,
        "name": 'Zoë "Z"',
        "list": [1, {"b": 2, "a": 1.0}],
        "deep": {"deeper": {"deepest": True}},
        "a.b": "with a dot",
        "": "without a name",
        "yes": True,
        "ratio": 0.1,
        "whole": 3.0,
    },
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.user_id", "7"),
        ("name", '"app/user.signup"'),
        ("ts", "5"),
        ("data.name", '"Zoë \\"Z\\""'),
        ("data.deep.deeper.deepest", "true"),
        ("data.deep.deeper", '{"deepest":true}'),
        ("data.ratio", "0.1"),
        ("data.whole", "3"),
        ("data.", '"without a name"'),
        # null is there, and equal to null; what is not there is equal to nothing.
        ("data.none", "null"),
        ("data.nothing", None),
        ("nothing", None),
        ("user.id", None),
        ("data.none.deeper", None),
        ("data.user_id.deeper", None),
        ("data.name.0", None),
        ("data.list.0", None),
        ("data.deep.", None),
        ("", None),
        (".data", None),
        ("data..user_id", None),
        # A key with a dot in it can't be reached: a dot is always a step down.
        ("data.a.b", None),
    ],
)
def test_a_path_leads_down_by_the_names_of_keys(path: str, expected: str | None) -> None:
    assert value_at(EVENT, path) == expected


def at(value: Any) -> str | None:
    return value_at({"data": {"x": value}}, "data.x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (-3, -3.0),
        (0, -0.0),
        (2**60, float(2**60)),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ([1, 2.5, {"a": 3}], [1.0, 2.5, {"a": 3.0}]),
        (None, None),
    ],
)
def test_equal_values_have_the_same_text(one: object, other: object) -> None:
    assert at(one) == at(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (0, False),
        (1.0, True),
        (0, None),
        ("", None),
        ("null", None),
        ([], {}),
        ([1, 2], [2, 1]),
        (2**53, 2**53 + 1),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": None}),
        ("a", "A"),
        ("é", "e\u0301"),
    ],
)
def test_values_that_differ_have_texts_that_differ(one: object, other: object) -> None:
    assert at(one) != at(other)


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_a_value_that_is_there_never_has_the_text_of_one_that_is_not(value: Any) -> None:
    """A wait for what the first event does not have is recorded with an empty text: nothing may equal it."""
    assert at(value)


@given(values)
def test_the_text_says_the_value_and_so_does_an_event_that_was_written_and_read(value: Any) -> None:
    text = at(value)
    assert text is not None
    assert json.loads(text) == value
    assert at(json.loads(json.dumps(value))) == text


@given(numbers, numbers)
def test_numbers_have_the_same_text_when_they_are_equal_and_only_then(one: float, other: float) -> None:
    assert (at(one) == at(other)) is (one == other)
    assert (at([{"n": one}]) == at([{"n": other}])) is (one == other)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_the_integer(number: int) -> None:
    assert at(float(number)) == at(number) == str(number)


def test_the_largest_floats_are_whole_too() -> None:
    assert at(math.ldexp(1.0, 1023)) == str(2**1023)
