"""The public API in use: every name and every parameter, with the types that people get.

mypy and pyright, both strict, have nothing to say about it; `assert_type` is for them. What they have to refuse is in
`wrong.py`. Nothing here is ever executed; tests are in `tests/unit/test_typing.py`.
"""

# pyright: strict

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import msgspec
import pydantic

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
from fanout.model import Failure, RunState, StepKind, StepState
from fanout.testing import Project, Result, Running, StepResult, in_turn, run


class Order(TypedDict):
    id: int
    lines: list[str]


@dataclass(frozen=True)
class Refund:
    order: int
    cents: int


class Parcel(msgspec.Struct):
    grams: int


class Letter(pydantic.BaseModel):
    to: str


class Number(TypedDict):
    item: int


def total(order: Order, *, discount: float = 0.0) -> float:
    return len(order["lines"]) * (1 - discount)


async def fetch(url: str, retries: int = 1) -> bytes:
    return url.encode() * retries


# Declaring: the function keeps its own type.


@function()
def plain(ctx: Context) -> int:
    return ctx.attempt


@function(trigger=on("app/order.paid", if_="event.data.id > 7"), event_schema=Order)
def ship(ctx: Context[Order]) -> str:
    assert_type(ctx.event, Event[Order])
    assert_type(ctx.event.data, Order)
    assert_type(ctx.events, list[Event[Order]])
    assert_type(ctx.event.data["id"], int)
    return ctx.event.data["lines"][0]


@function(
    [on("app/refund"), cron("0 9 * * mon-fri", tz="Europe/Berlin", jitter="5m")], event_schema={"app/refund": Refund}
)
async def refund(ctx: AsyncContext[Refund]) -> Refund:
    assert_type(ctx.event.data, Refund)
    assert_type(ctx.event.data.cents, int)
    return ctx.event.data


@function(event_schema=Parcel)
def weigh(ctx: Context[Parcel]) -> int:
    return ctx.event.data.grams


@function(event_schema=Letter)
async def post(ctx: AsyncContext[Letter]) -> Letter:
    return ctx.event.data


@function([on("app/parcel"), on("app/letter")], event_schema=Parcel | Letter)
def send_off(ctx: Context[Parcel | Letter]) -> int | str:
    data = ctx.event.data
    return data.grams if isinstance(data, Parcel) else data.to


@function()
def square(ctx: Context[Number]) -> int:
    return ctx.event.data["item"] ** 2


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


async def is_called(order: Context[Order], ctx: Context, of_refund: AsyncContext[Refund]) -> None:
    """A function stays what it is."""
    assert_type(ship(order), str)
    assert_type(plain(ctx=ctx), int)
    assert_type(Desk.of_a_class(ctx, more="a"), str)
    assert_type(await refund(of_refund), Refund)
    assert_type(ship.__name__, str)


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
    assert_type(step.run("method", Path("a").as_posix), str)
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
    """What they return is what the function returns, plain or async."""
    step, items = ctx.step, [Refund(1, 2)]
    order: Order = {"id": 7, "lines": []}
    assert_type(step.invoke("plain", plain), int)
    assert_type(step.invoke("ship", ship, order), str)
    assert_type(step.invoke("ship", function=ship, data={"id": 7, "lines": ["a"]}, timeout="1h"), str)
    assert_type(step.invoke("refund", refund, Refund(7, 5)), Refund)
    assert_type(step.invoke("tasks", tasks, None, timeout=30), list[str])
    assert_type(step.invoke("weigh", weigh, Parcel(5)), int)
    assert_type(step.invoke("post", post, Letter(to="Ada")), Letter)
    assert_type(step.invoke("either", send_off, Parcel(5)), int | str)
    assert_type(step.invoke("undeclared", plain, Refund(7, 5)), int)
    assert_type(step.invoke("id", "other-app/charge", {"id": 7}), Any)
    assert_type(step.map("ship", ship, [order]), list[str])
    assert_type(step.map("ship", ship, ({"id": number, "lines": []} for number in range(5))), list[str])
    assert_type(step.map("numbers", square, range(5), key=str), list[int])
    assert_type(step.map("refund", refund, items, key=lambda each: each.order, max_in_flight=5), list[Refund])
    assert_type(step.map("stop", tasks, range(5), on_error="stop"), list[list[str]])
    assert_type(step.map("collect", tasks, range(5), on_error="collect"), list[list[str] | InvokeError])
    assert_type(
        step.map("either", function=plain, items=iter(items), on_error=on_error), list[int] | list[int | InvokeError]
    )
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
    assert_type(
        step.parallel(partial(len, "a"), partial(total, discount=0.5, order=ctx.event.data["order"])), tuple[int, float]
    )
    assert_type(
        step.parallel(lambda: step.invoke("a", plain), lambda: step.map("b", plain, [1])), tuple[int, list[int]]
    )


@function()
async def async_steps(ctx: AsyncContext) -> None:
    order: Order = {"id": 7, "lines": []}
    step = ctx.step
    assert_type(await step.run("fetch", fetch, "http://127.0.0.1", retries=2), bytes)
    assert_type(await step.run("total", total, order, discount=0.5), float)
    await step.sleep("nap", duration="1h30m")
    await step.sleep_until("morning", when=datetime(2027, 1, 31, tzinfo=UTC))
    found = await step.wait_for_event("paid", event="app/paid", timeout="3d", match="data.id", if_="async.data.ok")
    assert_type(found, Event[dict[str, Any]] | None)
    assert_type(await step.send_event("one", events={"name": "app/shipped", "data": order}), list[str])


