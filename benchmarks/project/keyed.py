"""W10 and W11: functions with a limit for each key: one that is always in the way, two, and one that never is."""

import time

import fanout
from fanout import Concurrency, Context

PAYLOAD_BYTES = 4
STEP_S = 0.02
KEY = "event.data.key"


def work() -> None:
    time.sleep(STEP_S)


@fanout.function(trigger=fanout.on("bench/one"), id="one", concurrency=[Concurrency(1, key=KEY)])
def one(ctx: Context) -> None:
    ctx.step.run("work", work)


@fanout.function(trigger=fanout.on("bench/two"), id="two", concurrency=[Concurrency(2, key=KEY)])
def two(ctx: Context) -> None:
    ctx.step.run("work", work)


@fanout.function(trigger=fanout.on("bench/roomy"), id="roomy", concurrency=[Concurrency(1_000, key=KEY)])
def roomy(ctx: Context) -> None:
    ctx.step.run("work", work)
