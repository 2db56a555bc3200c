from __future__ import annotations

import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.expressions import MAX_DEPTH, MAX_SOURCE_CHARS, Expression, parse
from fanout.errors import ExpressionError

EVENT = {
    "id": "01J",
    "name": "app/order.paid",
    "ts": 1_700_000_000_000,
    "user": {"id": "u_1"},
    "v": None,
    "data": {
        "whole": 5,
        "real": 5.0,
        "half": 2.5,
        "total": 150,
        "text": "hello world",
        "accents": "héllo 😀",
        "tags": ["a", "b"],
        "numbers": [1, 2.0, 3],
        "items": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}],
        "nothing": None,
        "yes": True,
        "no": False,
        "one": 1,
        "when": "2024-06-01T12:30:00Z",
        "zero": 0,
        "dash-key": 1,
        "if": 1,
    },
}


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "source",
    [
        "true",
        'event.name == "app/order.paid"',
        "event.ts > 0",
        "event.v == null",
        "event.data.nothing == null",
        'event.user.id == "u_1"',
        # A number is the same number, however its sender wrote it.
        "event.data.whole == 5 && event.data.whole == 5.0",
        "event.data.real == 5 && event.data.real == 5.0",
        "event.data.whole == event.data.real",
        "event.data.half > 2 && event.data.half < 3 && event.data.total > 100 && event.data.real <= 5",
        "event.data.whole in [1, 5] && event.data.real in [1, 5] && 2 in event.data.numbers && 2.0 in event.data.numbers",
        "event.data.numbers == [1, 2, 3]",
        "double(event.data.whole) * 1.5 == 7.5 && double(event.data.real) * 1.5 == 7.5",
        "event.data.whole % 2 == 1",
        # Text.
        'event.data.text.startsWith("hell") && event.data.text.endsWith("ld") && event.data.text.contains("o w")',
        r'event.data.text.matches("^h\\w+ ") && !event.data.text.matches("^$")',
        "size(event.data.text) == 11 && event.data.accents.size() == 7",
        # Lists and objects.
        '"a" in event.data.tags && !("z" in event.data.tags) && "whole" in event.data && !("x" in event.data)',
        'event.data.tags[1] == "b" && event.data["dash-key"] == 1 && event.data.`dash-key` == 1 && event.data.if == 1',
        'event.data.items.exists(each, each.sku == "y" && each.n > 1)',
        "event.data.items.all(each, each.n > 0)",
        "event.data.items.map(each, each.n) == [1, 2]",
        "has(event.data.whole) && !has(event.data.missing)",
        # A choice that is made does not mind what the other side would have said.
        "event.data.a.b == 1 || event.data.yes",
        "event.data.yes || event.data.a.b == 1",
        "!(event.data.a.b == 1 && event.data.no)",
        'event.data.whole > 3 ? event.data.text == "hello world" : event.data.a.b',
        "has(event.data.a) ? event.data.a.b == 1 : true",
        # Times.
        'timestamp(event.data.when) > timestamp("2024-01-01T00:00:00Z")',
        'timestamp("2024-01-02T00:00:00Z") - timestamp("2024-01-01T00:00:00Z") == duration("24h")',
        "timestamp(event.data.when).getHours() == 12",
        "timestamp(event.ts / 1000).getFullYear() == 2023",
        # How it is written does not matter.
        "  event.data.yes // as they said\n  && true\n",
    ],
)
def test_a_condition_holds(source: str) -> None:
    assert parse(source).is_true(event=EVENT)


