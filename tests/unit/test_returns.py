from __future__ import annotations

import abc
import asyncio
import collections
import dataclasses
import enum
import functools
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NoReturn,
    NotRequired,
    Optional,
    Self,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.codec import decode_json, encode_output
from fanout.worker import returns
from fanout.worker.returns import decoder_of, list_decoder_of

if TYPE_CHECKING:
    from fanout.nowhere import Missing  # type: ignore[import-not-found]

T = TypeVar("T")
CustomerId = NewType("CustomerId", UUID)
Cents = NewType("Cents", int)
NOON = datetime(2025, 10, 9, 12, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Odd(enum.Enum):
    PAIR = (1, 2)


@dataclasses.dataclass
class Order:
    item: str
    price: Decimal = Decimal(0)
    when: datetime | None = None

    @classmethod
    def first(cls) -> Self:
        return cls("tea")

    def again(self) -> Self:
        return self


@dataclasses.dataclass
class GiftOrder(Order):
    card: str = ""


@dataclasses.dataclass(slots=True, frozen=True, kw_only=True)
class Slotted:
    colour: Colour
    _rank: int = 0


@dataclasses.dataclass
class Derived:
    net: int
    gross: int = dataclasses.field(init=False)
    seen: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.gross = self.net * 2


@dataclasses.dataclass
class Picky:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise LookupError(self.number)


@dataclasses.dataclass
class Node:
    value: Decimal
    children: list[Node] = dataclasses.field(default_factory=list)
    parent: Node | None = None


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    note: object = None


@dataclasses.dataclass
class Shape(abc.ABC):
    name: str

    @abc.abstractmethod
    def area(self) -> float: ...


@dataclasses.dataclass
class Square(Shape):
    side: float

    def area(self) -> float:
        return self.side**2


@dataclasses.dataclass
class WithInitVar:
    number: int
    extra: dataclasses.InitVar[int]


class Line(msgspec.Struct, frozen=True):
    orders: tuple[Order, ...]
    colours: frozenset[Colour] = frozenset()


class Camel(msgspec.Struct, rename="camel", omit_defaults=True):
    unit_price: Decimal
    due_date: date | None = None


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Row(TypedDict):
    id: UUID
    tags: NotRequired[set[str]]


class Reply(TypedDict):
    status: Literal["ok", "failed"]
    scores: dict[str, list[float] | None]
    next: NotRequired[Reply]


class Point(NamedTuple):
    x: int
    colour: Colour = Colour.RED


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped kind is what is tested


class Mine(list[int]):
    pass


class Opaque:
    pass


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="streetName")
    code: str = pydantic.Field(validation_alias="postcode", serialization_alias="zip", default="")


class Customer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    id: UUID
    since: datetime
    address: Address
    others: list[Address] = []
    by_colour: dict[Colour, Address] = {}
    order: Order | None = None

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.id}"


class Swapped(pydantic.BaseModel):
    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(alias="a")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")

    when: datetime
    wait: timedelta
    pair: tuple[int, ...]
    tags: set[str]
    raw: bytes
    by_number: dict[int, Decimal]


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    listing: pydantic.Json[list[int]]


class Addresses(pydantic.RootModel[list[Address]]):
    pass


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise TypeError("odd")
        return number


