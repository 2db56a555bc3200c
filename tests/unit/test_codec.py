from __future__ import annotations

import dataclasses
import enum
import json
import math
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.codec import (
    MAX_MESSAGE_CHARS,
    MAX_OUTPUT_BYTES,
    MAX_TRACEBACK_CHARS,
    decode_json,
    encode_output,
    failure_of,
)
from fanout.errors import NonRetriableError, OutputError, StepError
from fanout.model import Failure

PLAIN_DATA = "return plain data: numbers, text, lists, dicts, dataclasses, datetimes"


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Order:
    item: Any
    price: Any = 1.5


class Line(msgspec.Struct):
    item: Any


class Model:
    """What pydantic's models look like from outside."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return self.fields


class BrokenModel:
    def model_dump(self, *, mode: str) -> dict[str, Any]:
        raise LookupError(mode)


class Opaque:
    pass


class Named(pydantic.BaseModel):
    """Its fields have other names outside, one of them has two."""

    id: int = pydantic.Field(alias="customerId")
    size: int = pydantic.Field(default=1, validation_alias="s", serialization_alias="z")
    wait: timedelta = timedelta(hours=1)
    tags: tuple[Decimal, ...] = ()

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.id * 2


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, extra="allow")

    file: Path = Path("a")  # JSON to pydantic, and not to us
    item: Any = None
    other: Any = pydantic.Field(default=None, alias="otherOne")


class Written(pydantic.BaseModel):
    """It has a way to write what nobody else has."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    opaque: Opaque

    @pydantic.field_serializer("opaque")
    def write(self, value: Opaque) -> str:
        return "opaque"


class Unwritten(pydantic.BaseModel):
    number: int = 1

    @pydantic.model_serializer
    def write(self) -> Any:
        raise LookupError


class Root(pydantic.RootModel[Any]):
    pass


class Row(TypedDict):
    at: datetime


class Point(NamedTuple):
    x: int
    colour: Colour = Colour.RED


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    net: Decimal
    _rank: int = 1
    gross: int = dataclasses.field(init=False, default=5)


def refusal(value: Any) -> tuple[str, str | None]:
    with pytest.raises(OutputError) as raised:
        encode_output("step `charge`", value)
    return raised.value.message, raised.value.hint


# Encoding.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    back = decode_json(encode_output("f", value))
    assert back == value
    assert repr(back) == repr(value)  # 1 is not 1.0, and not True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), "[1,2]"),
        ({3}, "[3]"),
        ({1: "a"}, '{"1":"a"}'),
        (b"\0\xff", '"AP8="'),
        (datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC), '"2025-10-09T08:53:20Z"'),
        (timedelta(hours=1), '"PT3600S"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, '"red"'),
        (Order("tea"), '{"item":"tea","price":1.5}'),
        (Line([Order("tea", None)]), '{"item":[{"item":"tea","price":null}]}'),
        (Model(id=1, line=Line(Model(deep=None))), '{"id":1,"line":{"item":{"deep":null}}}'),
        (Row(at=datetime(2025, 10, 9, tzinfo=UTC)), '{"at":"2025-10-09T00:00:00Z"}'),
        (Point(1), '[1,"red"]'),
        (Slotted(Decimal("1.10")), '{"net":"1.10","_rank":1,"gross":5}'),
        # By the fields' names, and only what the model can be made from again.
        (Named.model_validate({"customerId": 1, "s": 2}), '{"id":1,"size":2,"wait":"PT1H","tags":[]}'),
        ({"a": [Order(Named(customerId=1))]}, '{"a":[{"item":{"id":1,"size":1,"wait":"PT1H","tags":[]},"price":1.5}]}'),
        (Root([Named(customerId=1)]), '[{"id":1,"size":1,"wait":"PT1H","tags":[]}]'),
        (
            Loose.model_validate({"item": Order("tea"), "more": (1,)}),
            '{"file":"a","item":{"item":"tea","price":1.5},"other":null,"more":[1]}',
        ),
        (Written(opaque=Opaque()), '{"opaque":"opaque"}'),
        ("null", '"null"'),
        (-0.0, "-0.0"),
        (10**25, "10000000000000000000000000"),
    ],
)
def test_other_data_is_recorded_as_its_json(value: Any, expected: str) -> None:
    assert encode_output("f", value) == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda number: number, "$"),
        (lambda number: [0, None, number], "$[2]"),
        (lambda number: {"a": {"b c": (1.0, [number])}}, "$.a.b c[1][0]"),
        (lambda number: {"text": "null", "x": number}, "$.x"),
        (lambda number: Order("tea", number), "$.price"),
        (lambda number: [Line(Order(number))], "$[0].item.item"),
        (lambda number: {"order": Model(prices=[1.0, number])}, "$.order.prices[1]"),
    ],
)
def test_nan_and_infinity_are_refused_with_their_path(number: float, wrap: Callable[[float], Any], path: str) -> None:
    message = f"step `charge` returned {number!r} at `{path}`, which JSON does not have"
    assert refusal(wrap(number)) == (message, None)


