"""Someone has signed up: three functions start at once, each on its own.

fanout send functions/events/signup.json
"""

from typing import TypedDict

import fanout
from fanout import Context


class User(TypedDict):
    id: str
    name: str
    email: str


# Two steps, each with retries of its own. What a step has returned is recorded: if the second one fails, the function
# is run again, but the e-mail is not sent a second time.
@fanout.function(trigger=fanout.on("app/user.signup"), retries=3)
def send_welcome_email(ctx: Context) -> dict[str, str]:
    user: User = ctx.event.data["user"]
    message_id = ctx.step.run("send-email", send_email, user["email"], f"Welcome, {user['name']}!")
    ctx.step.run("log-receipt", log_receipt, user["id"], message_id)
    return {"message_id": message_id}


@fanout.function(trigger=fanout.on("app/user.signup"), retries=3)
def start_trial(ctx: Context) -> dict[str, str]:
    user: User = ctx.event.data["user"]
    plan = ctx.event.data.get("plan", "starter")
    return ctx.step.run("create-subscription", create_subscription, user["id"], plan)


@fanout.function(trigger=fanout.on("app/user.signup"), retries=3)
def sync_crm(ctx: Context) -> None:
    ctx.step.run("upsert-contact", upsert_contact, ctx.event.data["user"])


# What the steps do. Put your own services here; what is printed stands in `fanout logs`.


def send_email(address: str, subject: str) -> str:
    print(f"to {address}: {subject}")
    return f"welcome-{address}"


def log_receipt(user_id: str, message_id: str) -> None:
    print(f"{user_id} has got {message_id}")


def create_subscription(user_id: str, plan: str) -> dict[str, str]:
    return {"subscription": f"sub_{user_id}", "plan": plan}


def upsert_contact(user: User) -> None:
    print(f"contact: {user['name']} <{user['email']}>")