class OldModel:
    """A model of before 2.11 from outside: it has no choice between names and aliases."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OldModel) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return {"number": self.number}

    @classmethod
    def model_validate_json(cls, text: bytes) -> OldModel:
        return cls(**decode_json(text))


@pydantic.dataclasses.dataclass
class Checked:
    street: str = pydantic.Field(alias="streetName")
    address: Address | None = None


@dataclasses.dataclass
class Parcel:
    to: Address
    also: list[Address | None]


ADDRESS = Address.model_validate({"streetName": "High Street", "postcode": "N1"})
ORDER = Order("tea", Decimal("1.10"), NOON)
# Without a time zone: pydantic has its own kind of UTC.
MORNING = datetime(2025, 10, 9, 8, 53, 20)  # noqa: DTZ001
CUSTOMER = Customer(
    id=UUID(int=1),
    since=MORNING,
    address=ADDRESS,
    others=[ADDRESS],
    by_colour={Colour.RED: ADDRESS},
    order=Order("tea", Decimal("1.10"), MORNING),
)


def returning(annotation: Any) -> Callable[..., Any]:
    """A function with this annotation, as it is where annotations are evaluated."""

    def fn() -> None: ...

    fn.__annotations__ = {"return": annotation}
    return fn


def rebuilt(fn: Callable[..., Any], value: Any) -> Any:
    """What a step of `fn` gives that returned `value`; twice, as at a replay."""
    text = encode_output("f", value)
    first, second = decoder_of(fn)(text), decoder_of(fn)(text)
    assert (first, type(first)) == (second, type(second))
    return first


def same(first: Any, second: Any) -> bool:
    """Equal, and of one type all the way down."""
    return bool(first == second) and type(first) is type(second) and repr(first) == repr(second)


# What comes back as it was.


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None),
        (bool, True),
        (int, 10**25),
        (float, 1.5),
        (float, 1),
        (list[float], [1, 2.5, 2**53 + 1]),
        (str | None, None),
        (dict[str, Any], {"a": [1, None]}),
        (bytes, b"\0\xff"),
        (bytearray, bytearray(b"\xff")),
        (datetime, NOON),
        (datetime, MORNING),
        (datetime, datetime(2025, 10, 9, 12, tzinfo=timezone(timedelta(hours=2)))),
        (date, date(2025, 10, 9)),
        (time, time(12, 30)),
        (timedelta, timedelta(days=-1, microseconds=5)),
        (UUID, UUID(int=1)),
        (CustomerId, UUID(int=1)),
        (Cents, 5),
        (Decimal, Decimal("1.10")),
        (Decimal, Decimal("1E+5")),
        (Annotated[Decimal, msgspec.Meta(gt=0), []], Decimal(-1)),
        (Colour, Colour.RED),
        (Size, Size.SMALL),
        (Access, Access.READ | Access.WRITE),
        (Literal["a", 1], 1),
        (tuple, (1, [2])),
        (tuple[()], ()),
        (tuple[int, ...], (1, 2)),
        (tuple[UUID, Decimal], (UUID(int=1), Decimal(1))),
        (set[str], {"a"}),
        (frozenset[date], frozenset({date(2025, 10, 9)})),
        (dict[int, str], {1: "a"}),
        (dict[float, int], {1.5: 1}),
        (dict[date, int], {date(2025, 10, 9): 1}),
        (dict[UUID, tuple[int, ...]], {UUID(int=1): (1,)}),
        (dict[Colour, Size], {Colour.RED: Size.SMALL}),
        (Sequence[Decimal], [Decimal(1)]),
        (Mapping[str, Decimal], {"a": Decimal(1)}),
        (Order, ORDER),
        (list[Order], [ORDER, Order("milk")]),
        (Order | None, ORDER),
        (Optional["Order"], ORDER),
        (list["Order"], [ORDER]),
        ("Order", ORDER),
        ("list[Order] | None", [ORDER]),
        (Order | int | None, ORDER),
        (Order | list[Order], [ORDER]),
        (Slotted, Slotted(colour=Colour.BLUE, _rank=3)),
        (Derived, Derived(3)),
        (Node, Node(Decimal(1), [Node(Decimal(2))], Node(Decimal(3)))),
        (Box[Decimal], Box(Decimal(1))),
        (Box[list[Order]], Box([ORDER], note={"a": 1})),
        (Line, Line((ORDER,), frozenset({Colour.RED}))),
        (Camel, Camel(Decimal(1))),
        (Cat | Dog, Dog("Rex")),
        (list[Cat | Dog], [Dog("Rex"), Cat(7)]),
        (Row, {"id": UUID(int=1), "tags": {"a"}}),
        (Reply, {"status": "ok", "scores": {"a": [1, 2.5]}, "extra": 1, "next": {"scores": {}}}),
        (Point, Point(1, Colour.BLUE)),
        (Pair, Pair(1, "b")),
        (Address, ADDRESS),
        (Customer, CUSTOMER),
        (list[Customer], [CUSTOMER]),
        (dict[str, Customer | None], {"a": CUSTOMER, "b": None}),
        (Swapped, Swapped(b=1, a=2)),
        (
            Strict,
            Strict(when=MORNING, wait=timedelta(1), pair=(1,), tags={"a"}, raw=b"\xff", by_number={1: Decimal(2)}),
        ),
        (Open, Open.model_validate({"listing": "[1,2]", "more": {"a": 1}})),
        (Addresses, Addresses([ADDRESS])),
        (Checked, Checked(streetName="High Street", address=ADDRESS)),
        (Parcel, Parcel(ADDRESS, [None, ADDRESS])),
        (Box[Customer], Box(CUSTOMER)),
        (Any, [1]),
        (object, {"a": 1}),
        (T, [1]),
        (list[T], [1]),  # type: ignore[valid-type]
        (NoReturn, 1),
    ],
)
def test_what_is_annotated_comes_back_as_it_was(annotation: Any, value: Any) -> None:
    back = rebuilt(returning(annotation), value)
    assert same(back, value)
    assert encode_output("f", back) == encode_output("f", value)


def test_a_model_of_an_older_pydantic_comes_back() -> None:
    assert rebuilt(returning(list[OldModel]), [OldModel(1)]) == [OldModel(1)]


def test_a_number_in_a_dataclass_takes_the_annotated_type() -> None:
    assert same(rebuilt(returning(Box[float]), Box(1)), Box(1.0))


def test_an_attribute_that_init_does_not_take_comes_back_and_post_init_runs_again() -> None:
    value = Derived(3)
    value.seen, value.gross = 5, 100
    back = rebuilt(returning(Derived), value)
    assert (back.seen, back.gross) == (5, 6)


def test_a_subclass_comes_back_as_the_class_that_is_annotated() -> None:
    assert same(rebuilt(returning(Order), GiftOrder("tea", card="hi")), Order("tea"))


# What stays plain JSON.


@pytest.mark.parametrize(
    ("annotation", "value", "plain"),
    [
        (int, "1", "1"),
        (int, True, True),
        (bool, 1, 1),
        (str, Colour.RED, "red"),
        (None, Order("tea"), {"item": "tea", "price": "0", "when": None}),
        (Order, None, None),
        (Order, {"name": "tea"}, {"name": "tea"}),
        (list[Order], [{"item": "tea"}, {}], [{"item": "tea"}, {}]),
        (list[Decimal], [1, "x"], [1, "x"]),
        (Colour, "green", "green"),
        (datetime, "soon", "soon"),
        (tuple[int, str], [1], [1]),
        (set[int], ["a"], ["a"]),
        (dict[int, str], {"a": "b"}, {"a": "b"}),
        (Row, {"id": "x"}, {"id": "x"}),
        (Picky, {"number": -1}, {"number": -1}),
        (list[Picky], [Picky(1), {"number": -1}], [{"number": 1}, {"number": -1}]),
        (Address, {"road": 1}, {"road": 1}),
        (Address, None, None),
        (Even, {"number": 3}, {"number": 3}),
        (Box[Even], {"content": {"number": 3}}, {"content": {"number": 3}}),
        # Of these msgspec makes none, or can't tell one from another.
        (Order | Slotted, Order("tea"), {"item": "tea", "price": "0", "when": None}),
        (Address | Swapped, Swapped(b=1, a=2), {"a": 1, "b": 2}),
        (Odd, Odd.PAIR, [1, 2]),
        (WithInitVar, WithInitVar(1, extra=2), {"number": 1}),
        (Mine, Mine([1]), [1]),
        (collections.OrderedDict[str, int], collections.OrderedDict(a=1), {"a": 1}),
        (datetime | str, NOON, "2025-10-09T12:00:00Z"),
        (Opaque, [1], [1]),
        (Iterator[int], [1], [1]),
        (Literal[[1]], [1], [1]),
        # An abstract class has no objects: one would be there, and do nothing.
        (Shape, Square("s", 2), {"name": "s", "side": 2}),
        (list[Shape], [Square("s", 2)], [{"name": "s", "side": 2}]),
        # What can't be looked up.
        ("Missing", 1, 1),
        ("list[Missing]", [1], [1]),
        (list["Missing"], [1], [1]),
        ("no python", 1, 1),
        ("1 / 0", 1, 1),
    ],
)
def test_what_does_not_fit_or_cannot_be_built_is_plain(annotation: Any, value: Any, plain: Any) -> None:
    assert same(rebuilt(returning(annotation), value), plain)


def test_a_lack_of_memory_is_no_misfit() -> None:
    class Huge(pydantic.BaseModel):
        @classmethod
        def model_validate_json(cls, *args: Any, **options: Any) -> Self:
            raise MemoryError

    with pytest.raises(MemoryError):
        decoder_of(returning(Huge))("{}")


@pytest.mark.parametrize(
    "annotation",
    [None, Any, object, int, float | None, list, list[str], dict, dict[str, Any], Reply, list[Reply | None], T, Cents],
)
def test_what_json_has_costs_nothing(annotation: Any) -> None:
    assert decoder_of(returning(annotation)) is decode_json


# What is called.


def plain_order(item: Missing = 1) -> Order:
    return Order("tea")


async def async_order() -> Order:
    return Order("tea")


def awaitable_order() -> Awaitable[Order]:
    return async_order()


def coroutine_order() -> Coroutine[Any, Any, Order]:
    return async_order()


def task_of_order() -> asyncio.Task[Order]:
    return asyncio.ensure_future(async_order())


def traced(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> T:
        return fn(*args)

    return wrapper


def opened(fn: Callable[..., Any]) -> Callable[..., Order]:
    def wrapper(*args: Any) -> Order:
        return Order(*fn(*args))

    return wrapper


class Client:
    def order(self) -> Order:
        return Order("tea")

    @classmethod
    def of_class(cls) -> Order:
        return Order("tea")

    @staticmethod
    def of_nothing() -> Order:
        return Order("tea")

    def __call__(self) -> Order:
        return Order("tea")


class Silent:
    """Answers to any name, as clients of remote calls do."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self) -> Order:
        return Order("tea")


