"""W4: one function that maps another, of one step that returns 200 bytes of JSON, over items from a generator."""

import os

import fanout
from fanout import Context

PAYLOAD_BYTES = 200


def page() -> str:
    return "x" * (PAYLOAD_BYTES - 2)


@fanout.function(id="child")
def child(ctx: Context) -> int:
    ctx.step.run("one", page)
    item: int = ctx.event.data["item"]
    return item


@fanout.function(trigger=fanout.on("bench/event"), id="parent")
def parent(ctx: Context) -> list[int]:
    """In which process it began, in which it ended, and how many results were not in their places."""
    began_in = ctx.step.run("where", os.getpid)
    results = ctx.step.map("items", child, (number for number in range(ctx.event.data["items"])))
    misplaced = sum(number != result for number, result in enumerate(results))
    return [began_in, os.getpid(), misplaced]
