from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import EventError
from fanout.events import Limits, NewEvent, build, parse

SMALL = Limits(event_bytes=100, request_events=2, name_bytes=10, depth=5)
NEEDS_TS = "has to be milliseconds since 1970, above 0 and below 100000000000000"
EXAMPLE = 'an event is `{"name": "app/hello", "data": {}}`'


def refusal(text: str | bytes, limits: Limits = SMALL) -> tuple[str, str | None]:
    with pytest.raises(EventError) as raised:
        parse(text.encode() if isinstance(text, str) else text, "x.json", limits)
    return raised.value.message, raised.value.hint


def test_one_object_with_every_field() -> None:
    text = b"""
    { "name": "app/user.signup", "data": {"user": {"id": 1.10}}, "id": "s-1", "ts": 1700000000000,
      "v": "2", "user": { "plan" : "free" } }
    """
    assert parse(text, "x.json") == [
        NewEvent("app/user.signup", '{"user":{"id":1.10}}', "s-1", 1_700_000_000_000, '{"plan":"free"}', "2")
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "a"}, {"name": "b"}]',
        '[\n  {"name": "a"},\n  {"name": "b"}\n]',
        '{"name": "a"}\n{"name": "b"}\n',
        '\r\n{"name": "a"}\r\n  \n\n{"name": "b"}',
        '\ufeff{"name": "a"}\n{"name": "b"}\n',
    ],
)
def test_lists_and_lines_keep_their_order(text: str) -> None:
    assert parse(text.encode(), "x.json") == [NewEvent("a", "{}"), NewEvent("b", "{}")]


def test_an_empty_list_is_no_event() -> None:
    assert parse(b"[]", "x.json") == []


def test_the_same_id_twice_is_not_its_business() -> None:
    assert [event.id for event in parse(b'[{"name":"a","id":"1"},{"name":"a","id":"1"}]', "x.json")] == ["1", "1"]


def test_numbers_keep_every_digit() -> None:
    data = (
        '{"price":1.10,"big":123456789012345678901234567890,"small":1e-400,"exact":0.1000000000000000055,"minus":-0.0}'
    )
    assert parse(f'{{"name":"a","data":{data}}}'.encode(), "x.json")[0].data == data


