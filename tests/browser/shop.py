"""Functions of which the pages have something to show: quick ones, failing ones, waiting ones, and ones that log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fanout
from fanout import Context

HERE = Path(__file__).parent


@fanout.function(trigger=fanout.on("shop/order.placed"), retries=0)
def bill(ctx: Context) -> dict[str, Any]:
    ctx.step.run("price", price, ctx.event.data.get("items", 1))
    charged = ctx.step.run("charge", charge)
    ctx.step.send_event("tell", {"name": "shop/order.paid", "data": {"charged": charged}})
    return {"charged": charged}


@fanout.function(trigger=fanout.on("shop/order.placed"))
def pack(ctx: Context) -> str:
    ctx.logger.info("packing for %s", ctx.event.data.get("user", "nobody"))
    print("<b>three boxes</b>")
    return ctx.step.run("box", lambda: "boxed")


@fanout.function(trigger=fanout.on("shop/order.paid"))
def thank(ctx: Context) -> None:
    ctx.step.run("mail", time.sleep, 0.01)


@fanout.function(trigger=fanout.on("shop/order.placed", if_="event.data.slow"))
def wait_for_review(ctx: Context) -> bool:
    for number in range(3):
        ctx.logger.info("look %d", number)
        ctx.step.run("look", lambda: None)
    return ctx.step.wait_for_event("review", event="shop/reviewed", timeout="1d") is not None


@fanout.function(trigger=fanout.cron("0 9 * * 1", tz="Europe/Berlin"))
def report_weekly(ctx: Context) -> str:
    return "reported"


@fanout.function()
def add(ctx: Context) -> int:
    return int(ctx.event.data["a"]) + int(ctx.event.data["b"])


def price(items: int) -> int:
    return 10 * items


def charge() -> str:
    """The card is refused until the file `card` is there."""
    if not (HERE / "card").exists():
        raise RuntimeError("the card was refused: <script>alert(1)</script>")
    return "10 EUR"
