"""What type checkers have to refuse: a line's comment has the codes of mypy's errors, and then those of pyright's.

No other line has any. mypy is strict; pyright is as it comes. Nothing here is ever executed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypedDict

import fanout
from fanout import AsyncContext, Client, Context, Event, testing


class Order(TypedDict):
    id: int


class Parcel(TypedDict):
    grams: int


@dataclass
class Refund:
    cents: int


def count(text: str, *, at_least: int = 0) -> int:
    return len(text) + at_least


async def fetch(url: str) -> bytes:
    return url.encode()


@fanout.function()
def ship(ctx: Context[Order]) -> str:
    return str(ctx.event.data["id"])


@fanout.function()
async def refund(ctx: AsyncContext[Refund]) -> int:
    return ctx.event.data.cents


@fanout.function()
def count_words(ctx: Context) -> int:
    return len(ctx.event.data["text"].split())


# Functions that no event can start.


@fanout.function()  # type-var; reportArgumentType
def takes_nothing() -> int:
    return 1


@fanout.function()  # type-var; reportArgumentType
def takes_two(ctx: Context, order: Order) -> int:
    return ctx.attempt + order["id"]


@fanout.function()  # type-var; reportArgumentType
def takes_a_keyword(ctx: Context, *, order: int) -> int:
    return ctx.attempt + order


@fanout.function()  # type-var; reportArgumentType
def takes_an_event(event: Event) -> str:
    return event.id


@fanout.function()  # type-var; reportArgumentType
def plain_with_the_context_of_a_task(ctx: AsyncContext) -> int:
    return ctx.attempt


@fanout.function()
async def task_with_a_plain_context(ctx: Context) -> int:
    return await ctx.step.run("count", count, "text")  # arg-type; reportGeneralTypeIssues


fanout.function()(Refund)  # type-var; reportArgumentType
fanout.function(ship)  # arg-type; reportArgumentType


@fanout.function(trigger="app/order.paid")  # arg-type; reportArgumentType
def no_trigger(ctx: Context) -> None: ...


# Settings that can't be.

fanout.function(retires=3)  # call-arg; reportCallIssue
fanout.function(retries="3")  # arg-type; reportArgumentType
fanout.function(fanout.on("a"), "an-id")  # call-arg; reportCallIssue
fanout.function(catchup="newest")  # arg-type; reportArgumentType
fanout.function(overlap="stop")  # arg-type; reportArgumentType
fanout.function(on_failure=count)  # arg-type; reportArgumentType
fanout.function(concurrency="5")  # arg-type; reportArgumentType
fanout.function(throttle=fanout.RateLimit(1, "1m"))  # arg-type; reportArgumentType
fanout.function(cancel_on=["app/stop"])  # list-item; reportArgumentType
fanout.function(timeouts=30)  # arg-type; reportArgumentType
fanout.function(priority=5)  # arg-type; reportArgumentType
fanout.function(idempotency=fanout.Singleton())  # arg-type; reportArgumentType
fanout.function(event_schema="Order")  # arg-type; reportArgumentType
fanout.function(event_schema=Refund(5))  # arg-type; reportArgumentType
fanout.function(event_schema=[Order, Refund])  # arg-type; reportArgumentType
fanout.function(event_schema={"app/refund": Refund(5)})  # dict-item; reportArgumentType
fanout.function(backoff=30)  # arg-type; reportArgumentType
fanout.Concurrency(1, scope="function")  # arg-type; reportArgumentType
fanout.Singleton(mode="stop")  # arg-type; reportArgumentType
fanout.Throttle(10)  # call-arg; reportCallIssue
fanout.Batch(max_size="100", timeout=5)  # arg-type; reportArgumentType
fanout.Backoff(first=1)  # call-arg; reportCallIssue
fanout.on()  # call-arg; reportCallIssue
fanout.on("app/a", when="event.data.id > 7")  # call-arg; reportCallIssue
fanout.cron("0 9 * * *", jitter=["5m"])  # arg-type; reportArgumentType
fanout.Priority("event.data.urgent", 120)  # call-arg; reportCallIssue
fanout.RateLimit(10, period=None)  # arg-type; reportArgumentType
fanout.Debounce("1m", time_out="5m")  # call-arg; reportCallIssue
fanout.CancelOn(["app/stop"])  # arg-type; reportArgumentType
fanout.Timeouts(step=[30])  # arg-type; reportArgumentType
fanout.corn("0 9 * * *")  # attr-defined; reportAttributeAccessIssue


# Steps of plain functions.


@fanout.function()
def steps(ctx: Context) -> None:
    step = ctx.step
    step.run(count, "text")  # arg-type; reportArgumentType, reportCallIssue
    step.run("count")  # call-arg; reportCallIssue
    step.run("count", count)  # call-arg; reportCallIssue
    step.run("count", count, 5)  # arg-type; reportArgumentType
    step.run("count", count, "text", 5)  # call-arg; reportCallIssue
    step.run("count", count, "text", at_lest=5)  # call-arg; reportCallIssue
    step.run("count", count("text"))  # arg-type; reportArgumentType, reportCallIssue
    result: str = step.run("count", count, "text")  # assignment; reportAssignmentType
    text: bytes = step.run("fetch", fetch, result)  # assignment; reportAssignmentType
    step.sleep("nap")  # call-arg; reportCallIssue
    step.sleep("nap", None)  # arg-type; reportArgumentType
    step.sleep_until("morning", 5)  # arg-type; reportArgumentType
    step.wait_for_event("paid", "app/paid", "3d")  # call-arg; reportCallIssue
    step.wait_for_event("paid", event="app/paid")  # call-arg; reportCallIssue
    print(step.wait_for_event("paid", event="app/paid", timeout="3d").data)  # union-attr; reportOptionalMemberAccess
    step.send_event("sent", "app/shipped")  # arg-type; reportArgumentType
    step.send_event("sent", [text])  # list-item; reportArgumentType


@fanout.function()
def calls(ctx: Context) -> None:
    step = ctx.step
    returned: int = step.invoke("ship", ship, {"id": 7})  # assignment; reportAssignmentType
    step.invoke("count", count, {"text": "a"})  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("ship", ship, Refund(5))  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("ship", ship, Parcel(grams=5))  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("ship", ship)  # arg-type; reportArgumentType
    step.invoke("refund", refund, {"cents": 5})  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("refund", refund, Order(id=7))  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("words", count_words, "some text")  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("words", count_words, timeout=None, date={})  # call-overload; reportCallIssue
    step.invoke(count_words, {})  # call-overload; reportArgumentType
    step.invoke("ship", ship, ["id", returned])  # arg-type; reportArgumentType, reportCallIssue
    step.invoke("refund", refund, timeout=[1])  # call-overload; reportArgumentType
    step.invoke("refund", refund(None))  # arg-type, call-overload; reportArgumentType
    step.map("refund", refund, range(5))  # arg-type; reportArgumentType, reportCallIssue
    step.map("refund", refund, [Order(id=7)])  # arg-type; reportArgumentType, reportCallIssue
    step.map("ship", ship, [Refund(5)])  # arg-type; reportArgumentType, reportCallIssue
    step.map("ship", ship, [Parcel(grams=5)])  # arg-type; reportArgumentType, reportCallIssue
    step.map("count", count, ["a text"])  # arg-type; reportArgumentType, reportCallIssue
    step.map("words", count_words, 5)  # call-overload; reportArgumentType, reportCallIssue
    words: list[str] = step.map("words", count_words, ["a text"])  # arg-type; reportAssignmentType
    step.map("words", count_words, words, on_error="ignore")  # call-overload; reportArgumentType, reportCallIssue
    step.map("words", count_words, words, max_in_flight="5")  # call-overload; reportArgumentType, reportCallIssue
    step.map("refund", refund, [Refund(5)], key=lambda it: it.id)  # arg-type, attr-defined; reportAttributeAccessIssue
    sum(step.map("words", count_words, words, on_error="collect"))  # call-overload; reportArgumentType, reportCallIssue


@fanout.function()
def branches(ctx: Context) -> None:
    step = ctx.step
    step.parallel(step.run("a", len, "a"), lambda: 2)  # call-overload; reportArgumentType, reportCallIssue
    step.parallel(count, lambda: 2)  # arg-type; reportArgumentType, reportCallIssue
    (only,) = step.parallel(lambda: 1, lambda: 2)  # misc; reportAssignmentType
    print(only)
    first, second = step.parallel(lambda: 1, lambda: "2")
    first.upper()  # attr-defined; reportAttributeAccessIssue
    print(second + 1)  # operator; reportOperatorIssue


# Steps of async functions.


@fanout.function()
async def async_steps(ctx: AsyncContext) -> None:
    step = ctx.step
    step.sleep("nap", 5)  # unused-coroutine; reportUnusedCoroutine
    await step.run("fetch", fetch, 5)  # call-overload; reportArgumentType, reportCallIssue
    await step.run("count", count, "text", at_lest=5)  # arg-type, call-arg; reportCallIssue
    result: str = await step.run("fetch", fetch, "http://127.0.0.1")  # call-overload; reportAssignmentType
    await step.send_event("sent", result)  # arg-type; reportArgumentType
    await step.wait_for_event("paid", event="app/paid", timeout=None)  # arg-type; reportArgumentType
    refunded: int = step.invoke("refund", refund, Refund(5))  # assignment; reportAssignmentType
    print(await step.invoke("refund", refund, Order(id=refunded)))  # arg-type; reportArgumentType, reportCallIssue
    returned: str = await step.invoke("words", count_words)  # arg-type; reportAssignmentType
    mapped: list[str] = await step.map("words", count_words, [returned])  # arg-type; reportAssignmentType
    await step.map("refund", refund, mapped)  # arg-type; reportArgumentType, reportCallIssue
    await step.map("words", count_words, mapped, on_error="no")  # call-overload; reportArgumentType, reportCallIssue
    await step.parallel(step.sleep("nap", 5), 5)  # call-overload; reportArgumentType, reportCallIssue
    number, text = await asyncio.gather(step.run("a", count, "a"), step.run("b", fetch, "b"))
    print(number + text)  # operator; reportOperatorIssue


# A context and its event are what they are.


@fanout.function()
def reads(ctx: Context[Order]) -> None:
    print(ctx.event.data["total"])  # typeddict-item; reportGeneralTypeIssues
    print(ctx.event.data.id)  # attr-defined; reportAttributeAccessIssue
    ctx.event.id = "another"  # misc; reportAttributeAccessIssue
    ctx.attempt.upper()  # attr-defined; reportAttributeAccessIssue
    print(ctx.steps)  # attr-defined; reportAttributeAccessIssue
    hears_refunds(ctx.event)  # arg-type; reportArgumentType


def hears_refunds(event: Event[Refund]) -> int:
    return event.data.cents


def in_a_test(plain: Context) -> None:
    ship(plain)  # arg-type; reportArgumentType
    ship()  # call-arg; reportCallIssue


# Errors, and sending from a program.


def raises() -> None:
    raise fanout.NonRetriableError  # call-arg; reportGeneralTypeIssues


def raises_later() -> None:
    raise fanout.RetryAfterError("later")  # call-arg; reportCallIssue


def raises_at_some_time() -> None:
    raise fanout.RetryAfterError("later", None)  # arg-type; reportArgumentType


def sends(client: Client) -> None:
    client.send("app/order.paid")  # arg-type; reportArgumentType
    client.send([{"name": "app/order.paid"}])  # arg-type; reportArgumentType
    client.wait(client.send({"name": "app/order.paid"}), timeout="30s")  # call-arg; reportCallIssue
    fanout.connect(7)  # arg-type; reportArgumentType
    print(client.send({"name": "app/order.paid"})[0].run_id)  # attr-defined; reportAttributeAccessIssue


# In tests of functions.


def in_tests(project: testing.Project) -> None:
    testing.run(count, data={"text": "a"})  # arg-type; reportArgumentType
    testing.run(ship, date={"id": 7})  # call-arg; reportCallIssue
    testing.run(ship, data=7)  # arg-type; reportArgumentType
    testing.run(ship, 7)  # arg-type; reportArgumentType
    print(testing.run(ship, data=Order(id=7)).output + 1)  # operator; reportOperatorIssue
    testing.run(refund, steps=["charge"])  # arg-type; reportArgumentType
    print(testing.run(refund).outputs)  # attr-defined; reportAttributeAccessIssue
    testing.run(refund, crash_after=1)  # arg-type; reportArgumentType
    testing.Running(refund).result.output.upper()  # attr-defined; reportAttributeAccessIssue
    project.run(refund).output.upper()  # attr-defined; reportAttributeAccessIssue
    project.send(7)  # arg-type; reportArgumentType
    project.advance("3 days", 5)  # call-arg; reportCallIssue
    project.replay("ship")  # arg-type; reportArgumentType
    print(testing.runs)  # attr-defined; reportAttributeAccessIssue
