"""W3: three functions of one step, which returns 200 bytes of JSON."""

import fanout
from fanout import Context

PAYLOAD_BYTES = 200
ON_EVENT = fanout.on("bench/event")


def page() -> str:
    return "x" * (PAYLOAD_BYTES - 2)


@fanout.function(trigger=ON_EVENT, id="first")
def first(ctx: Context) -> None:
    ctx.step.run("one", page)


@fanout.function(trigger=ON_EVENT, id="second")
def second(ctx: Context) -> None:
    ctx.step.run("one", page)


@fanout.function(trigger=ON_EVENT, id="third")
def third(ctx: Context) -> None:
    ctx.step.run("one", page)
