"""Which functions an event has to fit, and what is said of one that does not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from fanout.core.event_schemas import EventSchemas
from fanout.errors import EventError, NotFoundError
from fanout.events import parse
from fanout.model import EventSchema, EventTrigger, FunctionSpec
from fanout.views import event_schemas as views


def fields(**kinds: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in kinds.items()},
        "required": [*kinds],
    }


def spec(id_: str, *triggers: EventTrigger | str, **schemas: dict[str, Any]) -> FunctionSpec:
    """`any=` is a schema for all that it listens to; others are by the event's name, with `_` for a slash."""
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname="f", file="m.py", line=1, is_async=False,
        triggers=tuple(EventTrigger(each) if isinstance(each, str) else each for each in triggers),
        schemas=tuple(
            EventSchema(None if name == "any" else name.replace("_", "/"), json.dumps(schema))
            for name, schema in schemas.items()
        ),
    )  # fmt: skip


def refusal(functions: list[FunctionSpec], *events: dict[str, Any], source: str | list[str] = "") -> str | None:
    try:
        EventSchemas(functions).check(parse(json.dumps(events).encode(), "test"), source)
    except EventError as error:
        return error.message
    return None


PLACE = spec("place", "shop/order", any=fields(total="integer"))


def test_function_and_field_are_named() -> None:
    functions = [spec("log", "shop/*"), PLACE]
    assert refusal(functions, {"name": "shop/order", "data": {"total": 5}}) is None
    assert (
        refusal(functions, {"name": "shop/order", "data": {"total": "5"}})
        == "event `shop/order` does not fit function `place`: `data.total`: expected `int`, got `str`"
    )
    assert refusal(functions, {"name": "shop/order"}) == (
        "event `shop/order` does not fit function `place`: `data.total` is missing"
    )
    assert refusal(functions, {"name": "shop/refund", "data": {"total": "5"}}) is None


def test_the_hint_is_a_command_that_can_be_given_as_it_is() -> None:
    with pytest.raises(EventError) as raised:
        EventSchemas([spec("f", "an event", any=fields(a="null"))]).check(parse(b'{"name": "an event"}', "test"))
    assert raised.value.hint == "`fanout events schema 'an event'` shows what its data has to be"


@pytest.mark.parametrize(
    ("source", "number", "place"),
    [
        ("--data", 1, "`--data`: "), ("", 1, ""), ("", 2, "event 2: "), ("the request", 2, "`the request` event 2: "),
        (["a.json", "b.json line 3"], 2, "b.json line 3: "),
    ],
)  # fmt: skip
def test_it_is_told_which_one_of_those_sent_it_is(source: str | list[str], number: int, place: str) -> None:
    events = [{"name": "other"}, {"name": "shop/order"}][2 - number :]
    said = refusal([PLACE], *events, source=source)
    assert said == f"{place}event `shop/order` does not fit function `place`: `data.total` is missing"


def test_it_has_to_fit_all_that_say_something() -> None:
    functions = [
        spec("a", "shop/*", any=fields(a="string")), spec("any", "shop/*"), spec("b", "shop/order", any=fields(b="string")),
    ]  # fmt: skip
    assert refusal(functions, {"name": "shop/order", "data": {"a": "x", "b": "x"}}) is None
    assert str(refusal(functions, {"name": "shop/order", "data": {"a": "x"}})).endswith("`b`: `data.b` is missing")
    assert str(refusal(functions, {"name": "shop/order", "data": {"b": "x"}})).endswith("`a`: `data.a` is missing")
    assert refusal(functions, {"name": "shop/other", "data": {"a": "x"}}) is None


