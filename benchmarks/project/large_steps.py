"""W6: one function whose steps, as many as its event says, return a megabyte of JSON each, one after another."""

import fanout
from fanout import Context

PAYLOAD_BYTES = 1_000_000


def page() -> str:
    return "x" * (PAYLOAD_BYTES - 2)


@fanout.function(trigger=fanout.on("bench/event"), id="large")
def large(ctx: Context) -> None:
    for _ in range(ctx.event.data["steps"]):
        ctx.step.run("page", page)