@pytest.mark.parametrize(
    "source",
    [
        "false",
        "event.data.no",
        "event.data.whole == 6",
        'event.data.whole == "5"',
        "event.data.yes == 1",
        # A path that is not there, however it is asked for.
        "event.data.missing",
        "event.data.a.b == 1",
        "event.data.a.b != 1",
        "!event.data.a.b",
        "has(event.data.a.b)",
        "!has(event.data.a.b)",
        "event.data.nothing.x == 1",
        "event.data.text.x == 1",
        "event.data.tags[2] == 'c'",
        "event.data.tags[-1] == 'b'",
        "[event.data.a] == [1]",
        "event.data.a.exists(each, true)",
        "event.data.whole.all(each, true)",
        # Not a bool.
        "event",
        "event.data.one",
        "event.data.text",
        "event.data.tags",
        "null",
        "1",
        '"true"',
        # What can't be worked out.
        "event.data.whole < 'x'",
        "event.data.whole + 1.0 > 0.0",
        "event.data.whole / event.data.zero == 1",
        "event.data.whole % event.data.zero == 1",
        "9223372036854775807 + event.data.whole > 0",
        "event.data.whole ? true : true",
        "event.data.yes && event.data.whole",
        "event.data.text.matches('(')",
        "timestamp(event.data.text) > timestamp(0)",
        "timestamp(event.ts) > timestamp(0)",
        "duration('300000000h') > duration('1s')",
        "int(1e300) > 0",
        "{'a': 1, 'a': 2}.a == 1",
    ],
)
def test_what_is_not_exactly_true_is_false(source: str) -> None:
    assert not parse(source).is_true(event=EVENT)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.data.text", "hello world"),
        ("event.data.whole", 5),
        ("event.data.half", 2.5),
        ("event.data.yes", True),
        ("event.data.nothing", None),
        ("event.data.items", [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}]),
        ('event.user.id + "/" + string(event.data.whole)', "u_1/5"),
        ('event.data.total > 100 ? "large" : "small"', "large"),
        ("event.data.total > 100 ? 120 : 0", 120),
        ("-event.data.whole * 2", -10),
        ("{'a': [event.data.whole, null]}", {"a": [5, None]}),
        ("timestamp(event.data.when)", datetime(2024, 6, 1, 12, 30, tzinfo=UTC)),
        ('duration("1h30m")', timedelta(minutes=90)),
        ("event.data.missing", None),
        ("event.data.a.b", None),
        ("[event.data.whole, event.data.missing]", None),
        ("{'a': event.data.missing}", None),
        ("event.data.whole / 0", None),
        ("event.data.whole + event.data.text", None),
    ],
)
def test_the_value_is_plain_data_or_none(source: str, value: object) -> None:
    found = parse(source).value(event=EVENT)
    assert (type(found), found) == (type(value), value)


def test_whole_events_come_back_as_they_were() -> None:
    assert parse("event").value(event=EVENT) == EVENT


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("", "`` is not a CEL expression: unexpected end (column 1)", None),
        ("event.n ==", "`event.n ==` is not a CEL expression: unexpected end (column 11)", None),
        ("(event.n", "`(event.n` is not a CEL expression: unexpected end (column 9)", None),
        ("event.n = 5", "`event.n = 5` is not a CEL expression: unexpected `= ` (column 9)", None),
        ("event.n and true", "`event.n and true` is not a CEL expression: unexpected `and` (column 9)", None),
        ("event.n == 'O'Neil'", "`event.n == 'O'Neil'` is not a CEL expression: unexpected `Neil` (column 15)", None),
        ("'é😀' == )", "`'é😀' == )` is not a CEL expression: unexpected `)` (column 9)", None),
        ("for", "`for` is not a CEL expression: reserved identifier: for (column 1)", None),
        (
            "evnt.n == 1",
            "`evnt.n == 1` is not a CEL expression: `evnt.n` is no variable, and no function of such arguments (column 5)",
            "its variables: `event`",
        ),
        (
            "event.n == 1 &&\n  lower(event.s)",
            "`event.n == 1 && lower(event.s)` is not a CEL expression: `lower` is no variable, and no function of such arguments (line 2, column 8)",
            "its variables: `event`",
        ),
        (
            "event.s.lower()",
            "`event.s.lower()` is not a CEL expression: `lower` is no variable, and no function of such arguments (column 14)",
            "its variables: `event`",
        ),
        ("1 == '1'", "`1 == '1'` is not a CEL expression: `==` can't take (int, string) (column 3)", None),
        ("1 in 5", "`1 in 5` is not a CEL expression: `in` can't take (int, int) (column 3)", None),
        (
            "double(event.n) > 5",
            "`double(event.n) > 5` is not a CEL expression: `>` can't take (double, int) (column 17)",
            "only data compares across kinds of numbers: `5.0` is a double, `5` an int, `double(...)` makes one of it",
        ),
        (
            "99999999999999999999",
            "`99999999999999999999` is not a CEL expression: invalid int literal (column 1)",
            None,
        ),
        ("\0\x1b", "`??` is not a CEL expression: unexpected `` (column 1)", None),
        ("'\ud800'", "`'?'` is not a CEL expression: it has half of a surrogate pair", None),
        ("(" * 200, f"`{'(' * 79}…` is not a CEL expression: it is nested too deep", None),
        ("event" + "[0]" * 200, f"`event{'[0]' * 24}[0…` is not a CEL expression: it is nested too deep", None),
        (
            "1" * (MAX_SOURCE_CHARS + 1),
            f"`{'1' * 79}…` has 1,001 characters, an expression at most 1,000",
            "decide it in the function's own code",
        ),
    ],
)
def test_what_is_not_cel_is_refused_with_its_place(source: str, message: str, hint: str | None) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse(source)
    assert (raised.value.message, raised.value.hint) == (message, hint)


