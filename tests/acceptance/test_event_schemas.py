"""What functions say of their events' data, by the real command: refused before it is stored, typed where it is not."""

from __future__ import annotations

import json

import pytest

import fanout
from fanout.errors import EventError
from tests.acceptance.conftest import Project

CODE = """
from dataclasses import dataclass
from typing import TypedDict

import msgspec
import pydantic


class Line(TypedDict):
    price: float


class Order(TypedDict):
    lines: list[Line]
    password: str


@dataclass
class User:
    email: str
    age: int = 0


class Paid(msgspec.Struct):
    cents: int


class Refund(pydantic.BaseModel):
    cents: int


@fanout.function(trigger=fanout.on("shop/order"), event_schema=Order, retries=4, concurrency=1)
def place(ctx: Context[Order]) -> float:
    note(f"placed at {ctx.attempt}")
    return sum(each["price"] for each in ctx.event.data["lines"])


@fanout.function(trigger=fanout.on("shop/*"))
def log(ctx: Context) -> str:
    return type(ctx.event.data).__name__


@fanout.function(trigger=fanout.on("user/signed.up"), event_schema=User)
def greet(ctx: Context[User]) -> str:
    return f"{type(ctx.event.data).__name__} {ctx.event.data.email} {ctx.event.data.age}"


@fanout.function(trigger=fanout.on("bank/paid"), event_schema=Paid)
async def book(ctx: AsyncContext[Paid]) -> str:
    return f"{type(ctx.event.data).__name__} {ctx.event.data.cents}"


@fanout.function(
    trigger=[fanout.on("bank/refund", if_="event.data.v == 1"), fanout.on("bank/refunded")], event_schema=Refund
)
def give_back(ctx: Context[Refund]) -> str:
    return f"{type(ctx.event.data).__name__} {ctx.event.data.cents}"
"""
UNFIT = {"lines": [{"price": 1.5}, {"price": "hunter2"}], "password": "x"}
REFUSAL = "event `shop/order` does not fit function `place`: `data.lines[1].price`: expected `float`, got `str`"


@pytest.fixture
def shop(project: Project) -> Project:
    project.write(CODE)
    return project


def test_an_event_that_does_not_fit_is_refused_when_it_is_sent(shop: Project) -> None:
    sent = shop.send("shop/order", UNFIT)
    assert (sent.code, sent.out) == (2, "")
    assert sent.err == (
        f"error: `--data`: {REFUSAL}\nhint: `fanout events schema shop/order` shows what its data has to be\n"
    )
    lines = [{"name": "user/signed.up", "data": {"email": "a@b"}}, {"name": "shop/order", "data": {}}]
    sent = shop.fanout("send", "-", stdin="\n".join(map(json.dumps, lines)))
    assert sent.code == 2
    assert (
        "error: `stdin` event 2: event `shop/order` does not fit function `place`: `data.lines` is missing" in sent.err
    )
    with fanout.connect(shop.root / "fanout.toml") as client, pytest.raises(EventError) as raised:
        client.send({"name": "shop/other"}, {"name": "shop/order", "data": UNFIT})
    assert raised.value.message == f"event 2: {REFUSAL}"
    assert shop.query("SELECT count(*) FROM event WHERE key > 0") == [(0,)]


def test_each_kind_of_type_gives_typed_data(shop: Project) -> None:
    events = [
        {"name": "shop/order", "data": {"lines": [{"price": 1.5}, {"price": 2}], "password": "x"}},
        {"name": "user/signed.up", "data": {"email": "a@b", "more": 1}},
        {"name": "bank/paid", "data": {"cents": 5}},
        {"name": "bank/refund", "data": {"cents": 7, "v": 1}},
        {"name": "bank/refund", "data": {"euros": 7, "v": 2}},
    ]
    sent = shop.fanout("send", "-", "--json", stdin=json.dumps(events))
    assert sent.code == 0, sent.err
    outputs = {function: json.loads(output) for function, output in shop.query("SELECT function, output FROM run")}
    assert outputs == {
        "place": 3.5, "log": "dict", "greet": "User a@b 0", "book": "Paid 5", "give-back": "Refund 7",
    }  # fmt: skip


def test_what_nobody_could_refuse_fails_at_once_and_runs_no_code(shop: Project) -> None:
    with fanout.connect(shop.root / "fanout.toml") as client:  # no engine has ever seen the functions
        client.send({"name": "shop/order", "data": UNFIT})
    # One at a time is placed, so this one after the one that was sent before.
    sent = shop.send("shop/order", {"lines": [], "password": "x"})
    assert sent.code == 0, sent.err
    listed = shop.fanout("runs", "--failed", "--json")
    [failed] = listed.json()["runs"]
    assert (failed["function"], failed["state"], failed["attempts"]) == ("place", "failed", 1)
    assert (failed["error"]["type"], failed["error"]["message"]) == ("EventError", REFUSAL)
    assert shop.notes() == ["placed at 0"]
    invoked = shop.fanout("invoke", "place", "--data", "{}")
    assert invoked.code == 1
    assert (
        "what it was invoked with does not fit function `place`: `data.lines` is missing" in invoked.err + invoked.out
    )


def test_what_functions_need_is_shown(shop: Project) -> None:
    shown = shop.fanout("events", "schema", "shop/order")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["$defs"]["Order"]["required"] == ["lines", "password"]
    assert shown.err.splitlines() == [
        "`place` needs it so: work.py line 43", "`log` listens, too, and takes any data",
    ]  # fmt: skip
    missing = shop.fanout("events", "schema", "shop/ordre", "--json")
    assert (missing.code, missing.out) == (3, "")
    assert "no function says what the data of `shop/ordre` has to be" in missing.err
    assert "event data    Order (lines, password)" in shop.fanout("functions", "show", "place").out


def test_a_type_that_can_not_be_used_is_found_by_check(shop: Project) -> None:
    shop.write(CODE.replace("event_schema=User", "event_schema=int"))
    checked = shop.fanout("check")
    assert checked.code == 1
    assert "error: app `test`: `work.py` line 54: `greet`: `event_schema`: `int` is no object" in checked.out
    assert "hint: give a TypedDict, a dataclass, a msgspec Struct or a pydantic model" in checked.out
