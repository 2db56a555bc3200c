"""A context that is annotated with other data than `event_schema` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import pydantic
import pytest

from fanout import AsyncContext, Context
from fanout.errors import LoadError
from fanout.worker.context_data import check

if TYPE_CHECKING:
    from decimal import Context as Missing


class Order(TypedDict):
    id: int
    lines: list[str]


class Numbered(TypedDict):
    id: int


@dataclass
class Refund:
    cents: int


class PartialRefund(Refund):
    pass


class Parcel(msgspec.Struct):
    grams: int


class Letter(pydantic.BaseModel):
    to: str


def of_order(ctx: Context[Order]) -> None: ...
def of_number(ctx: Context[Numbered]) -> None: ...
def of_refund(ctx: Context[Refund]) -> None: ...
async def of_partial(ctx: AsyncContext[PartialRefund]) -> None: ...
async def of_parcel(ctx: AsyncContext[Parcel]) -> None: ...
def of_both(ctx: Context[Parcel | Letter]) -> None: ...
def of_mapping(ctx: Context[Mapping[str, Any]]) -> None: ...
def of_anything(ctx: Context[Any]) -> None: ...
def of_nothing(ctx: Context) -> None: ...
def of_what_only_checkers_know(ctx: Context[Missing]) -> None: ...
def beside(ctx: Any, more: Context[Parcel] | None = None) -> None: ...


@wraps(of_order)
def wrapped(*args: Any) -> Any:
    return of_order(*args)


@pytest.mark.parametrize(
    ("function", "declared"),
    [
        (of_order, Order), (wrapped, Order), (of_number, Order), (of_refund, Refund), (of_refund, PartialRefund),
        (of_parcel, Parcel), (of_both, Letter), (of_both, Parcel | Letter), (of_both, {"a": Parcel, "b": Letter}),
        (of_mapping, Order), (of_mapping, Refund), (of_anything, Refund), (of_nothing, Parcel),
        (of_what_only_checkers_know, Refund), (beside, Refund), (len, Refund), (of_order, dict[str, int]),
    ],
)  # fmt: skip
def test_what_may_be_right_is_taken(function: Callable[..., Any], declared: Any) -> None:
    check(function, declared)


@pytest.mark.parametrize(
    ("function", "declared", "kind", "said"),
    [
        (of_order, Numbered, "Numbered", "Order"),
        (of_order, Refund, "Refund", "Order"),
        (wrapped, Refund, "Refund", "Order"),
        (of_refund, Order, "Order", "Refund"),
        (of_partial, Refund, "Refund", "PartialRefund"),
        (of_parcel, Letter, "Letter", "Parcel"),
        (of_parcel, Parcel | Letter, "Letter", "Parcel"),
        (of_both, {"a": Parcel, "b": Refund}, "Refund", "Parcel | Letter"),
    ],
)
def test_what_is_wrong_is_told(function: Callable[..., Any], declared: Any, kind: str, said: str) -> None:
    with pytest.raises(LoadError) as refused:
        check(function, declared)
    assert str(refused.value) == f"`event_schema` has `{kind}`, and the context is annotated to have `{said}`"
    context = "AsyncContext" if function in (of_partial, of_parcel) else "Context"
    assert refused.value.hint == f"annotate it as `{context}[{kind}]`, or change `event_schema`"