def test_nan_is_found_however_deep_it_is() -> None:
    value: Any = math.nan
    for _ in range(400):
        value = [value]
    assert refusal(value) == (f"step `charge` returned nan at `${'[0]' * 400}`, which JSON does not have", None)


@pytest.mark.parametrize(
    ("value", "kind", "path"),
    [
        (Opaque(), "Opaque", "$"),
        (Opaque, "type", "$"),
        (Model, "type", "$"),
        ([1, {"a": (2, Opaque())}], "Opaque", "$[1].a[1]"),
        ({"order": Order([Opaque()])}, "Opaque", "$.order.item[0]"),
        (Line(object()), "object", "$.item"),
        ({"m": Model(x=Opaque())}, "Model", "$.m"),
        ({"m": BrokenModel()}, "BrokenModel", "$.m"),
        ([1 + 2j], "complex", "$[0]"),
        (iter([1]), "list_iterator", "$"),
        (["ok", "\ud800"], "str", "$[1]"),
        ({"\ud800\0": Opaque()}, "Opaque", "$.\\ud800\\0"),
        ({1: {date(2025, 10, 9): {Opaque()}}}, "Opaque", "$.1.2025-10-09[0]"),
        (Line({"a": (number for number in [1])}), "generator", "$.item.a"),
        (Point(1, Slotted(object())), "object", "$[1].net"),  # type: ignore[arg-type]
        ([Written(opaque=Opaque()), Opaque()], "Opaque", "$[1]"),
        # Into models, whose own way of writing counts there.
        ({"m": Loose(item=Opaque())}, "Opaque", "$.m.item"),
        (Loose(otherOne=[1, Path("a"), {"k": (0, Opaque())}]), "Opaque", "$.other[2].k[1]"),
        (Loose(item=Loose(item=Order([Opaque()]))), "Opaque", "$.item.item.item[0]"),
        (Loose(item=Written(opaque=Opaque()), otherOne=Opaque()), "Opaque", "$.other"),
        (Loose(item={1: {date(2025, 10, 9): Opaque()}}), "Opaque", "$.item.1.2025-10-09"),
        (Loose.model_validate({"more": Opaque()}), "Opaque", "$.more"),
        (Root([1, Opaque()]), "Opaque", "$[1]"),
        # A set of a model is written as a whole.
        (Loose(item={Opaque()}), "set", "$.item"),
        (Order(Unwritten()), "Unwritten", "$.item"),
        (Loose(item=[1, Unwritten()]), "Unwritten", "$.item[1]"),
    ],
)
def test_what_is_no_json_is_named_with_its_path(value: Any, kind: str, path: str) -> None:
    message = f"step `charge` returned a `{kind}` at `{path}`, which can't be recorded as JSON"
    assert refusal(value) == (message, PLAIN_DATA)