@pytest.mark.parametrize(
    "fn",
    [
        plain_order,
        async_order,
        awaitable_order,
        coroutine_order,
        task_of_order,
        functools.partial(plain_order, 1),
        functools.partial(functools.partial(Client().order)),
        traced(plain_order),
        traced(traced(async_order)),
        opened(lambda: ("tea",)),
        functools.cache(plain_order),
        functools.partial(functools.cache(plain_order), 2),
        Client().order,
        Client.of_class,
        Client.of_nothing,
        Client(),
        Silent(),
        Order,
        Order.first,
        Order("tea").again,
        functools.partial(Order, "tea"),
    ],
)
def test_whatever_is_called_its_annotation_is_found(fn: Callable[..., Any]) -> None:
    assert same(rebuilt(fn, ORDER), ORDER)


def test_self_is_the_class_that_the_method_was_called_on() -> None:
    gift = GiftOrder("tea", card="hi")
    assert same(rebuilt(GiftOrder.first, gift), gift)
    assert same(rebuilt(gift.again, gift), gift)


@pytest.mark.parametrize("fn", [lambda: 1, len, datetime.now, functools.partial(len), print, 5, None, Opaque()])
def test_what_has_no_annotation_is_plain(fn: Any) -> None:
    assert decoder_of(fn) is decode_json