def test_versions_are_told_apart_by_conditions() -> None:
    old = spec("old", EventTrigger("order", "event.data.v < 2"), any=fields(v="integer", total="integer"))
    new = spec("new", EventTrigger("order", "event.data.v == 2"), any=fields(v="integer", cents="integer"))
    functions = [old, new]
    assert refusal(functions, {"name": "order", "data": {"v": 1, "total": 5}}) is None
    assert refusal(functions, {"name": "order", "data": {"v": 2, "cents": 5}}) is None
    assert str(refusal(functions, {"name": "order", "data": {"v": 2, "total": 5}})).endswith(
        "`new`: `data.cents` is missing"
    )
    assert refusal(functions, {"name": "order", "data": {"total": 5}}) is None, "none of them would start"
    by_field = spec("f", EventTrigger("order", 'event.v == "2" && event.user.id == 7'), any=fields(a="integer"))
    assert refusal([by_field], {"name": "order", "v": "2", "user": {"id": 7}}) is not None
    assert refusal([by_field], {"name": "order", "v": "1", "user": {"id": 7}}) is None
    either = spec("f", EventTrigger("order", "event.data.x"), "order", any=fields(a="integer"))
    assert refusal([either], {"name": "order"}) is not None


def test_the_schema_that_says_most_of_a_name_is_for_it() -> None:
    function = msgspec.structs.replace(
        spec("f", "shop/*"),
        schemas=tuple(
            EventSchema(name, json.dumps(fields(**{kind: "null"})))
            for name, kind in [("shop/*", "a"), ("shop/order.*", "b"), ("shop/order.paid", "c")]
        ),
    )
    for name, field in [("shop/x", "a"), ("shop/order.x", "b"), ("shop/order.paid", "c"), ("shop/order.paid.x", "b")]:
        assert str(refusal([function], {"name": name})).endswith(f"`data.{field}` is missing")
    assert refusal([function], {"name": "bank/x"}) is None


# As people see them.


def test_one_schema_is_shown_as_it_is_and_several_as_all_of_them() -> None:
    other = spec("other", "shop/*", any={"$ref": "#/$defs/O", "$defs": {"O": fields(b="string")}, "$schema": "x"})
    listening = spec("listening", "shop/order")
    assert views.expected([PLACE, listening], "shop/order").document == fields(total="integer")
    both = views.expected([PLACE, other, listening], "shop/order")
    assert both.document == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shop/order",
        "allOf": [
            {"$id": "fanout:place", **fields(total="integer")},
            {"$id": "fanout:other", "$ref": "#/$defs/O", "$defs": {"O": fields(b="string")}},
        ],
    }
    found = [jsonschema_rs.is_valid(both.document, data) for data in ({"total": 5, "b": "x"}, {"b": "x"}, {"total": 5})]
    assert found == [True, False, False]
    said = views.as_json(both)
    assert (said["event"], [each["id"] for each in said["functions"]], said["others"]) == (
        "shop/order", ["place", "other"], ["listening"],
    )  # fmt: skip


def test_a_name_that_nobody_says_anything_of_is_not_found() -> None:
    with pytest.raises(NotFoundError) as unheard:
        views.expected([PLACE], "shop/ordre")
    assert (unheard.value.message, unheard.value.hint) == (
        "no function listens to `shop/ordre`", "did you mean `shop/order`?",
    )  # fmt: skip
    with pytest.raises(NotFoundError) as unsaid:
        views.expected([spec("log", "shop/*")], "shop/order")
    assert (unsaid.value.message, unsaid.value.hint) == (
        "no function says what the data of `shop/order` has to be",
        "listening: `log`; `event_schema=` of a function says it",
    )


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({**fields(a="null"), "title": "Order"}, "Order (a)"),
        ({"$ref": "#/$defs/O", "$defs": {"O": {"title": "O", "properties": {"a": {}, "b": {}}, "required": ["b"]}}},
         "O (a?, b)"),
        (fields(a="null"), "(a)"),
        ({"type": "object", "title": "Anything"}, "Anything"),
        ({"anyOf": [fields(a="null"), fields(b="null")]}, "one of several"),
        (fields(**{f"f{number}": "null" for number in range(22)}),
         "(" + ", ".join(f"f{number}" for number in range(20)) + " and 2 more)"),
    ],
)  # fmt: skip
def test_a_schema_in_short(schema: dict[str, Any], words: str) -> None:
    assert views.in_short(EventSchema(None, json.dumps(schema))) == words
