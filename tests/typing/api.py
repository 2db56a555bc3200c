"""The public API in use: every name and every parameter, with the types that people get.

mypy and pyright, both strict, have nothing to say about it; `assert_type` is for them. What they have to refuse is in
`wrong.py`.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import fanout
from fanout import (
    AsyncContext,
    Backoff,
    Batch,
    CancelOn,
    Client,
    Concurrency,
    Context,
    Debounce,
    Event,
    FanoutError,
    InvokeError,
    NonRetriableError,
    Priority,
    RateLimit,
    RetryAfterError,
    Singleton,
    StepError,
    Throttle,
    Timeouts,
    connect,
    cron,
    function,
    on,
)


class Order(TypedDict):
    id: int
    lines: list[str]


@dataclass(frozen=True)
class Refund:
    order: int
    cents: int


def total(order: Order, *, discount: float = 0.0) -> float:
    return len(order["lines"]) * (1 - discount)


async def fetch(url: str, retries: int = 1) -> bytes:
    return url.encode() * retries


# Declaring: the function keeps its own type.


@function()
def plain(ctx: Context) -> int:
    return ctx.attempt


@function(trigger=on("app/order.paid", if_="event.data.id > 7"))
def ship(ctx: Context[Order]) -> str:
    assert_type(ctx.event, Event[Order])
    assert_type(ctx.event.data, Order)
    assert_type(ctx.events, list[Event[Order]])
    assert_type(ctx.event.data["id"], int)
    return ctx.event.data["lines"][0]


@function([on("app/refund"), cron("0 9 * * mon-fri", tz="Europe/Berlin", jitter="5m")])
async def refund(ctx: AsyncContext[Refund]) -> Refund:
    assert_type(ctx.event.data, Refund)
    assert_type(ctx.event.data.cents, int)
    return ctx.event.data


def tell(ctx: Context) -> None:
    ctx.logger.warning("failed: %s", ctx.event.data["error"])


@function(on_failure=tell, backoff=(1, 2.5, timedelta(minutes=1)))
async def tasks(ctx: AsyncContext) -> list[str]:
    return [event.id for event in ctx.events]


@function(
    trigger=on("app/*"),
    id="every-setting",
    name="Every setting",
    retries=3,
    backoff=Backoff(initial=1, factor=2, maximum=60, jitter=0.5),
    cancel_on=[CancelOn(event="app/stop", match="data.id", if_="async.data.all", timeout=timedelta(hours=1))],
    timeouts=Timeouts(start="1h", finish=3600, step=timedelta(seconds=30)),
    on_failure=tasks,
    concurrency=[Concurrency(limit=2, key="event.data.id", scope="app"), Concurrency(5)],
    throttle=Throttle(limit=10, period="1m", burst=2, key="event.data.id"),
    rate_limit=RateLimit(limit=100, period=timedelta(hours=1), key="event.data.id"),
    debounce=Debounce(period=5, key="event.data.id", timeout="1m"),
    priority=Priority(run="event.data.urgent ? 120 : 0"),
    singleton=Singleton(key="event.data.id", mode="cancel"),
    idempotency="event.data.id",
    catchup="all",
    catchup_limit=10,
    overlap="queue",
)
def every_setting(ctx: Context) -> None: ...


@function(concurrency=3, batch=Batch(max_size=100, timeout="5s", key="event.data.id", if_="event.data.id > 0"))
def batched(ctx: Context[Mapping[str, int]]) -> int:
    return sum(event.data["cents"] for event in ctx.events)


class Desk:
    @staticmethod
    @function(cancel_on=CancelOn("app/stop"))
    def of_a_class(ctx: Context, more: str = "") -> str:
        return more + ctx.run_id


def in_a_test(order: Context[Order], ctx: Context) -> None:
    """A function is called as what it is."""
    assert_type(ship(order), str)
    assert_type(plain(ctx=ctx), int)
    assert_type(Desk.of_a_class(ctx, more="a"), str)


# A function's context.


@function()
def looks(ctx: Context) -> None:
    assert_type(ctx.event, Event[dict[str, Any]])
    assert_type(ctx.event.data, dict[str, Any])
    assert_type(ctx.events, list[Event[dict[str, Any]]])
    assert_type(ctx.run_id, str)
    assert_type(ctx.attempt, int)
    assert_type(ctx.max_attempts, int)
    assert_type(ctx.logger, Logger)
    assert_type(ctx.event.id, str)
    assert_type(ctx.event.name, str)
    assert_type(ctx.event.ts, int)
    assert_type(ctx.event.user, dict[str, Any] | None)
    assert_type(ctx.event.v, str | None)


@function()
def steps(ctx: Context) -> None:
    order: Order = {"id": 7, "lines": []}
    step = ctx.step
    assert_type(step.run("total", total, order, discount=0.5), float)
    assert_type(step.run("partial", partial(total, order)), float)
    assert_type(step.run("lambda", lambda: [1]), list[int])
    assert_type(step.run("class", Refund, 7, cents=5), Refund)
    step.sleep("nap", duration="1h30m")
    step.sleep("nap", 0.5)
    step.sleep("nap", timedelta(days=3))
    step.sleep_until("morning", when="2027-01-31T09:00:00+01:00")
    step.sleep_until("morning", datetime(2027, 1, 31, tzinfo=UTC))
    found = step.wait_for_event("paid", event="app/paid", timeout="3d", match="data.id", if_="async.data.ok")
    assert_type(found, Event[dict[str, Any]] | None)
    assert_type(step.send_event("one", {"name": "app/shipped", "data": order}), list[str])
    assert_type(step.send_event("many", events=[{"name": "app/shipped"}, {"name": "app/done"}]), list[str])


@function()
def calls(ctx: Context, on_error: Literal["stop", "collect"] = "stop") -> None:
    step, items = ctx.step, [Refund(1, 2)]
    order: Order = {"id": 7, "lines": []}
    # What it returns is what the function returns, plain or async.
    assert_type(step.invoke("plain", plain), int)
    assert_type(step.invoke("ship", ship, order), str)
    assert_type(step.invoke("ship", function=ship, data={"id": 7, "lines": ["a"]}, timeout="1h"), str)
    assert_type(step.invoke("refund", refund, Refund(7, 5)), Refund)
    assert_type(step.invoke("tasks", tasks, None, timeout=30), list[str])
    assert_type(step.invoke("id", "other-app/charge", {"id": 7}), Any)
    assert_type(step.map("ship", ship, [order]), list[str])
    assert_type(step.map("refund", refund, items, key=lambda each: each.order, max_in_flight=5), list[Refund])
    assert_type(step.map("stop", tasks, range(5), on_error="stop"), list[list[str]])
    assert_type(step.map("collect", tasks, range(5), on_error="collect"), list[list[str] | InvokeError])
    assert_type(step.map("either", function=plain, items=iter(items), on_error=on_error), list[int | InvokeError])
    assert_type(step.map("id", "other-app/charge", items), list[Any])


@function()
def branches(ctx: Context) -> None:
    step = ctx.step
    one, two = step.parallel(lambda: step.run("a", len, "a"), lambda: step.run("b", str, 1))
    assert_type(one, int)
    assert_type(two, str)
    several = step.parallel(*(lambda n=n: step.run(f"n{n}", len, "a") for n in range(9)))
    assert_type(several, tuple[int, ...])
    five = step.parallel(lambda: 1, lambda: "", lambda: 1.0, lambda: b"", lambda: None)
    assert_type(five, tuple[int, str, float, bytes, None])


@function()
async def async_steps(ctx: AsyncContext) -> None:
    order: Order = {"id": 7, "lines": []}
    step = ctx.step
    assert_type(await step.run("fetch", fetch, "http://127.0.0.1", retries=2), bytes)
    assert_type(await step.run("total", total, order, discount=0.5), float)
    await step.sleep("nap", duration="1h30m")
    await step.sleep_until("morning", when="2027-01-31T09:00:00+01:00")
    found = await step.wait_for_event("paid", event="app/paid", timeout="3d", match="data.id", if_="async.data.ok")
    assert_type(found, Event[dict[str, Any]] | None)
    assert_type(await step.send_event("one", events={"name": "app/shipped", "data": order}), list[str])


@function()
async def async_calls(ctx: AsyncContext, on_error: Literal["stop", "collect"] = "stop") -> None:
    step, items = ctx.step, [Refund(1, 2)]
    assert_type(await step.invoke("plain", function=plain, data={}, timeout="1h"), int)
    assert_type(await step.invoke("refund", refund, Refund(7, 5)), Refund)
    assert_type(await step.invoke("id", "other-app/charge", {"id": 7}), Any)
    assert_type(await step.map("refund", refund, items, key=lambda each: each.order, max_in_flight=5), list[Refund])
    assert_type(await step.map("collect", tasks, range(5), on_error="collect"), list[list[str] | InvokeError])
    assert_type(await step.map("either", function=plain, items=items, on_error=on_error), list[int | InvokeError])
    assert_type(await step.map("id", "other-app/charge", items), list[Any])


@function()
async def async_branches(ctx: AsyncContext) -> None:
    step = ctx.step

    async def three() -> float:
        return 3.0

    one, two, last = await step.parallel(step.run("a", len, "a"), lambda: step.run("b", str, 1), three)
    assert_type(one, int)
    assert_type(two, str)
    assert_type(last, float)
    several = await step.parallel(*(step.run(f"n{n}", len, "a") for n in range(9)))
    assert_type(several, tuple[int, ...])


# Errors.


@function()
def fails(ctx: Context) -> None:
    try:
        ctx.step.invoke("ship", ship, {"id": 7, "lines": []})
    except InvokeError as error:
        assert_type(error.item, int | None)
    except StepError as error:
        assert_type(error.name, str)
        assert_type(error.type, str)
        assert_type(error.cause_message, str)
        assert_type(error.traceback, str)
        raise NonRetriableError(message="gone", hint="look elsewhere") from error
    except FanoutError as error:
        assert_type(error.message, str)
        assert_type(error.hint, str | None)
        raise RetryAfterError(message="later", retry_after=timedelta(minutes=5)) from error
    raise RetryAfterError("later", datetime(2027, 1, 31, tzinfo=UTC) if ctx.attempt else 30)


def made() -> Iterator[object]:
    yield FanoutError(message="what happened", hint="what to do")
    yield StepError(name="charge", message="declined", type="CardError", traceback="")
    yield InvokeError(name="ship", message="declined", type="CardError", traceback="", item=7)
    yield Event(id="e1", name="app/a", ts=1, data={"a": 1}, user={"id": 7}, v="1")
    assert_type(Event(id="e1", name="app/a", ts=1, data=Refund(1, 2)), Event[Refund])
    assert_type(Event(id="e1", name="app/a", ts=1), Event[dict[str, Any]])


def reads(event: Event[Refund]) -> Event[Refund | Order]:
    return event  # what can only be read may be read as more


# Sending from a program.


class Paid(TypedDict):
    name: Literal["app/order.paid"]
    data: Order


def sends(path: Path, paid: Paid, others: Sequence[dict[str, Any]]) -> None:
    with connect(path=path) as client:
        assert_type(client, Client)
        accepted = client.send({"name": "app/order.paid", "data": {"id": 7}}, paid, *others)
        assert_type(accepted[0].id, str)
        assert_type(accepted[0].name, str)
        assert_type(accepted[0].is_duplicate, bool)
        runs = client.wait(accepted=accepted, timeout_s=30)
        assert_type([run.id for run in runs], list[str])
        assert_type([step.attempts for run in runs for step in run.steps], list[int])
    connect().close()
    assert_type(fanout.__version__, str)
