"""A project with a journal in which everything has happened that can be looked at, long ago."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fanout.model import ConcurrencyRule, EventTrigger, FlowRules, FunctionSpec
from tests.unit.filled import NOW, Filled

MINUTE = 60_000
CODE = """
from pathlib import Path

import fanout

Path(__file__).with_name("imported").touch()


@fanout.function(trigger=fanout.on("app/order.placed"), concurrency=fanout.Concurrency(5, key="event.data.shop"))
def process_order(ctx):
    ctx.step.run("reserve", int)
    ctx.step.invoke("ship", ship_order)


@fanout.function()
def ship_order(ctx):
    ctx.step.send_event("tell", {"name": "app/order.shipped"})


@fanout.function(trigger=fanout.on("app/order.placed"), retries=2)
def audit(ctx):
    ctx.step.run("write", int)


@fanout.function(trigger=fanout.on("app/order.*"))
def tell_customer(ctx):
    pass
"""
TOML = '[app]\nid = "shop"\nfunctions = ["work"]\n'
TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/library/core.py", line 10, in call
    return fn()
  File "work.py", line 24, in write
    raise OSError("the disk is full")
OSError: the disk is full
"""


def tell(root: Path) -> None:
    """Write the project's files and fill its journal."""
    (root / "work.py").write_text(CODE)
    (root / "fanout.toml").write_text(TOML)
    (root / ".fanout").mkdir()
    journal = Filled(root / ".fanout" / "journal.db")
    try:
        _functions(journal)
        _order(journal)
        _others(journal)
    finally:
        journal.close()


def _functions(journal: Filled) -> None:
    rules = FlowRules(concurrency=(ConcurrencyRule(5, "event.data.shop"),))
    for line, id_, names, flow in (
        (9, "process-order", ("app/order.placed",), rules),
        (15, "ship-order", (), FlowRules()),
        (20, "audit", ("app/order.placed",), FlowRules()),
        (25, "tell-customer", ("app/order.*",), FlowRules()),
    ):
        spec = FunctionSpec(
            id=id_, name=id_, module="work", qualname=id_.replace("-", "_"), file="work.py", line=line,
            is_async=False, app="shop", triggers=tuple(map(EventTrigger, names)), flow=flow,
        )  # fmt: skip
        text = msgspec.json.encode(spec).decode()
        journal.insert("function", id=id_, spec=text, is_present=1, loaded_at=NOW)


def _order(journal: Filled) -> None:
    """An order that was shipped and told of; its audit failed three times, and was replayed."""
    journal.event(1, "app/order.placed", data='{"order":17,"shop":"bergen","items":["cup","plate"]}')
    journal.run(1, "process-order", 1, ended_at=NOW + 1_400, output='{"shipped":true}', partition="bergen")
    journal.step(1, "reserve", started_at=NOW + 2, ended_at=NOW + 30, output='"r-17"')
    journal.step(1, "ship", kind="invoke", position=1, started_at=NOW + 31, ended_at=NOW + 1_399, output='{"box":3}')
    journal.child(2, "ship-order", 1, "ship", started_at=NOW + 40, ended_at=NOW + 1_390, output='{"box":3}')
    journal.step(2, "tell", kind="send", started_at=NOW + 1_300, ended_at=NOW + 1_301, output='["x"]')
    journal.event(2, "app/order.shipped", origin=2, received_at=NOW + 1_301, ts=NOW + 1_301)
    journal.run(3, "tell-customer", 2, queued_at=NOW + 1_301, started_at=NOW + 1_310, ended_at=NOW + 1_330)
    journal.run(4, "audit", 1, "failed", ended_at=NOW + 90_000, attempt=0, max_attempts=3)
    journal.step(4, "write", "failed", attempts=3, started_at=NOW + 2, ended_at=NOW + 90_000)
    for attempt, at in enumerate((NOW + 10, NOW + 30_000, NOW + 90_000)):
        journal.insert(
            "failure", run=4, step="write", attempt=attempt, type="OSError", message="the disk is full",
            traceback=TRACEBACK, at=at,
        )  # fmt: skip
    journal.failure(4, "", "StepError", "step `write` failed: OSError: the disk is full")
    journal.run(5, "audit", 1, replay_of=4, queued_at=NOW + 2 * MINUTE, started_at=NOW + 2 * MINUTE + 5,
                ended_at=NOW + 2 * MINUTE + 90)  # fmt: skip
    journal.step(5, "write", started_at=NOW + 2 * MINUTE + 6, ended_at=NOW + 2 * MINUTE + 80)
    journal.run(6, "tell-customer", 1, ended_at=NOW + 40)


def _others(journal: Filled) -> None:
    """One that was skipped, one that was cancelled, one that waits for the next century, and names that are traps."""
    journal.event(3, "app/order.placed", received_at=NOW + 3 * MINUTE, ts=NOW + 3 * MINUTE)
    journal.run(7, "process-order", 3, "skipped", reason="rate limit", started_at=None, queued_at=NOW + 3 * MINUTE,
                ended_at=NOW + 3 * MINUTE)  # fmt: skip
    journal.run(8, "audit", 3, "cancelled", reason="by `fanout cancel`", queued_at=NOW + 3 * MINUTE,
                started_at=NOW + 3 * MINUTE + 4, ended_at=NOW + 4 * MINUTE)  # fmt: skip
    journal.run(9, "tell-customer", 3, "waiting", queued_at=NOW + 3 * MINUTE, started_at=None,
                due_at=4_102_444_800_000)  # fmt: skip
    journal.event(4, "[red]\x1b[2J", received_at=NOW + 5 * MINUTE, ts=NOW + 5 * MINUTE, data='{"[bold]":"\\u001b[31m"}')
    journal.event(5, "app/nobody", received_at=NOW + 6 * MINUTE, ts=NOW + 6 * MINUTE)
