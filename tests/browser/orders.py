"""What the screenshots show: a shop with a bit of everything, quick enough to wait for."""

from __future__ import annotations

import time
from typing import Any

import fanout
from fanout import Context

TRIES: dict[str, int] = {}


@fanout.function(trigger=fanout.on("shop/order"), retries=3, backoff=[0.4, 0.6, 0.8])
def reserve_stock(ctx: Context) -> dict[str, Any]:
    order = ctx.event.data
    ctx.logger.info("order %s of %s", order.get("number", "?"), order.get("customer", "somebody"))
    items = ctx.step.run("load-items", load_items, order.get("items", ["a cup"]))
    ctx.step.run("reserve", work, 0.24)
    receipt = ctx.step.run("charge-card", charge_card, ctx.run_id, order.get("fails", 0))
    ctx.logger.info("paid with %s", receipt["card"])
    ctx.step.sleep("let-it-settle", "0.5s")
    packed = ctx.step.run("pack", work, 0.35)
    ctx.step.send_event("tell", {"name": "shop/order.paid", "data": {**order, "receipt": receipt}})
    return {"items": items, "receipt": receipt, "packed_in_s": packed}


@fanout.function(trigger=fanout.on("shop/order"))
def send_receipt(ctx: Context) -> str:
    ctx.step.run("render", work, 0.12)
    ctx.step.run("mail", work, 0.2)
    return "sent"


@fanout.function(trigger=[fanout.on("shop/order"), fanout.on("shop/order.paid")])
def update_ledger(ctx: Context) -> None:
    ctx.step.run("write", work, 0.06)


@fanout.function()
def book_courier(ctx: Context) -> str:
    if ctx.event.data["to"] == "the moon":
        raise fanout.NonRetriableError("no courier goes to the moon")
    ctx.step.run("book", work, 0.3)
    return f"a courier to {ctx.event.data['to']}"


@fanout.function(trigger=fanout.on("shop/order.paid"))
def ship_order(ctx: Context) -> dict[str, Any]:
    ctx.step.run("label", work, 0.15)
    parcels = [{"to": place} for place in ctx.event.data.get("to", ["Berlin"])]
    booked = ctx.step.map("couriers", book_courier, parcels, on_error="collect")
    ctx.step.send_event("shipped", {"name": "shop/shipped", "data": {"parcels": len(booked)}})
    return {"parcels": len(booked)}


@fanout.function(trigger=fanout.on("shop/shipped"), cancel_on=[fanout.CancelOn("shop/returned", match="data.number")])
def ask_review(ctx: Context) -> bool:
    return ctx.step.wait_for_event("review", event="shop/reviewed", timeout="3d") is not None


@fanout.function(trigger=fanout.cron("*/15 * * * *"))
def reconcile(ctx: Context) -> None:
    ctx.step.run("compare", work, 0.1)


def load_items(items: list[str]) -> list[str]:
    time.sleep(0.08)
    return items


def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def charge_card(run: str, fails: int) -> dict[str, str]:
    time.sleep(0.18)
    TRIES[run] = TRIES.get(run, 0) + 1
    if TRIES[run] <= fails:
        raise ConnectionError("the bank did not answer")
    return {"card": "•••• 4242", "amount": "48.90 EUR"}
