"""The kit is fast enough that nobody thinks about it. The fences are wide: what is measured is printed by `-s`."""

from __future__ import annotations

import time
from collections.abc import Callable

import fanout
from fanout import AsyncContext, Context
from fanout.testing import run

RUNS = 300
LEAST_A_SECOND = 1_000
"""On two idle cores it is three times as many; others may use them now."""


@fanout.function(trigger=fanout.on("a"))
def plain(ctx: Context) -> int:
    return ctx.step.run("one", lambda: 1)


@fanout.function(trigger=fanout.on("a"))
async def in_tasks(ctx: AsyncContext) -> int:
    async def one() -> int:
        return 1

    return await ctx.step.run("one", one)


def rate(function: Callable[..., object]) -> float:
    """Tests a second of processor time, the best of three."""
    run(function)
    best = 0.0
    for _ in range(3):
        began = time.process_time()
        for n in range(RUNS):
            assert run(function, data={"n": n}, steps={"one": n}).output == n
        best = max(best, RUNS / (time.process_time() - began))
    print(f"{best:,.0f} tests a second of `{function.__name__}`")
    return best


def test_plain_functions() -> None:
    assert rate(plain) > LEAST_A_SECOND


def test_async_functions() -> None:
    assert rate(in_tasks) > LEAST_A_SECOND
