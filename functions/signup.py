"""Somebody signed up: four functions hear of it, and run at once.

Each stands alone. A mail server that is down delays the e-mail and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import fanout
from fanout import AsyncContext, Context, Event, NonRetriableError, RetryAfterError

STORE = Path(".fanout")
TRIAL_DAYS = {"starter": 14, "team": 30}


# One step: it runs until it has succeeded once. Later attempts and replays are given its recorded result.
@fanout.function(trigger=fanout.on("app/user.signup"), retries=3)
def send_welcome_email(ctx: Context) -> dict[str, str]:
    user = user_of(ctx.event)
    return ctx.step.run("send-email", send_email, user, ctx.event.id, ctx.event.ts)


# Two steps: if the second fails, only the second is tried again.
@fanout.function(trigger=fanout.on("app/user.signup"))
def start_trial(ctx: Context) -> dict[str, str]:
    user = user_of(ctx.event)
    trial = ctx.step.run("compute-trial", compute_trial, ctx.event.data.get("plan", "starter"), ctx.event.ts)
    ctx.step.run("record-trial", upsert, STORE / "trials.jsonl", {"id": user["id"], **trial})
    ctx.logger.info("the trial of %s ends on %s", user["name"], trial["ends"])
    return trial


# A step that can't go on now says when to come back. To see it: `touch .fanout/crm/maintenance`
@fanout.function(trigger=fanout.on("app/user.signup"), retries=5)
def sync_crm(ctx: Context) -> dict[str, str]:
    user = user_of(ctx.event)
    change = ctx.step.run("upsert-contact", upsert_contact, user)
    return {"contact": user["id"], "change": change}


# The same in async. What a step calls may be async too; a plain function, as here, gets a thread and blocks nobody.
@fanout.function(trigger=fanout.on("app/user.signup"))
async def add_to_mailing_list(ctx: AsyncContext) -> dict[str, str]:
    user = user_of(ctx.event)
    address = await ctx.step.run("validate-address", valid_address, user["email"])
    change = await ctx.step.run("subscribe", add_line, STORE / "mailing-list.txt", address)
    return {"address": address, "change": change}


def user_of(event: Event) -> dict[str, str]:
    """The user in the event, checked. What is missing now is missing in every attempt, so there is no other one."""
    user = event.data.get("user")
    if not isinstance(user, dict):
        raise NonRetriableError(f"`data.user` has to be an object with `id`, `name` and `email`, not {user!r}")
    for field in ("id", "name", "email"):
        value = user.get(field)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise NonRetriableError(f"`data.user.{field}` has to be text on one line, not {value!r}")
    return {field: user[field].strip() for field in ("id", "name", "email")}


def valid_address(text: str) -> str:
    """The address with its domain in lower case, so that one mailbox is one line of the list."""
    if not re.fullmatch(r"[\w+-]+(\.[\w+-]+)*@[\w-]+(\.[\w-]+)+", text, re.ASCII):
        raise NonRetriableError(f"`{text}` is not an e-mail address")
    mailbox, domain = text.split("@")
    return f"{mailbox}@{domain.lower()}"


def send_email(user: dict[str, str], event_id: str, ts: int) -> dict[str, str]:
    """Send through the server in `SMTP_HOST` (`host` or `host:port`); without one, write a file to look at."""
    message = welcome_email(user["name"], valid_address(user["email"]), event_id, ts)
    message_id = message["Message-ID"].strip("<>")
    host = os.environ.get("SMTP_HOST")
    if not host:
        file = STORE / "outbox" / f"{message_id}.eml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(message))
        return {"message_id": message_id, "sent_to": str(file)}
    try:
        # A server that is down raises here. Nothing catches that: it is what retries are for.
        with smtplib.SMTP(host, timeout=10) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as refused:
        [(address, (code, reason))] = refused.recipients.items()
        if code < 500:  # noqa: PLR2004 - SMTP's own border: 4xx may pass later, 5xx never will
            raise
        raise NonRetriableError(
            f"`{host}` refuses mail to `{address}`: {code} {reason.decode(errors='replace')}"
        ) from refused
    return {"message_id": message_id, "sent_to": host}


def welcome_email(name: str, address: str, event_id: str, ts: int) -> EmailMessage:
    """A step can run twice, when a worker dies after sending and before saying so.

    So all of the message comes from the event, its id included: a mailbox can tell the second one by that,
    and a file is written over. The event's id itself may hold any character; the uuid made from it is safe.
    """
    message = EmailMessage()
    message["Message-ID"] = f"<welcome.{uuid5(NAMESPACE_OID, event_id)}@example.com>"
    message["Date"] = format_datetime(datetime.fromtimestamp(ts / 1000, UTC))
    message["From"] = Address("The example app", addr_spec="hello@example.com")
    message["To"] = Address(name, addr_spec=address)
    message["Subject"] = f"Welcome, {name}"
    message.set_content(f"Hello {name},\n\nyour account is ready. Answer this e-mail if you need a hand.\n")
    return message


def compute_trial(plan: str, ts: int) -> dict[str, str]:
    """Count from the event's time, not from now: a retry tomorrow must not give away a day."""
    days = TRIAL_DAYS.get(str(plan))
    if days is None:
        raise NonRetriableError(f"`data.plan` is {plan!r}, not one of {', '.join(TRIAL_DAYS)}")
    start = datetime.fromtimestamp(ts / 1000, UTC)
    end = start + timedelta(days=days)
    return {"plan": plan, "starts": f"{start:%Y-%m-%d}", "ends": f"{end:%Y-%m-%d}"}


def upsert_contact(user: dict[str, str]) -> str:
    crm = STORE / "crm"
    if (crm / "maintenance").exists():
        raise RetryAfterError("the CRM is being maintained", retry_after=5)
    return upsert(crm / "contacts.jsonl", user)


def upsert(file: Path, record: dict[str, Any]) -> str:
    """Insert or replace by id. Done twice it is as if done once, which makes it a safe step."""
    with locked_lines(file) as lines:
        ids = [json.loads(line)["id"] for line in lines]
        line = json.dumps(record)
        if record["id"] not in ids:
            lines.append(line)
            return "created"
        lines[ids.index(record["id"])] = line
        return "updated"


def add_line(file: Path, line: str) -> str:
    with locked_lines(file) as lines:
        if line in lines:
            return "already there"
        lines.append(line)
        return "added"


@contextmanager
def locked_lines(file: Path) -> Iterator[list[str]]:
    """The file's lines, to change in place. Functions run in many processes: one at a time gets in here.

    The rename makes the change whole: whoever reads, or dies, in the middle of it finds the old file or the new one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        yield lines
        new = file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        new.replace(file)
