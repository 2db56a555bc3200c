"""The functions of the project that is crashed. What they do is appended to a file that the product does not know.

This file is copied into the project, alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import fanout
from fanout import AsyncContext, Concurrency, Context

HERE = Path(__file__).parent
SOON = [0.02, 0.05, 0.1]
A_PLACE = Concurrency(1, key="event.data.key")
TWO_PLACES = Concurrency(2, key="event.data.key")
ITEMS = 6


@cache
def effects() -> int:
    """The file. A killed process loses nothing of what it has written: only the machine's end would, so nothing is flushed."""
    return os.open(HERE / "effects.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def tell(what: str, run: str, step: str = "") -> None:
    os.write(effects(), (json.dumps([time.time_ns(), os.getpid(), what, run, step]) + "\n").encode())


def work(run: str, step: str, value: Any, seconds: float = 0.002) -> Any:
    tell("begin", run, step)
    time.sleep(seconds)
    tell("end", run, step)
    return value


async def work_async(run: str, step: str, value: Any, seconds: float = 0.002) -> Any:
    tell("begin", run, step)
    await asyncio.sleep(seconds)
    tell("end", run, step)
    return value


def is_first(what: str) -> bool:
    """Whether this is asked for the first time, in all processes."""
    try:
        os.close(os.open(HERE / "asked" / what, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@fanout.function(trigger=fanout.on("app/go"))
def plain(ctx: Context) -> int:
    tell("enter", ctx.run_id)
    n = ctx.event.data["n"]
    return sum(ctx.step.run(name, work, ctx.run_id, name, n) for name in ("one", "two", "three"))


@fanout.function(trigger=fanout.on("app/go"))
async def tasks(ctx: AsyncContext) -> int:
    tell("enter", ctx.run_id)
    n = ctx.event.data["n"]
    return sum([await ctx.step.run(name, work_async, ctx.run_id, name, n) for name in ("one", "two", "three")])


@fanout.function(trigger=fanout.on("app/fail"), backoff=SOON)
def flaky(ctx: Context) -> int:
    tell("enter", ctx.run_id)

    def twice() -> int:
        tell("begin", ctx.run_id, "twice")
        if is_first(f"{ctx.run_id} once") or is_first(f"{ctx.run_id} again"):
            raise ConnectionError("not yet")
        tell("end", ctx.run_id, "twice")
        return 2

    ctx.step.run("before", work, ctx.run_id, "before", 1)
    two: int = ctx.step.run("twice", twice)
    ctx.step.run("after", work, ctx.run_id, "after", 3)
    if is_first(f"{ctx.run_id} between"):
        raise ConnectionError("not yet")
    return two


@fanout.function(trigger=fanout.on("app/fail"), backoff=SOON, retries=1)
async def broken(ctx: AsyncContext) -> None:
    tell("enter", ctx.run_id)

    async def fail() -> None:
        tell("begin", ctx.run_id, "fail")
        raise ValueError("for good")

    await ctx.step.run("before", work_async, ctx.run_id, "before", 1)
    await ctx.step.run("fail", fail)


@fanout.function(trigger=fanout.on("app/nap"))
def napper(ctx: Context) -> int:
    tell("enter", ctx.run_id)
    one: int = ctx.step.run("one", work, ctx.run_id, "one", 1)
    ctx.step.sleep("nap", 0.2 + ctx.event.data["n"] % 10 / 10)
    two: int = ctx.step.run("two", work, ctx.run_id, "two", 2)
    return one + two


@fanout.function(trigger=fanout.on("app/ask"))
async def asker(ctx: AsyncContext) -> str:
    """It may be answered before it waits, if it dies in between: then it waits in vain."""
    tell("enter", ctx.run_id)
    n = ctx.event.data["n"]
    await ctx.step.send_event("please", {"name": "app/please", "data": {"n": n}})
    heard = await ctx.step.wait_for_event("answer", event="app/answer", match="data.n", timeout=1)
    await ctx.step.run("after", work_async, ctx.run_id, "after", n)
    return "nothing" if heard is None else str(heard.data["n"])


@fanout.function(trigger=fanout.on("app/please"))
def answerer(ctx: Context) -> int:
    tell("enter", ctx.run_id)
    n: int = ctx.step.run("think", work, ctx.run_id, "think", ctx.event.data["n"], 0.05)
    ctx.step.send_event("answer", {"name": "app/answer", "data": {"n": n}})
    return n


@fanout.function()
async def child(ctx: AsyncContext) -> int:
    tell("enter", ctx.run_id)
    double: int = await ctx.step.run("double", work_async, ctx.run_id, "double", 2 * ctx.event.data["n"])
    return double


@fanout.function(trigger=fanout.on("app/tree"))
def tree(ctx: Context) -> list[int]:
    tell("enter", ctx.run_id)
    n = ctx.event.data["n"]
    ctx.step.run("before", work, ctx.run_id, "before", 0)
    invoked = ctx.step.invoke("invoke", child, data={"n": n})
    mapped = ctx.step.map("map", child, ({"n": item} for item in range(ITEMS)), max_in_flight=4)
    sent = ctx.step.send_event("send", [{"name": "app/leaf", "data": {"n": n, "leaf": leaf}} for leaf in range(2)])
    ctx.step.run("after", work, ctx.run_id, "after", 0)
    return [invoked, *mapped, len(sent)]


@fanout.function(trigger=fanout.on("app/leaf"))
def leaf(ctx: Context) -> int:
    tell("enter", ctx.run_id)
    which: int = ctx.step.run("one", work, ctx.run_id, "one", ctx.event.data["leaf"])
    return which


@fanout.function(trigger=fanout.on("app/place"), concurrency=[A_PLACE])
async def single(ctx: AsyncContext) -> int:
    tell("enter", ctx.run_id)
    for name in ("one", "two"):
        await ctx.step.run(name, work_async, ctx.run_id, name, 0, 0.01)
    return 1


@fanout.function(trigger=fanout.on("app/place"), concurrency=[TWO_PLACES])
def pair(ctx: Context) -> int:
    tell("enter", ctx.run_id)
    for name in ("one", "two"):
        ctx.step.run(name, work, ctx.run_id, name, 0, 0.01)
    return 2


@fanout.function(trigger=fanout.on("app/branch"))
async def gathered(ctx: AsyncContext) -> list[int]:
    tell("enter", ctx.run_id)
    branches = (ctx.step.run(f"branch {n}", work_async, ctx.run_id, f"branch {n}", n) for n in range(3))
    found: list[int] = await asyncio.gather(*branches)
    await ctx.step.run("after", work_async, ctx.run_id, "after", 0)
    return found


@fanout.function(trigger=fanout.on("app/branch"))
def parallel(ctx: Context) -> list[int]:
    tell("enter", ctx.run_id)

    def branch(n: int) -> int:
        value: int = ctx.step.run(f"branch {n}", work, ctx.run_id, f"branch {n}", n)
        return value

    found: list[int] = list(ctx.step.parallel(*(partial(branch, n) for n in range(3))))
    ctx.step.run("after", work, ctx.run_id, "after", 0)
    return found
