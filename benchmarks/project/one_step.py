"""W2: one function of one step, which returns 200 bytes of JSON."""

import fanout
from fanout import Context

PAYLOAD_BYTES = 200


def page() -> str:
    return "x" * (PAYLOAD_BYTES - 2)


@fanout.function(trigger=fanout.on("bench/event"), id="only")
def only(ctx: Context) -> None:
    ctx.step.run("one", page)