def test_an_expression_may_be_as_long_as_the_limit() -> None:
    text = "x" * (MAX_SOURCE_CHARS - 2)
    assert parse(f"'{text}'").value() == text


def test_the_variables_are_those_that_were_declared() -> None:
    both = frozenset({"event", "async"})
    same = parse("async.data.id == event.data.id", both)
    assert same.is_true(event={"data": {"id": 1}}, **{"async": {"data": {"id": 1.0}}})
    assert not same.is_true(event={"data": {"id": 1}}, **{"async": {"data": {"id": 2}}})
    with pytest.raises(ExpressionError) as raised:
        parse("asink.data.id == 1", both)
    assert raised.value.hint == "its variables: `async`, `event`"
    with pytest.raises(ExpressionError):
        parse("async.data.id == 1")


def test_a_variable_that_is_not_given_makes_it_false() -> None:
    assert not parse("event.data.x == 1").is_true()
    assert parse("true").is_true()
    assert parse("true").is_true(self=1)


def test_a_source_is_parsed_once() -> None:
    assert parse("event.data.once == 1") is parse("event.data.once == 1")
    assert repr(parse("event.data.once")) == "Expression('event.data.once')"


@pytest.mark.parametrize("wide", [2**64, -(2**63) - 1, 2**70, 10**400, -(10**400)])
def test_an_integer_wider_than_cels_is_a_double_and_harms_no_other_path(wide: int) -> None:
    event = {"data": {"wide": wide, "list": [{"wide": wide}], "n": 1}}
    assert parse("event.data.n == 1").is_true(event=event)
    assert parse("event.data.wide > 0").is_true(event=event) == (wide > 0)
    assert parse("event.data.list[0].wide == event.data.wide").is_true(event=event)
    assert event["data"] == {"wide": wide, "list": [{"wide": wide}], "n": 1}


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0])
def test_integers_of_64_bits_are_exact(number: int) -> None:
    event = {"data": {"n": number, "next": number - 1 if number > 0 else number + 1}}
    assert parse("event.data.n").value(event=event) == number
    assert not parse("event.data.n == event.data.next").is_true(event=event)


def test_data_that_is_nested_too_deep_is_false_and_crashes_nothing() -> None:
    # Two levels are the event and its data.
    deepest = {"data": {"deep": nested(MAX_DEPTH - 2), "n": 1}}
    assert parse("event.data.n == 1 && event.data.deep == event.data.deep").is_true(event=deepest)
    for levels in (MAX_DEPTH - 1, 50_000):
        event = {"data": {"deep": nested(levels), "n": 1}}
        assert not parse("event.data.n == 1").is_true(event=event)
        assert parse("event.data.deep").value(event=event) is None


def test_the_deepest_data_fits_a_small_stack() -> None:
    event = {"data": {"deep": nested(MAX_DEPTH - 2), "wide": 2**70, "n": 1}}
    answers: list[bool] = []
    condition = parse("event.data.n == 1 && event.data.deep == event.data.deep && [event] == [event]")
    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: answers.append(condition.is_true(event=event)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert answers == [True]


def test_a_loop_over_much_data_ends() -> None:
    event = {"data": {"list": list(range(3_000))}}
    assert parse("event.data.list.all(x, x >= 0)").is_true(event=event)
    assert not parse("event.data.list.all(x, event.data.list.all(y, true))").is_true(event=event)


def test_a_pattern_can_not_explode() -> None:
    event = {"data": {"text": "a" * 50_000}}
    assert not parse('event.data.text.matches("^(a+)+$b")').is_true(event=event)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1, 2}, object(), {None: 1}, {"a": b"x"}, "\ud800", {"\ud800": 1}]
)
def test_what_is_not_json_raises_nothing_either(value: object) -> None:
    assert not parse("event.data.n == 1").is_true(event={"data": value})


