"""W1a: three async functions of two steps, each step returning 200 bytes of JSON."""

import fanout
from fanout import AsyncContext

PAYLOAD_BYTES = 200
ON_EVENT = fanout.on("bench/event")


async def page() -> str:
    return "x" * (PAYLOAD_BYTES - 2)


@fanout.function(trigger=ON_EVENT, id="first")
async def first(ctx: AsyncContext) -> None:
    await ctx.step.run("one", page)
    await ctx.step.run("two", page)


@fanout.function(trigger=ON_EVENT, id="second")
async def second(ctx: AsyncContext) -> None:
    await ctx.step.run("one", page)
    await ctx.step.run("two", page)


@fanout.function(trigger=ON_EVENT, id="third")
async def third(ctx: AsyncContext) -> None:
    await ctx.step.run("one", page)
    await ctx.step.run("two", page)