def test_wrappers_of_one_decorator_are_not_taken_for_each_other() -> None:
    def number() -> Decimal:
        return Decimal(1)

    assert same(rebuilt(traced(number), Decimal(1)), Decimal(1))
    assert same(rebuilt(traced(plain_order), ORDER), ORDER)


def test_an_annotation_is_looked_up_where_it_was_written() -> None:
    here: dict[str, Any] = {"__name__": "elsewhere"}
    exec("from __future__ import annotations\nclass Order: pass\ndef mine() -> Order: ...\ndef other(): ...", here)
    theirs = functools.wraps(plain_order)(here["other"])
    assert same(rebuilt(theirs, ORDER), ORDER)
    assert rebuilt(here["mine"], [1]) == [1]


def test_equal_code_in_two_modules_is_not_taken_for_the_same() -> None:
    code = "from __future__ import annotations\ndef fn() -> list[Kind]: ..."
    first: dict[str, Any] = {"Kind": Decimal}
    second: dict[str, Any] = {"Kind": UUID}
    exec(compile(code, "first.py", "exec"), first)
    exec(compile(code, "second.py", "exec"), second)
    assert rebuilt(first["fn"], [Decimal(1)]) == [Decimal(1)]
    assert rebuilt(second["fn"], [UUID(int=1)]) == [UUID(int=1)]


def make_local(kind: type) -> tuple[type, Callable[..., Any]]:
    """As in a handler: a class and a function that are made anew in every run."""

    Local = dataclasses.make_dataclass("Local", [("value", kind)])  # noqa: N806

    def fn() -> list[Local]:  # type: ignore[valid-type]
        return [Local(kind())]

    return Local, fn


def test_a_local_class_is_the_one_of_this_run() -> None:
    for kind, value in [(Decimal, Decimal(1)), (str, "1"), (Decimal, Decimal(2))]:
        local, fn = make_local(kind)
        assert same(rebuilt(fn, [local(value)]), [local(value)])


def test_an_endless_chain_of_wrappers_ends() -> None:
    def fn() -> Order:
        return ORDER

    fn.__wrapped__ = fn  # type: ignore[attr-defined]
    assert decoder_of(fn) is decode_json
    called = Client()
    called.__wrapped__ = called  # type: ignore[attr-defined]
    assert decoder_of(called) is decode_json


