"""A digest on every working day: a schedule finds the users, and each of them is a run of its own.

fanout cron next plan-digests
fanout send functions/events/digest.json
"""

from datetime import UTC, datetime
from typing import TypedDict

import fanout
from fanout import Context


class User(TypedDict):
    id: str
    email: str


# At nine on working days, UTC (or `tz="Europe/Berlin"`, summer and winter), and whenever someone sends the event.
# A tick that is missed because nothing is running comes later, once.
@fanout.function(trigger=[fanout.cron("0 9 * * mon-fri"), fanout.on("app/digests.requested")])
def plan_digests(ctx: Context) -> int:
    users = ctx.step.run("load-users", load_users)
    # Events that a step sends are stored together with its record: all of them, and once, whatever is killed.
    ctx.step.send_event("plan", [{"name": "app/digest.due", "data": {"user": user}} for user in users])
    return len(users)


# One address that fails delays nobody else's digest.
@fanout.function(trigger=fanout.on("app/digest.due"))
def send_digest(ctx: Context) -> dict[str, str]:
    user: User = ctx.event.data["user"]
    # From the event's time, not from now: the code between steps may run again tomorrow.
    day = f"{datetime.fromtimestamp(ctx.event.ts / 1000, UTC):%d %B %Y}"
    return {"message_id": ctx.step.run("send-email", send_email, user["email"], f"Your digest of {day}")}


# What the steps do. Put your own services here; what is printed stands in `fanout logs`.


def load_users() -> list[User]:
    return [{"id": f"usr_{name}", "email": f"{name}@example.com"} for name in ("ada", "alan", "grace")]


def send_email(address: str, subject: str) -> str:
    print(f"to {address}: {subject}")
    return f"digest-{address}"
