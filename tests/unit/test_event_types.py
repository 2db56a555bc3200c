"""The four kinds of types for an event's data: as JSON Schema, and as what a function gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

import fanout
from fanout.attached import spec_of
from fanout.core.event_schemas import INVOKED, UnfitError
from fanout.core.json_schema import MAX_DEPTH
from fanout.errors import LoadError
from fanout.worker.event_types import MAX_SCHEMA_BYTES, EventTypes, types_of


class Line(TypedDict):
    price: float
    note: NotRequired[str]


class OrderDict(TypedDict):
    id: int
    lines: list[Line]


@dataclass
class OrderData:
    id: int
    lines: list[Line] = field(default_factory=list)


class OrderStruct(msgspec.Struct, rename="camel", kw_only=True):
    id: int
    lines: list[Line] = []
    paid_at: datetime | None = None


class LineModel(pydantic.BaseModel):
    price: float
    note: str | None = None


class OrderModel(pydantic.BaseModel):
    id: Annotated[int, pydantic.Field(gt=0)]
    lines: list[LineModel] = []

    @pydantic.field_validator("lines")
    @classmethod
    def few(cls, lines: list[LineModel]) -> list[LineModel]:
        if len(lines) > 2:
            raise ValueError("they are too many")
        return lines


@dataclass
class Mixed:
    """A dataclass with one of pydantic's models in it."""

    order: OrderModel


KINDS: list[Any] = [OrderDict, OrderData, OrderStruct, OrderModel]


def types(event_schema: Any, *names: str) -> EventTypes:
    @fanout.function(trigger=[fanout.on(name) for name in names or ["shop/order"]], event_schema=event_schema)
    def place(ctx: fanout.Context[Any]) -> None: ...

    return types_of(place, of(place))


def of(function: Callable[..., Any]) -> Any:
    found = spec_of(function)
    assert found is not None
    return found


def data(event_schema: Any, given: object, *names: str, name: str = "shop/order") -> Any:
    listening = fanout.function(trigger=[fanout.on(each) for each in names or ["shop/order"]], id="place")
    spec = of(listening(lambda _ctx: None))
    return types(event_schema, *names).data_of(spec, ("id", name, 0, json.dumps(given), None, None))


def unfit(event_schema: Any, given: object, **more: Any) -> str:
    with pytest.raises(UnfitError) as raised:
        data(event_schema, given, **more)
    return raised.value.message


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (OrderDict, {"id": 7, "lines": [{"price": 1.5}]}),
        (OrderData, OrderData(7, [{"price": 1.5}])),
        (OrderStruct, OrderStruct(id=7, lines=[{"price": 1.5}])),
        (OrderModel, OrderModel(id=7, lines=[LineModel(price=1.5)])),
        (OrderModel | None, OrderModel(id=7, lines=[LineModel(price=1.5)])),
    ],
)
def test_a_function_gets_its_type(kind: Any, made: object) -> None:
    got = data(kind, {"id": 7, "lines": [{"price": 1.5}]})
    assert got == made
    assert type(got) is type(made)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_said_alike_whatever_the_type(kind: Any) -> None:
    prefix = "event `shop/order` does not fit function `place`: "
    assert unfit(kind, {"id": "x", "lines": []}) == f"{prefix}`data.id`: expected `int`, got `str`"
    assert unfit(kind, {"lines": []}) == f"{prefix}`data.id` is missing"
    bad = {"id": 7, "lines": [{"price": 1}, {"note": "x"}]}
    assert unfit(kind, bad) == f"{prefix}`data.lines[1].price` is missing"


def test_the_last_word_is_the_types_own() -> None:
    lines = [{"price": 1}] * 3
    assert unfit(OrderModel, {"id": 7, "lines": lines}).endswith("`data.lines`: Value error, they are too many")
    assert data(OrderModel, {"id": "7"}).id == 7, "it takes more than its schema says"
    assert unfit(OrderStruct, {"id": 7, "paidAt": "2027-02-31T09:00:00Z"}).endswith("`data.paidAt`: it is no date-time")
    late = unfit(OrderStruct, {"id": 7, "paidAt": "2027-02-28 09"})
    assert late.endswith("`data.paidAt`: Invalid RFC3339 encoded datetime")


def test_what_it_was_invoked_with_is_not_called_an_event() -> None:
    said = unfit(OrderDict, {}, name=INVOKED)
    assert said == "what it was invoked with does not fit function `place`: `data.id` is missing"


def test_types_by_the_names_of_events() -> None:
    both = {"shop/order": OrderStruct, "shop/paid.*": OrderData}
    names = ("shop/order", "shop/*")
    assert isinstance(data(both, {"id": 7}, *names), OrderStruct)
    assert isinstance(data(both, {"id": 7}, *names, name="shop/paid.late"), OrderData)
    assert data(both, {"any": 1}, *names, name="shop/other") == {"any": 1}
    assert data(both, {"any": 1}, *names, name=INVOKED) == {"any": 1}
    assert isinstance(data({**both, INVOKED: OrderData}, {"id": 7}, *names, name=INVOKED), OrderData)


def test_of_a_function_with_one_type_events_of_fanouts_own_are_plain() -> None:
    assert data(OrderDict, {"scheduled_at": 1}, name="fanout/scheduled.timer") == {"scheduled_at": 1}


