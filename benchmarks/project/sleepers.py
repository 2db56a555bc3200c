"""W9: one function that sleeps until the time that its event says, and returns the time at which it goes on."""

import time

import fanout
from fanout import Context


@fanout.function(trigger=fanout.on("bench/event"), id="sleeper")
def sleeper(ctx: Context) -> float:
    ctx.step.sleep_until("nap", ctx.event.data["until"])
    return time.time()
