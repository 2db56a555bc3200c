"""One event for each of many users, and so one run for each: fan-out.

    fanout send functions/events/weekly_activity.json
    ls .fanout/outbox

One function finds the users and sends an event for each of them; another one listens to that event and mails one
user. Each mail is a run of its own, with retries of its own: an address that fails delays nobody else's mail.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import TypedDict

import fanout
from fanout import Context, NonRetriableError

OUTBOX = Path(".fanout/outbox")
NAMES = ["Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Hedy", "John", "Margaret", "Niklaus", "Radia", "Tim"]


class User(TypedDict):
    id: str
    name: str
    email: str


# Two steps. If the second one fails, the users are not loaded again: both steps speak of the same list.
@fanout.function(trigger=fanout.on("app/weekly-activity.requested"))
def weekly_activity_load_users(ctx: Context) -> dict[str, str | int]:
    # From the event's time, not from now: the code between steps may run again tomorrow, or in another week.
    week = f"{datetime.fromtimestamp(ctx.event.ts / 1000, UTC):%G-W%V}"
    users = ctx.step.run("load-users", load_users, ctx.event.data.get("users", len(NAMES)))
    # The events are stored together with the record of this step: all of them, and once, whatever is killed.
    # One call takes up to 5,000.
    ctx.step.send_event("send-events", [one_users_event(user, week) for user in users])
    return {"week": week, "users": len(users)}


# The text needs no step: it is quick, and always the same for the same activity.
@fanout.function(trigger=fanout.on("app/send.weekly.activity"))
def weekly_activity_send_email(ctx: Context) -> dict[str, str]:
    user, week = ctx.event.data["user"], ctx.event.data["week"]
    activity = ctx.step.run("load-activity", load_activity, user["id"], week)
    text = "".join(f"{number:>4} {what}\n" for what, number in activity.items())
    return ctx.step.run("send-email", send_email, user, week, text)


def one_users_event(user: User, week: str) -> dict[str, object]:
    """The id keeps a second request on the same day from mailing everybody twice.

    An event whose id came within the last 24 hours starts nothing. What has failed is for `fanout replay --failed`.
    """
    return {
        "id": f"weekly-activity/{week}/{user['id']}",
        "name": "app/send.weekly.activity",
        "data": {"user": user, "week": week},
    }


def load_users(number: int) -> list[User]:
    """So many users, always the same ones. In a real project this is a query."""
    if not isinstance(number, int) or number < 0:
        raise NonRetriableError(f"`data.users` has to be a number of users, not {number!r}")
    names = [NAMES[n % len(NAMES)] for n in range(number)]
    return [
        {"id": f"usr_{n}", "name": name, "email": f"{name.lower()}.{n}@example.com"} for n, name in enumerate(names, 1)
    ]


def load_activity(user_id: str, week: str) -> dict[str, int]:
    """Made up from the user and the week, so that it is the same whenever it is asked for."""
    numbers = random.Random(f"{user_id} {week}")  # noqa: S311 - it hides nothing
    return {what: numbers.randrange(40) for what in ("comments", "documents", "reviews")}


def send_email(user: User, week: str, text: str) -> dict[str, str]:
    """Written to a file to look at.

    This runs again if a worker dies after writing and before saying so. The file's name is made of nothing but the
    user and the week, so the second mail takes the place of the first.
    """
    message = EmailMessage()
    message["Message-ID"] = f"<weekly-activity.{week}.{user['id']}@example.com>"
    message["To"] = Address(user["name"], addr_spec=user["email"])
    message["Subject"] = f"Your week {week}"
    message.set_content(f"Hello {user['name']},\n\nthis is what you did:\n\n{text}")
    OUTBOX.mkdir(parents=True, exist_ok=True)
    file = OUTBOX / f"{message['Message-ID'].strip('<>')}.eml"
    file.write_bytes(bytes(message))
    return {"sent_to": str(file)}
