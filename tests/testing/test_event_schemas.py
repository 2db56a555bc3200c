"""Functions that say what the data of their events is, alone and together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

import fanout
from fanout import AsyncContext, Batch, Context
from fanout.errors import EventError
from fanout.model import Failure
from fanout.testing import Project, Running, run


class OrderDict(TypedDict):
    total: int


@dataclass
class OrderData:
    total: int


class OrderStruct(msgspec.Struct):
    total: int


class OrderModel(pydantic.BaseModel):
    total: int


KINDS: list[Any] = [OrderDict, OrderData, OrderStruct, OrderModel]


def place(kind: Any, **settings: Any) -> Any:
    @fanout.function(trigger=fanout.on("shop/order"), id="place", event_schema=kind, **settings)
    def place(ctx: Context[Any]) -> str:
        return type(ctx.event.data).__name__

    return place


def place_async(kind: Any) -> Any:
    @fanout.function(trigger=fanout.on("shop/order"), id="place", event_schema=kind)
    async def place(ctx: AsyncContext[Any]) -> str:
        return type(ctx.event.data).__name__

    return place


@pytest.mark.parametrize("made", [place, place_async])
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_alone_gets_its_type_and_refuses_what_does_not_fit(kind: Any, made: Any) -> None:
    function = made(kind)
    assert run(function, data={"total": 5}).output == ("dict" if kind is OrderDict else kind.__name__)
    with pytest.raises(EventError) as raised:
        run(function, data={"total": "hunter2"})
    assert raised.value.message == (
        "event `shop/order` does not fit function `place`: `data.total`: expected `int`, got `str`"
    )


def test_what_it_was_invoked_with_fails_it_at_once() -> None:
    def refuse(ctx: Context[Any]) -> None:
        failed.append(ctx.event.data["error"]["message"])

    failed: list[str] = []
    project = Project([place(OrderStruct, retries=4, on_failure=refuse)])

    result = project.invoke("place", data={"total": None})

    words = "what it was invoked with does not fit function `place`: `data.total`: expected `int`, got `null`"
    assert (result.state, result.attempts, failed) == ("failed", 1, [words])
    assert result.error == Failure("EventError", words)
    assert project.invoke("place", data={"total": 5}).output == "OrderStruct"


def test_of_several_that_listen_only_some_say_what_they_need() -> None:
    @fanout.function(trigger=fanout.on("shop/*"))
    def log(ctx: Context[Any]) -> Any:
        return ctx.event.data

    project = Project([place(OrderModel), log])
    assert {each.function: each.output for each in project.send("shop/order", data={"total": 5})} == {
        "place": "OrderModel", "log": {"total": 5},
    }  # fmt: skip
    before = len(project.events)
    with pytest.raises(EventError, match=r"^event 2: event `shop/order` .* `data.total` is missing$"):
        project.send({"name": "shop/other"}, {"name": "shop/order"})
    assert len(project.events) == before, "all or none"
    assert [each.function for each in project.send("shop/other", data={"any": 1})] == ["log"]


def test_versions_are_told_apart_by_conditions() -> None:
    class New(msgspec.Struct):
        cents: int

    @fanout.function(trigger=fanout.on("shop/order", if_="event.data.v == 1"), event_schema=OrderStruct)
    def old(ctx: Context[OrderStruct]) -> int:
        return ctx.event.data.total

    @fanout.function(trigger=fanout.on("shop/order", if_="event.data.v == 2"), event_schema=New)
    def new(ctx: Context[New]) -> int:
        return ctx.event.data.cents

    project = Project([old, new])
    outputs = [
        {each.function: each.output for each in project.send("shop/order", data=data)}
        for data in ({"v": 1, "total": 5}, {"v": 2, "cents": 500}, {"v": 3})
    ]
    assert outputs == [{"old": 5}, {"new": 500}, {}]
    with pytest.raises(EventError, match=r"function `new`: `data\.cents` is missing"):
        project.send("shop/order", data={"v": 2, "total": 5})


def test_all_events_of_a_batch_have_the_type() -> None:
    @fanout.function(trigger=fanout.on("shop/order"), batch=Batch(3, "5s"), event_schema=OrderData)
    def count(ctx: Context[OrderData]) -> int:
        return sum(each.data.total for each in ctx.events)

    orders = [{"name": "shop/order", "data": {"total": total}} for total in (1, 2, 3)]
    assert run(count, orders).output == 6


def test_types_by_the_names_of_events() -> None:
    @fanout.function(
        trigger=[fanout.on("shop/order"), fanout.on("shop/refund"), fanout.on("shop/other")],
        event_schema={"shop/order": OrderStruct, "shop/refund": OrderData},
    )
    def book(ctx: Context[Any]) -> str:
        return type(ctx.event.data).__name__

    outputs = [
        run(book, {"name": f"shop/{name}", "data": {"total": 5}}).output for name in ("order", "refund", "other")
    ]
    assert outputs == ["OrderStruct", "OrderData", "dict"]


def test_a_step_can_not_send_what_does_not_fit() -> None:
    sent = {"name": "shop/order", "data": {"total": "5"}}

    @fanout.function(trigger=fanout.on("shop/cart"), retries=4)
    def check_out(ctx: Context[Any]) -> None:
        ctx.step.send_event("order", [{"name": "shop/fine"}, sent])

    @fanout.function(trigger=fanout.on("shop/cart"), retries=4)
    async def check_out_async(ctx: AsyncContext[Any]) -> str:
        try:
            await ctx.step.send_event("order", sent)
        except EventError as error:
            return error.message
        return ""

    project = Project([check_out, check_out_async, place(OrderStruct)])
    project.send("shop/cart")
    words = "event `shop/order` does not fit function `place`: `data.total`: expected `int`, got `str`"
    failed = project.run("check-out")
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert failed.error is not None
    assert failed.error.message == f"`step order` event 2: {words}"
    assert project.run("check-out-async").output == f"`step order`: {words}"
    assert [each.name for each in project.events if each.name.startswith("shop/")] == ["shop/cart"]


def test_a_run_whose_event_does_not_fit_any_more_fails_when_it_is_entered_again() -> None:
    class Changing(pydantic.BaseModel):
        total: int

        @pydantic.field_validator("total")
        @classmethod
        def little(cls, total: int) -> int:
            if total > most:
                raise ValueError("it is too much")
            return total

    @fanout.function(trigger=fanout.on("shop/order"), event_schema=Changing, retries=4)
    def wait(ctx: Context[Changing]) -> int:
        ctx.step.run("begin", lambda: None)
        ctx.step.sleep("rest", "3d")
        return ctx.event.data.total

    most = 5
    with Running(wait, data={"total": 5}) as running:
        most = 4
        running.advance("3 days")
        assert running.result.error == Failure(
            "EventError", "event `shop/order` does not fit function `wait`: `data.total`: Value error, it is too much"
        )
        assert (running.result.attempts, [*running.result.steps]) == (1, ["begin", "rest"])