def test_threads_share_an_expression() -> None:
    condition = parse("event.data.n == 1 && event.data.text.startsWith('x')")
    numbers = [0, 1, 1, 2] * 500

    def answer(number: int) -> bool:
        return condition.is_true(event={"data": {"n": number, "text": "xyz"}})

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(answer, numbers)) == [number == 1 for number in numbers]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcn") | st.text(max_size=4), inner),
    max_leaves=12,
)
SOURCES = (
    "event.data.n == 5",
    "event.data.a.b > 100 || event.data.n < 1.5",
    "event.data.a.b.c != event.data.n",
    "has(event.data.a.b) ? event.data.a.b : !event.data.n",
    "event.data.a + event.data.b == event.data.n",
    "event.data.n / event.data.a > -event.data.b",
    'event.data.a.startsWith("x") || event.data.b.matches(event.data.a)',
    "size(event.data.a) > event.data.n && event.data.b in event.data.a",
    "event.data.a.all(x, x.n > 1) || event.data.b.exists(x, x[event.data.n])",
    "timestamp(event.data.a) + duration(event.data.b) > timestamp(event.data.n)",
    "int(event.data.a) + int(double(event.data.b)) > 0 && event.data == event.data",
    "event.data.map(x, event.data[x])[0] == event.data.n",
)
EXPRESSIONS = [parse(source) for source in SOURCES]


@given(st.sampled_from(EXPRESSIONS), st.dictionaries(st.sampled_from("abn"), json_values) | json_values)
def test_no_event_makes_an_expression_raise(expression: Expression, data: Any) -> None:
    event = {"name": "app/x", "data": data}
    value = expression.value(event=event)
    assert expression.is_true(event=event) is (value is True)


@given(st.integers(-(2**53), 2**53))
def test_a_number_is_the_same_however_it_is_written(number: int) -> None:
    for given_, literal in ((number, float(number)), (float(number), number)):
        assert parse("event.a == event.b && event.a <= event.b").is_true(event={"a": given_, "b": literal})
        assert parse("event.a in [event.b]").is_true(event={"a": given_, "b": literal})


TOKENS = st.sampled_from(
    ["event", ".a", "x", "(", ")", "[", "]", "{", "}", "'", '"', "`", "\\", "==", "=", "&&", "?", ":", ",", "-", "!", "1", "2.5",
     "9" * 20, "null", "true", "in", " ", "\n", ".all(", ".map(", "size(", "has(", "//", "r'", "\0", "é", "😀", "\ud800", "%s"]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        expression = parse(source)
    except ExpressionError as error:
        assert error.message.isprintable()  # noqa: PT017 - most texts are refused, and some are not
    else:
        expression.value(event=EVENT)


LOADED = """
import sys
import fanout.core.expressions as expressions
assert not any(name.startswith("cel_expr_python") for name in sys.modules)
assert expressions.parse("event.n == 1").is_true(event={"n": 1.0})
assert "cel_expr_python.cel" in sys.modules
"""


def test_the_library_is_loaded_by_the_first_expression_and_not_before() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True, timeout=60)


def test_a_protobuf_that_is_installed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    protobuf = ModuleType("google.protobuf.descriptor_pool")
    monkeypatch.setattr(protobuf, "Default", lambda: asked.append("Default"), raising=False)
    monkeypatch.setitem(sys.modules, protobuf.__name__, protobuf)
    assert parse("probe == 1", frozenset({"probe"})).is_true(probe=1)
    assert (asked, sys.modules[protobuf.__name__]) == ([], protobuf)


def test_a_protobuf_that_nobody_has_imported_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "google.protobuf.descriptor_pool", raising=False)
    assert parse("nobody == 1", frozenset({"nobody"})).is_true(nobody=1)
    assert "google.protobuf.descriptor_pool" not in sys.modules