@function()
async def async_calls(ctx: AsyncContext, on_error: Literal["stop", "collect"] = "stop") -> None:
    step, items = ctx.step, [Refund(1, 2)]
    assert_type(await step.invoke("plain", function=plain, data={}, timeout="1h"), int)
    assert_type(await step.invoke("refund", refund, Refund(7, 5)), Refund)
    assert_type(await step.invoke("ship", ship, {"id": 7, "lines": ["a"]}), str)
    assert_type(await step.invoke("tasks", tasks), list[str])
    assert_type(await step.invoke("id", "other-app/charge", {"id": 7}), Any)
    assert_type(await step.map("refund", refund, items, key=lambda each: each.order, max_in_flight=5), list[Refund])
    assert_type(await step.map("collect", tasks, range(5), on_error="collect"), list[list[str] | InvokeError])
    assert_type(
        await step.map("either", function=plain, items=items, on_error=on_error), list[int] | list[int | InvokeError]
    )
    assert_type(await step.map("numbers", square, range(5), on_error="stop"), list[int])
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
    number, page = await asyncio.gather(step.run("a", len, "a"), step.run("fetch", fetch, "http://127.0.0.1"))
    assert_type(number, int)
    assert_type(page, bytes)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(step.invoke("plain", plain))
    assert_type(task.result(), int)


def works(step_of: Callable[[AsyncContext], Coroutine[Any, Any, int]]) -> None: ...


works(lambda ctx: ctx.step.run("a", len, "a"))


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
        raise RetryAfterError(message="later", retry_after="5m" if ctx.attempt else timedelta(minutes=5)) from error
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


# In tests of functions.


def in_tests(fanout_project: type[Project], fanout_run: Callable[..., Result]) -> None:
    assert_type(run(ship, data=Order(id=7, lines=[])), Result[str])
    assert_type(run(refund, data=Refund(7, 5)).output, Refund)
    assert_type(run(ship, "app/order.paid", data=Order(id=7, lines=[])), Result[str])
    assert_type(run(tell, {"name": "fanout/function.failed", "data": {}}).output, None)
    assert_type(fanout_run(ship).output, Any)
    result = run(
        tasks,
        event=[{"name": "app/a"}, {"name": "app/b", "data": {}}],
        steps={"charge": in_turn(ConnectionError("down"), {"id": "ch_1"})},
        functions={"ship": "shipped"},
        events=[{"name": "app/paid"}],
        crash_after="charge",
        now=datetime(2027, 1, 31, tzinfo=UTC),
    )
    assert_type(result, Result[list[str]])
    assert_type(result.state, RunState)
    assert_type(result.error, Failure | None)
    assert_type(result.steps, Mapping[str, StepResult])
    assert_type(result.steps["charge"].kind, StepKind)
    assert_type(result.steps["charge"].state, StepState)
    assert_type(result.events_sent[0].data, Any)
    assert_type(result.invoked, list[Result])
    assert_type(result.waits_for, list[str])
    assert_type([line.text for line in result.logs], list[str])
    run(calls, functions=[ship, refund])


def moves_on() -> None:
    with Running(
        refund,
        event=None,
        data=Refund(7, 5),
        steps={"a": 1},
        functions=[ship],
        crash_after=["a"],
        now=1_800_000_000_000,
    ) as running:
        assert_type(running.result, Result[Refund])
        assert_type(running.is_over, bool)
        running.advance(span="3 days")
        running.advance_to(moment=datetime(2027, 1, 31, tzinfo=UTC))
        running.send(event="app/paid", data={"id": 7})
        running.crash()
        assert_type(running.finish(events=[{"name": "app/paid"}]).output, Refund)


def whole() -> None:
    project = Project(ship, [refund, plain], steps={"a": 1}, crash_after="ship/a", now=0)
    assert_type(project.send("app/order.paid", data=Order(id=7, lines=[])), list[Result])
    assert_type(project.send({"name": "app/order.paid"}, {"name": "app/refund"}), list[Result])
    shipped = project.invoke(function=ship, data={"id": 7})
    assert_type(shipped, Result[str])
    assert_type(project.invoke("ship"), Result)
    assert_type(project.tick(function=refund).output, Refund)
    assert_type(project.cancel(run=shipped), Result[str])
    assert_type(project.replay(run=shipped, from_start=True, from_step="a").output, str)
    assert_type(project.again(run=shipped).output, str)
    assert_type(project.run(function=plain).output, int)
    assert_type(project.runs_of(function=plain), list[Result[int]])
    assert_type(project.runs, list[Result])
    assert_type(project.now, int)
    project.stub(function=ship, steps={"a": ValueError("no")})
    project.advance(span=timedelta(days=3))
    project.advance_to(moment=project.now + 1)
    project.crash()
    assert_type(project.finish(most="1h"), list[Result])
    assert_type([event.name for event in project.events], list[str])
    project.close()