def test_a_key_that_json_does_not_have_is_refused() -> None:
    message, hint = refusal({(1, 2): 3})
    assert (message, hint) == (
        "step `charge` returned a value that can't be recorded as JSON: tuple is not JSON", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ([1, {"a": {(1, 2): 3}}], "$[1].a", "tuple is not JSON"),
        (Order({None: 1}), "$.item", "NoneType is not JSON"),
        (Line(Order({True: 1})), "$.item.item", "bool is not JSON"),
        (
            {"a": {"\ud800": 1}},
            "$.a",
            "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed",
        ),
    ],
)
def test_the_dict_with_such_a_key_is_named_by_its_path(value: Any, path: str, reason: str) -> None:
    message = f"step `charge` returned a value at `{path}` that can't be recorded as JSON: {reason}"
    assert refusal(value) == (message, None)


def test_a_model_within_itself_is_no_endless_search() -> None:
    loose = Loose()
    loose.item = [loose, Opaque()]
    message, _ = refusal([loose])
    assert message == "step `charge` returned a `Loose` at `$[0].item[0]`, which can't be recorded as JSON"


def loop() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def tree_with_parents() -> Any:
    """Every way down and up again is a path of its own: a walk over paths would never end."""
    root: dict[str, Any] = {"children": []}
    for _ in range(3):
        child = {"parent": root, "children": [{"parent": root}, {"parent": root}]}
        root["children"].append(child)
    return root


def dataclass_loop() -> Any:
    order = Order(None)
    order.item = [order, order]
    return order


@pytest.mark.parametrize("make", [loop, tree_with_parents, dataclass_loop])
def test_a_cycle_is_refused(make: Callable[[], Any]) -> None:
    message, hint = refusal(make())
    assert message.startswith("step `charge` returned a value that can't be recorded as JSON: maximum recursion depth")
    assert hint is None


def test_what_is_shared_is_no_cycle() -> None:
    shared = {"a": [None]}
    assert encode_output("f", [shared, shared]) == '[{"a":[null]},{"a":[null]}]'


def test_the_size_limit_is_of_the_json_and_includes_its_last_byte() -> None:
    fits = "x" * (MAX_OUTPUT_BYTES - 2)
    assert len(encode_output("step `charge`", fits)) == MAX_OUTPUT_BYTES
    assert refusal(fits + "x") == (
        "step `charge` returned 16,777,217 bytes of JSON, at most 16,777,216 can be recorded",
        "write it to a file and return the file's path",
    )


# Failures.


class BrokenMessageError(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        return caught


def test_a_failure_is_type_message_and_traceback() -> None:
    line = raised.__code__.co_firstlineno + 2
    assert failure_of(raised(ValueError("no card"))) == Failure(
        "ValueError",
        "no card",
        f'Traceback (most recent call last):\n  File "{__file__}", line {line}, in raised\n    raise error\n'
        "ValueError: no card\n",
    )


def test_an_exception_that_was_never_raised_has_no_frames() -> None:
    assert failure_of(ValueError()) == Failure("ValueError", "", "ValueError\n")


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        ("builtins", "E"),
        ("__main__", "E"),
        ("fanout", "E"),
        ("fanout.errors", "E"),
        ("fanout_shop", "fanout_shop.E"),
        ("shop.errors", "shop.errors.E"),
    ],
)
def test_a_type_is_named_with_its_module_unless_everybody_knows_it(module: str, shown: str) -> None:
    assert failure_of(type("E", (Exception,), {"__module__": module})()).type == shown


def test_our_own_exceptions_give_their_message() -> None:
    failure = failure_of(StepError("charge", "declined", type="shop.CardError"))
    assert (failure.type, failure.message) == ("StepError", "step `charge` failed: shop.CardError: declined")
    assert failure_of(NonRetriableError("no", hint="yes")).message == "no"


@pytest.mark.parametrize("kind", [BrokenMessageError, UnspeakableError])
def test_a_message_that_cannot_be_read_does_not_hide_the_failure(kind: type[Exception]) -> None:
    failure = failure_of(raised(kind("x")))
    assert failure.type == f"{__name__}.{kind.__qualname__}"
    assert failure.message == "(its message can't be read: __str__ failed)"
    assert failure.traceback.endswith(f"{kind.__qualname__}: <exception str() failed>\n")


