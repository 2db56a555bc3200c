"""CloudEvents 1.0 as events; the examples are in the specification's own JSON format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanout.errors import EventError
from fanout.events import DEFAULT_LIMITS, Limits, NewEvent, parse

MINIMAL = {"specversion": "1.0", "type": "app/order.placed", "source": "/shop", "id": "A-1"}
KNOWN = "`specversion`, `type`, `source`, `id`, `time`, `data`, `subject`, `datacontenttype`, `dataschema`"
REQUIRED_HINT = 'a CloudEvent is `{"specversion": "1.0", "type": ..., "source": ..., "id": ...}`'


def one(**more: Any) -> NewEvent:
    (event,) = parse(json.dumps(MINIMAL | more).encode(), "x.json")
    return event


def refusal(event: dict[str, Any], limits: Limits = DEFAULT_LIMITS) -> tuple[str, str | None]:
    with pytest.raises(EventError) as raised:
        parse(json.dumps(event).encode(), "x.json", limits)
    return raised.value.message.removeprefix("`x.json` line 1: "), raised.value.hint


def test_type_id_time_and_data_are_name_id_ts_and_data() -> None:
    assert one(time="2018-04-05T17:31:00.1239Z", data={"total": 5}) == NewEvent(
        "app/order.placed", '{"total":5}', "A-1", 1_522_949_460_123, '{"source":"/shop"}'
    )


def test_what_else_it_says_of_itself_is_kept_in_user() -> None:
    event = one(
        subject="order/1", dataschema="https://example.com/order", datacontenttype="application/json",
        traceparent="00-0af7", sequence=7, sampled=True, expirytime=None,
    )  # fmt: skip
    assert json.loads(event.user or "") == {
        "source": "/shop", "subject": "order/1", "dataschema": "https://example.com/order",
        "traceparent": "00-0af7", "sequence": 7, "sampled": True,
    }  # fmt: skip


@pytest.mark.parametrize("nothing", [{}, {"data": None}, {"time": None, "subject": None}])
def test_a_null_is_an_attribute_that_is_not_set(nothing: dict[str, Any]) -> None:
    assert one(**nothing) == NewEvent("app/order.placed", "{}", "A-1", None, '{"source":"/shop"}')


def test_numbers_of_the_data_keep_every_digit() -> None:
    text = json.dumps(MINIMAL)[:-1] + ', "data": {"price": 1.10, "big": 123456789012345678901234567890}}'
    assert parse(text.encode(), "x.json")[0].data == '{"price":1.10,"big":123456789012345678901234567890}'


def test_a_batch_and_lines_may_have_both_kinds() -> None:
    events = [MINIMAL, {"name": "app/hello"}, MINIMAL | {"id": "A-2"}]
    names = [("app/order.placed", "A-1"), ("app/hello", None), ("app/order.placed", "A-2")]
    for text in (json.dumps(events), "\n".join(map(json.dumps, events))):
        assert [(event.name, event.id) for event in parse(text.encode(), "x.json")] == names


@pytest.mark.parametrize(
    "time", ["2026-08-01T12:30:00Z", "2026-08-01T14:30:00+02:00", "2026-08-01T12:30:00.000Z", "2026-08-01t12:30:00z"]
)
def test_times_of_every_zone(time: str) -> None:
    assert one(time=time).ts == 1_785_587_400_000


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/json", "application/vnd.acme.order+JSON"])
def test_every_kind_of_json_is_json(kind: str) -> None:
    assert one(datacontenttype=kind).name == "app/order.placed"


def test_a_name_of_ours_is_an_extension_of_theirs() -> None:
    assert json.loads(one(user="u-1", v="2", name="n").user or "") == {
        "source": "/shop", "user": "u-1", "v": "2", "name": "n",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ({"specversion": "0.3"}, 'field `specversion` has to be "1.0", the version that is understood', None),
        ({"specversion": 1.0}, 'field `specversion` has to be "1.0", the version that is understood', None),
        ({"specversion": None}, "field `specversion` is missing", REQUIRED_HINT),
        ({"type": None}, "field `type` is missing", REQUIRED_HINT),
        ({"type": 5}, "field `type` has to be text, not 5", None),
        (
            {"type": "fanout/function.failed"},
            "field `type` begins with `fanout/`, as only fanout's own events do",
            None,
        ),
        ({"type": "x" * 257}, "field `type` has 257 bytes, at most 256 can be", None),
        ({"id": ""}, "field `id` is empty", None),
        ({"id": "é" * 129}, "field `id` has 258 bytes, at most 256 can be", None),
        ({"source": ""}, "field `source` has to be text, and not empty", None),
        ({"source": None}, "field `source` is missing", REQUIRED_HINT),
        ({"subject": {}}, "field `subject` has to be text, and not empty", None),
        (
            {"time": "2026-08-01T12:30:00"},
            'field `time` has to be a time with its zone, like "2026-08-01T12:30:00Z"',
            None,
        ),
        ({"time": 1785587400000}, 'field `time` has to be a time with its zone, like "2026-08-01T12:30:00Z"', None),
        ({"time": "1969-12-31T23:59:59Z"}, "field `time` has to be after 1970 and before the year 5138", None),
        ({"time": "9999-12-31T23:59:59Z"}, "field `time` has to be after 1970 and before the year 5138", None),
        ({"data": [1]}, "field `data` has to be an object, not [1]", None),
        ({"data": "<a/>"}, 'field `data` has to be an object, not "<a/>"', None),
        (
            {"datacontenttype": "text/xml", "data": "<a/>"},
            'field `datacontenttype` has to be JSON, as "application/json" is: functions read nothing else',
            None,
        ),
        (
            {"data_base64": "aGk="},
            "field `data_base64` has binary data, which functions can't read",
            "send JSON in `data`",
        ),
        (
            {"dataSchema": "x"},
            "field `dataSchema` is no attribute of a CloudEvent: they are small letters and digits",
            "did you mean `dataschema`?",
        ),
        (
            {"X-Y": "x"},
            "field `X-Y` is no attribute of a CloudEvent: they are small letters and digits",
            f"its fields are {KNOWN}; all else goes into `data`",
        ),
        ({"sequence": 2**31}, "field `sequence` has to be text, a whole number of 32 bits, or a bool", None),
        ({"nested": {}}, "field `nested` has to be text, a whole number of 32 bits, or a bool", None),
    ],
)
def test_what_is_wrong_is_named_as_the_sender_calls_it(more: dict[str, Any], message: str, hint: str | None) -> None:
    assert refusal(MINIMAL | more) == (message, hint)


@pytest.mark.parametrize("field", MINIMAL)
def test_every_required_attribute_is_required(field: str) -> None:
    event = {name: value for name, value in MINIMAL.items() if name != field}
    assert refusal(event) == (f"field `{field}` is missing", REQUIRED_HINT)


def test_an_event_of_ours_has_no_type() -> None:
    message, hint = refusal({"name": "app/hello", "type": "x"})
    assert message == "field `type` is not one that an event has"
    assert hint is not None


def test_the_line_of_a_field_is_named() -> None:
    with pytest.raises(EventError) as raised:
        parse(json.dumps(MINIMAL | {"time": "now"}, indent=1).encode(), "x.json")
    assert raised.value.message.startswith("`x.json` line 6: field `time` has to be a time")


def test_the_whole_of_it_counts() -> None:
    message, _hint = refusal(MINIMAL | {"padding": "x" * 90}, Limits(event_bytes=100))
    assert message == "the event has 178 bytes, at most 100 can be"
