"""W5: one function that waits for an event with the same number as its own."""

import fanout
from fanout import Context

AWAITED = "bench/answer"


@fanout.function(trigger=fanout.on("bench/event"), id="waiter")
def waiter(ctx: Context) -> None:
    ctx.step.wait_for_event("answer", event=AWAITED, match="data.n", timeout="30d")
