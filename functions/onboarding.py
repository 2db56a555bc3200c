"""One function that goes on for days: it welcomes a user, waits for them to begin, and nudges them if they don't.

    fanout send functions/events/onboarding.json              # the welcome; then it waits, for up to 3 days
    fanout runs --status waiting                              # there it is, on disk, and nothing is running
    fanout send functions/events/onboarding_activated.json    # Ada has begun: the run ends without a nudge

For a nudge when its time comes, an engine has to run then (`fanout serve`); otherwise the next `fanout send` does it
late. An event may bring a shorter `patience`, as for Grace, who has 5 seconds:

    fanout send functions/events/onboarding_impatient.json

A user who is deleted hears no more: instead of the activation, send `onboarding_deleted.json`. And an address that is
none makes the run fail, which is then recorded in `.fanout/onboarding-failures.jsonl`:

    fanout send --name app/user.joined --data '{"user": {"id": "usr_3", "name": "Tim", "email": "tim"}}'
"""

from __future__ import annotations

import json
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

import fanout
from fanout import CancelOn, Context, NonRetriableError

OUTBOX = Path(".fanout/outbox")
FAILURES = Path(".fanout/onboarding-failures.jsonl")


# Runs once when a run of `onboard_user` has failed for good. Its event says which, why, and what had started it.
def record_failure(ctx: Context) -> None:
    failed = ctx.event.data
    user = failed["event"]["data"].get("user")
    ctx.step.run("record", append, FAILURES, {"run": failed["run_id"], "user": user, "why": failed["error"]["message"]})


# `match` is a path that has to lead to the same value in both events: this user's deletion, or activation, and not
# somebody else's.
@fanout.function(
    trigger=fanout.on("app/user.joined"),
    cancel_on=[CancelOn("app/user.deleted", match="data.user.id")],
    on_failure=record_failure,
)
def onboard_user(ctx: Context) -> dict[str, bool]:
    user, patience = ctx.event.data["user"], ctx.event.data.get("patience", "3d")
    ctx.step.run("send-welcome", send_email, user, f"welcome.{ctx.run_id}", "Welcome! Your account is ready.")
    # Only an event that comes from now on counts. None if there was none in time.
    activated = ctx.step.wait_for_event(
        "wait-for-activation", event="app/user.activated", match="data.user.id", timeout=patience
    )
    if activated is None:
        ctx.step.run("send-nudge", send_email, user, f"nudge.{ctx.run_id}", "Can we help you to begin?")
    return {"activated": activated is not None, "nudged": activated is None}


def send_email(user: dict[str, str], mail_id: str, text: str) -> str:
    """Written to a file to look at. Its name depends on the run only: written twice, it is still one mail."""
    if "@" not in user["email"]:
        raise NonRetriableError(f"`{user['email']}` is not an e-mail address")  # nor will it be at the next attempt
    message = EmailMessage()
    message["Message-ID"] = f"<{mail_id}@example.com>"
    message["To"] = Address(user["name"], addr_spec=user["email"])
    message["Subject"] = text
    message.set_content(f"Hello {user['name']},\n\n{text}\n")
    OUTBOX.mkdir(parents=True, exist_ok=True)
    file = OUTBOX / f"{mail_id}.eml"
    file.write_bytes(bytes(message))
    return str(file)


def append(file: Path, record: dict[str, object]) -> None:
    """A line more. Should a worker die in between, the line may be there twice; the run's id in it tells."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{json.dumps(record)}\n")