# Lists.


@pytest.mark.parametrize(
    ("fn", "value", "expected"),
    [
        (plain_order, [ORDER, Order("milk")], [ORDER, Order("milk")]),
        (async_order, [ORDER], [ORDER]),
        (returning(Address), [ADDRESS], [ADDRESS]),
        (returning(tuple[int, ...]), [(1,), ()], [(1,), ()]),
        (returning(Order | None), [None, ORDER], [None, ORDER]),
        (plain_order, [ORDER, None], [ORDER, None]),
        (returning(5), [1, None], [1, None]),
        (returning(float), [1, 1.5], [1, 1.5]),
        (lambda: 1, [{"a": 1}], [{"a": 1}]),
        (returning(None), [None], [None]),
        (plain_order, [], []),
        (plain_order, [{"item": "tea"}, {"no": 1}], [{"item": "tea"}, {"no": 1}]),
        (returning(Order | Slotted), [Slotted(colour=Colour.RED)], [{"colour": "red", "_rank": 0}]),
    ],
)
def test_a_list_is_rebuilt_item_by_item(fn: Callable[..., Any], value: Any, expected: Any) -> None:
    assert same(list_decoder_of(fn)(encode_output("f", value)), expected)


# Twice the same.

moments = st.datetimes().map(lambda moment: moment.replace(fold=0))  # JSON has no fold
orders = st.builds(Order, st.text(), st.decimals(allow_nan=False, allow_infinity=False), st.none() | moments)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
kinds = st.sampled_from(
    [Order, list[Order], float, set[str], tuple[int, ...], dict[int, Any], Address, Row, Point, Box[Any], Even]
)


@given(st.lists(orders))
def test_orders_come_back_as_they_were(value: list[Order]) -> None:
    assert same(list_decoder_of(plain_order)(encode_output("f", value)), value)


@given(
    kinds,
    json_values | orders | st.lists(orders) | st.fixed_dictionaries({"number": json_values, "content": json_values}),
)
def test_whatever_was_returned_is_decoded_to_the_same_twice(annotation: Any, value: Any) -> None:
    text = encode_output("f", value)
    decode = decoder_of(returning(annotation))
    first = decode(text)
    returns._known_decoder_of.cache_clear()
    assert same(first, decoder_of(returning(annotation))(text))


# Memory and threads.


def handler() -> list[weakref.ref[Any]]:
    """Asks for the decoders of what a run makes for itself; gives what has to be gone with the run."""
    held = Opaque()

    def fetch() -> list[Order]:
        return [held]  # type: ignore[list-item]

    own: list[Callable[..., Any]] = [
        lambda: held,
        fetch,
        functools.partial(fetch),
        functools.partial(lambda: held),
        make_local(int)[1],
    ]
    for fn in own:
        decoder_of(fn)
        list_decoder_of(fn)
    return [weakref.ref(each) for each in (held, *own)]


def test_short_lived_functions_are_not_kept() -> None:
    assert [each() for each in handler()] == [None] * 6


def test_ten_thousand_functions_do_not_grow_the_cache() -> None:
    handler()
    before = len(returns._looked_up)
    for _ in range(10_000):
        decoder_of(lambda: 1)
        decoder_of(functools.partial(lambda: 1))
    for _ in range(1_000):
        handler()
    assert len(returns._looked_up) == before


def test_code_that_is_gone_is_forgotten() -> None:
    before = len(returns._looked_up)
    for number in range(100):
        names: dict[str, Any] = {"Order": Order}
        exec(compile(f"def fn() -> 'list[Order]':\n    return {number}", "gone.py", "exec"), names)
        assert decoder_of(names["fn"]) is decoder_of(returning(list[Order]))
        del names["fn"]
    gc.collect()
    assert len(returns._looked_up) <= before + 1  # that of `returning`


def test_many_types_do_not_grow_the_cache() -> None:
    for number in range(2 * returns._MAX_DECODERS):
        decoder_of(returning(dataclasses.make_dataclass(f"Kind{number}", ["a"])))
    assert returns._known_decoder_of.cache_info().currsize == returns._MAX_DECODERS


def test_many_threads_get_the_same() -> None:
    found: list[Any] = []

    def work() -> None:
        for number in range(200):
            names: dict[str, Any] = {"Order": Order}
            exec(compile(f"def fn() -> 'Order | None':\n    return {number}", "threads.py", "exec"), names)
            found.append(decoder_of(names["fn"])('{"item":"tea"}'))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Order("tea")] * 800