def test_a_line_separator_inside_of_text_ends_no_line() -> None:
    text = '{"name":"a","data":{"x":"\u2028"}}\n{"name":"b"}'.encode()
    assert [event.name for event in parse(text, "x.json")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "`x.json` is empty", EXAMPLE),
        ("\ufeff \n", "`x.json` is empty", EXAMPLE),
        ('"app/hello"', '`x.json` holds "app/hello", not an event or a list of them', EXAMPLE),
        ("17", "`x.json` holds 17, not an event or a list of them", EXAMPLE),
        (b'{\n"name":"\xff"}', "`x.json` line 2: this is not UTF-8 text", "save it as UTF-8"),
        (b"\xff\xfe{\0}\0", "`x.json` line 1: this is not UTF-8 text", "save it as UTF-8"),
        ('{"data": {}}', "`x.json` line 1: field `name` is missing", EXAMPLE),
        ('{"name": ""}', "`x.json` line 1: field `name` is empty", None),
        ('{"name": 5}', "`x.json` line 1: field `name` has to be text, not 5", None),
        ('{"name": "a\\nb"}', "`x.json` line 1: field `name` has characters that can't be printed: 'a\\nb'", None),
        ('{"name": "éééééé"}', "`x.json` line 1: field `name` has 12 bytes, at most 10 can be", None),
        (
            '{"name": "fanout/function.failed"}',
            "`x.json` line 1: field `name` begins with `fanout/`, as only fanout's own events do",
            None,
        ),
        (
            '{"name": "a",\n "data": {"ts": 1},\n "ts": "now"}',
            '`x.json` line 3: field `ts` has to be a whole number of milliseconds, not "now"',
            None,
        ),
        (
            '{"name": "a"}\n\n{"name": "b", "ts": true}',
            "`x.json` line 3: field `ts` has to be a whole number of milliseconds, not true",
            None,
        ),
        (
            '[{"name": "a"},\n\n {"name": "b", "ts": 1.0}]',
            "`x.json` event 2: field `ts` has to be a whole number of milliseconds, not 1.0",
            None,
        ),
        (
            '{"name": "a", "ts": 0}',
            f"`x.json` line 1: field `ts` {NEEDS_TS}, not 0",
            None,
        ),
        (
            '{"name": "a", "ts": 100000000000000}',
            f"`x.json` line 1: field `ts` {NEEDS_TS}, not 100000000000000",
            None,
        ),
        ('{"name": "a", "data": [1]}', "`x.json` line 1: field `data` has to be an object, not [1]", None),
        ('{"name": "a", "data": null}', "`x.json` line 1: field `data` has to be an object, not null", None),
        ('{"name": "a", "user": "u"}', '`x.json` line 1: field `user` has to be an object, not "u"', None),
        ('{"name": "a", "v": 2}', "`x.json` line 1: field `v` has to be text, not 2", None),
        ('{"name": "a", "id": null}', "`x.json` line 1: field `id` has to be text, not null", None),
        ('{"name": "a", "id": ""}', "`x.json` line 1: field `id` is empty", None),
        ('{"name": "a", "id": "12345678901"}', "`x.json` line 1: field `id` has 11 bytes, at most 10 can be", None),
        ('{"nmae": "a"}', "`x.json` line 1: field `nmae` is not one that an event has", "did you mean `name`?"),
        (
            '{"name": "a",\n"payload": {}}',
            "`x.json` line 2: field `payload` is not one that an event has",
            "its fields are `name`, `data`, `id`, `ts`, `user`, `v`; all else goes into `data`",
        ),
        (
            '{"name": "a", "da\\u001bta": {}}',
            "`x.json` line 1: field `'da\\x1bta'` is not one that an event has",
            "did you mean `data`?",
        ),
        ('[{"name": "a"}, 5]', "`x.json` event 2: the event has to be an object, not 5", EXAMPLE),
        ('{"name": "a"}\n[]', "`x.json` line 2: the event has to be an object, not []", EXAMPLE),
        (
            '[{"name":"a"},{"name":"a"},{"name":"a"}]',
            "`x.json` has 3 events, at most 2 can be in one request",
            "split it, and send one part after another",
        ),
        (
            f'\n{{"name": "a", "data": {{"x": "{"y" * 90}"}}}}',
            "`x.json` line 2: the event has 118 bytes, at most 100 can be",
            "keep large data in a file, and send where it is",
        ),
        (
            '{"name": "a", "data": {"x": 1e400}}',
            "`x.json` line 1: the event has a number too large to read",
            "send it as text",
        ),
        ('{"name": "a", "data": {"x": [[[[1]]]]}}', "`x.json` line 1: the event is nested more than 5 deep", None),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str | bytes, message: str, hint: str | None) -> None:
    assert refusal(text) == (message, hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a"\n "data": {}}', "line 2 column 2: this is not JSON: expecting ',' delimiter"),
        ('[\n  {"name": }\n]', "line 2 column 12: this is not JSON: expecting value"),
        ('{"name": "a"}\n{"name": }\n', "line 2 column 10: this is not JSON: expecting value"),
        ('{"name": }\n{"name": "a"}\n', "line 1 column 10: this is not JSON: expecting value"),
        ('{"name": "a"} x', "line 1 column 15: this is not JSON: extra data"),
        ('{"name": "a', "line 1 column 10: this is not JSON: unterminated string starting at"),
        ('{"name": "a", "data": {"x": "NaN",\n "y": NaN}}', "line 2 column 7: this is not JSON: it has no NaN"),
        ('{"name": "a"}\n{"data": -Infinity}', "line 2 column 10: this is not JSON: it has no -Infinity"),
        (
            '{"name": "a", "data": {"x": "\\\\ud83d \\ud83d\\ude00 \\ud83d"}}',
            "line 1 column 29: this is not JSON: a text has half of a surrogate pair",
        ),
        ('{"name": "\\ud800"}\n{', "line 1 column 10: this is not JSON: a text has half of a surrogate pair"),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, message: str) -> None:
    assert refusal(text) == (f"`x.json` {message}", None)


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_a_tower_of_brackets_is_refused(deep: str) -> None:
    event = f'{{"name": "a", "data": {deep}}}'
    limits = Limits(event_bytes=10**7)
    assert refusal(event, limits) == ("`x.json`: the event is nested more than 200 deep", None)
    lines = f'{{"name": "a"}}\n{event}'
    assert refusal(lines, limits) == ("`x.json` line 2: the event is nested more than 200 deep", None)