def test_lone_surrogates_and_nuls_become_visible() -> None:
    failure = failure_of(raised(ValueError("a\0b\ud800c\U0001f600")))
    assert failure.message == "a\\0b\\ud800c\U0001f600"
    assert failure.traceback.endswith("ValueError: a\\0b\\ud800c\U0001f600\n")
    assert json.loads(json.dumps(failure.message).encode()) == failure.message


def test_a_huge_message_keeps_its_beginning_and_the_traceback_its_end() -> None:
    failure = failure_of(raised(ValueError("".join(map(str, range(100_000))))))
    text = "".join(map(str, range(100_000)))
    assert failure.message == text[:MAX_MESSAGE_CHARS]
    assert failure.traceback == f"{text}\n"[-MAX_TRACEBACK_CHARS:]


def test_a_group_shows_each_of_its_exceptions() -> None:
    group = ExceptionGroup("both", [ValueError("first"), ExceptionGroup("inner", [KeyError("second")])])
    failure = failure_of(group)
    assert failure == Failure(
        "ExceptionGroup",
        "both (2 sub-exceptions)",
        "  | ExceptionGroup: both (2 sub-exceptions)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | ValueError: first\n"
        "    +---------------- 2 ----------------\n"
        "    | ExceptionGroup: inner (1 sub-exception)\n"
        "    +-+---------------- 1 ----------------\n"
        "      | KeyError: 'second'\n"
        "      +------------------------------------\n",
    )


def test_a_group_with_a_broken_message_inside_is_still_a_failure() -> None:
    failure = failure_of(raised(ExceptionGroup("both", [BrokenMessageError(), ValueError("\ud800")])))
    assert (failure.type, failure.message) == ("ExceptionGroup", "both (2 sub-exceptions)")
    assert "\\ud800" in failure.traceback


def test_the_cause_is_told_first() -> None:
    error = raised(ValueError("outer"))
    error.__cause__ = KeyError("inner")
    lines = failure_of(error).traceback.splitlines()
    assert lines[0] == "KeyError: 'inner'"
    assert lines[2] == "The above exception was the direct cause of the following exception:"
    assert lines[-1] == "ValueError: outer"


@pytest.fixture
def our_module(tmp_path: Path) -> ModuleType:
    """A module that passes for one of the worker's, and calls what it is given through two frames."""
    file = tmp_path / "ours.py"
    file.write_text("def outer(fn):\n    inner(fn)\n\ndef inner(fn):\n    fn()\n")
    module = ModuleType("fanout.worker.pretended")
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    return module


def users_function() -> None:
    raise ValueError("theirs")


def frames_of(error: BaseException) -> list[str]:
    lines = failure_of(error).traceback.splitlines()
    return [line.rpartition(", in ")[2] for line in lines if line.startswith("  File ")]


def test_the_users_own_frames_come_first(our_module: ModuleType) -> None:
    with pytest.raises(ValueError, match="theirs") as caught:
        our_module.outer(users_function)
    assert caught.value.__traceback__ is not None
    # The frame of this test stands for nothing that a worker has.
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    assert frames_of(error) == ["users_function"]


def test_our_frames_stay_if_there_are_no_others(our_module: ModuleType) -> None:
    with pytest.raises(TypeError) as caught:
        our_module.outer(5)
    assert caught.value.__traceback__ is not None
    assert frames_of(caught.value.with_traceback(caught.value.__traceback__.tb_next)) == ["outer", "inner"]


def test_endless_recursion_gives_a_short_traceback() -> None:
    def down() -> None:
        down()

    with pytest.raises(RecursionError) as caught:
        down()
    failure = failure_of(caught.value)
    assert failure.type == "RecursionError"
    assert len(failure.traceback) < MAX_TRACEBACK_CHARS
    assert sys.getrecursionlimit() > len(failure.traceback.splitlines())