class Kinds(msgspec.Struct):
    kind: Literal["a", "b"]
    deep: Any


class Wide(msgspec.Struct):
    at: datetime
    amounts: list[Decimal]
    day: date
    id: UUID
    kind: Literal["a", "b"]
    maybe: datetime | None = None


def test_what_a_type_reads_fits_its_schema() -> None:
    """As a type is read, it is also refused: more than one library has a say in it."""
    given = {"at": "2027-01-31T09:00:00", "amounts": ["1.50", 2], "day": "2027-01-31", "kind": "a",
             "id": "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f", "maybe": "2027-01-31T09:00:00Z"}  # fmt: skip
    got = data(Wide, given)
    assert (got.at, got.amounts) == (datetime(2027, 1, 31, 9), [Decimal("1.50"), Decimal(2)])  # noqa: DTZ001 - it has none
    assert got.maybe == datetime(2027, 1, 31, 9, tzinfo=UTC)
    schema = types(Wide)._types[0].schema
    assert schema.complaint(given, "data") is None
    for name, value, words in [
        ("at", "tomorrow", "`data.at`: it is no date-time"),
        ("amounts", [[]], "`data.amounts[0]`: expected `str | float`, got `array`"),
        ("day", "31.1.", "`data.day`: it is no date"),
        ("id", "7", None),
        ("id", "x", "`data.id`: it is no uuid"),
        ("kind", "c", '`data.kind`: it is not one of "a" or "b"'),
        ("maybe", "tomorrow", "`data.maybe`: it is no date-time"),
        ("maybe", 5.5, "`data.maybe`: expected `str | null`, got `float`"),
    ]:
        found = schema.complaint({**given, name: value}, "data")
        assert (None if found is None else str(found)) == words


def test_a_dataclass_with_a_model_is_read_by_pydantic() -> None:
    got = data(Mixed, {"order": {"id": 7}})
    assert got == Mixed(OrderModel(id=7))
    assert unfit(Mixed, {"order": {"id": 0}}).endswith("`data.order.id`: it is less than or equal to the minimum of 0")


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Owner(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


def test_no_value_is_told_where_only_the_type_has_looked() -> None:
    deep: Any = {}
    for _ in range(MAX_DEPTH):
        deep = [deep]
    kinds = unfit(Kinds, {"kind": "hunter2", "deep": deep})
    assert kinds.endswith("`data.kind`: Invalid enum value")
    assert unfit(Kinds, {"kind": "a"}).endswith("`data.deep` is missing")
    pets = unfit(Owner, {"pet": {"kind": "hunter2"}, "deep": deep})
    assert pets.endswith("`data.pet`: Unknown tag")
    assert unfit(Owner, {"pet": {"kind": "hunter2"}}).endswith("`data.pet.kind` has to be one of `cat`, `dog`")


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")


def test_a_model_is_read_by_its_aliases_and_by_the_names_that_it_was_recorded_with() -> None:
    assert data(Aliased, {"userId": 7}).user_id == 7
    assert data(Aliased, {"user_id": 7}, name=INVOKED).user_id == 7
    assert types(Aliased).described()[0].schema.count("userId") > 0


class Circle(msgspec.Struct, tag=1):
    radius: int


class Square(msgspec.Struct, tag=2):
    side: int


class Drawing(msgspec.Struct):
    shape: Circle | Square


def test_tags_may_be_numbers() -> None:
    assert data(Drawing, {"shape": {"type": 2, "side": 3}}) == Drawing(Square(3))
    assert unfit(Drawing, {"shape": {"type": 2, "side": "3"}}).endswith("`data.shape.side`: expected `int`, got `str`")
    assert unfit(Drawing, {"shape": {"type": 3}}).endswith("`data.shape.type` has to be one of `1`, `2`")


# What can't be used.

Name = NewType("Name", str)


@dataclass
class Callback:
    call: Callable[[], None]


class Broken(TypedDict):
    a: "Gone"  # type: ignore[name-defined] # noqa: F821, UP037 - that is what is wrong with it


class Huge(TypedDict):
    a: Literal[tuple(f"{number:0>2000}" for number in range(MAX_SCHEMA_BYTES // 2000 + 1))]  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("event_schema", "words"),
    [
        ("Order", "`event_schema` is 'Order', which is no type"),
        (7, "`event_schema` is 7, which is no type"),
        (Name, "which is no type"),
        (int, "`event_schema`: `int` is no object, as an event's data always is"),
        (list[OrderDict], "`list` is no object"),
        (OrderModel | None, None),
        (Callback, "`Callback` can't be described as JSON Schema: "),
        (Broken, "`Broken` can't be described as JSON Schema: "),
        (Huge, "bytes of JSON Schema, at most 262,144 can be"),
        ({"shop/ordre": OrderDict}, "`event_schema` has the event `shop/ordre`, which none of its triggers hears"),
        ({"shop/order": 7}, "`event_schema` of `shop/order` is 7, which is no type"),
    ],
)
def test_a_type_that_can_not_be_used_is_an_error_at_load(event_schema: Any, words: str | None) -> None:
    if words is None:
        assert types(event_schema).described()
        return
    with pytest.raises(LoadError) as raised:
        types(event_schema)
    assert words in raised.value.message