def test_the_widest_nesting_and_many_brackets_are_fine() -> None:
    data = '{"x":[[[],[]],[],[[[]]]]}'
    assert parse(f'{{"name":"a","data":{data}}}'.encode(), "x", Limits(depth=6))[0].data == data


def test_a_number_of_many_digits_is_refused() -> None:
    text = f'{{"name": "a", "ts": {"9" * 5000}}}'
    assert refusal(text, Limits()) == ("`x.json` line 1: the event has a number too large to read", "send it as text")


def test_the_default_limits_are_those_of_the_documentation() -> None:
    assert Limits() == Limits(event_bytes=524_288, request_events=5_000, name_bytes=256)


def test_space_between_tokens_does_not_count() -> None:
    assert parse(b'{"name":' + b" " * 1000 + b'"a"}', "x", SMALL) == [NewEvent("a", "{}")]


def test_many_escaped_quotes_in_a_broken_text_take_no_time() -> None:
    message, _hint = refusal('{"name": "' + '\\"' * 200_000)
    assert message == "`x.json` line 1 column 10: this is not JSON: unterminated string starting at"


def test_build_makes_the_event_of_the_command_line() -> None:
    assert build("app/hello", None) == NewEvent("app/hello", "{}")
    assert build('app/"é"', ' {"a": 1.10} ') == NewEvent('app/"é"', '{"a":1.10}')


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("", None, "`--name` is empty"),
        ("fanout/x", None, "`--name` begins with `fanout/`, as only fanout's own events do"),
        ("a\udcff", None, "`--name` has characters that can't be printed: 'a\\udcff'"),
        ("a", "", "`--data` is empty"),
        ("a", "[1]", "`--data` has to be an object, not [1]"),
        ("a", '{"x": }', "`--data` line 1 column 7: this is not JSON: expecting value"),
        ("a", '{}, "id": "1"', "`--data` line 1 column 3: this is not JSON: extra data"),
        ("a", '{"x": "\udcff"}', "`--data` is not UTF-8 text"),
        ("a", '{"x": 1e999}', "`--data` has a number too large to read"),
        ("a", f'{{"x": "{"y" * 90}"}}', "`--data` has 118 bytes, at most 100 can be"),
        ("a", "[[[[[1]]]]]", "`--data` is nested more than 5 deep"),
        ("a", "[" * 100_000 + "]" * 100_000, "`--data` is nested more than 5 deep"),
    ],
)
def test_build_speaks_of_the_options(name: str, data: str | None, message: str) -> None:
    with pytest.raises(EventError) as raised:
        build(name, data, limits=SMALL)
    assert raised.value.message == message


text_without_surrogates = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text_without_surrogates,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text_without_surrogates, inner, max_size=4),
    max_leaves=20,
)
json_objects = st.dictionaries(text_without_surrogates, json_values, max_size=5)


@given(json_objects, st.booleans(), st.sampled_from([None, 2]))
def test_any_object_comes_back_exactly(data: dict[str, Any], is_ascii: bool, indent: int | None) -> None:
    text = json.dumps({"name": "a", "data": data, "user": data}, ensure_ascii=is_ascii, indent=indent)
    expected = json.dumps(data, ensure_ascii=is_ascii, separators=(",", ":"))
    (event,) = parse(text.encode(), "x.json")
    assert (event.data, event.user) == (expected, expected)
    assert build("a", json.dumps(data, ensure_ascii=is_ascii, indent=indent)).data == expected


@given(st.lists(json_objects, min_size=1, max_size=4))
def test_a_list_and_lines_give_the_same(objects: list[dict[str, Any]]) -> None:
    events = [{"name": f"a{number}", "data": data} for number, data in enumerate(objects)]
    lines = "\n".join(json.dumps(event) for event in events)
    assert parse(lines.encode(), "x.json") == parse(json.dumps(events).encode(), "x.json")


@given(st.binary() | st.text(alphabet='{}[]":,\\ \nu0d8NaI-1e.name', max_size=60).map(str.encode))
def test_any_bytes_are_events_or_an_event_error(text: bytes) -> None:
    try:
        parse(text, "x.json")
    except EventError as error:
        assert error.message.startswith("`x.json`")  # noqa: PT017 - both outcomes are fine, a third is not
