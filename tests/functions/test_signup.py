from __future__ import annotations

import email.policy
import json
import re
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fanout import NonRetriableError, RetryAfterError
from functions.signup import add_line, add_to_mailing_list, send_welcome_email, start_trial, sync_crm, valid_address

if TYPE_CHECKING:
    from tests.functions.conftest import MailServer, Runner

ADA = {"id": "usr_1", "name": "Ada Lovelace", "email": "ada@example.com"}
SIGNUP = {"user": ADA, "plan": "team"}
EVENTS = Path(__file__).parents[2] / "functions" / "events"
MESSAGE_ID = "welcome.65169efb-a3a2-5837-ad5b-d1954a92eccd@example.com"


def signup(**changes: str) -> dict[str, Any]:
    return {"user": {**ADA, **changes}}


def outbox() -> list[Path]:
    return sorted(Path(".fanout/outbox").glob("*"))


def headers_and_text(message: bytes) -> tuple[dict[str, str], str]:
    parsed = message_from_bytes(message, policy=email.policy.default)
    text = parsed.get_content().replace("\r\n", "\n")
    return {name: str(parsed[name]) for name in ("Message-ID", "Date", "From", "To", "Subject")}, text


WELCOME = (
    {
        "Message-ID": f"<{MESSAGE_ID}>",
        "Date": "Thu, 09 Oct 2025 08:53:20 +0000",
        "From": "The example app <hello@example.com>",
        "To": "Ada Lovelace <ada@example.com>",
        "Subject": "Welcome, Ada Lovelace",
    },
    "Hello Ada Lovelace,\n\nyour account is ready. Answer this e-mail if you need a hand.\n",
)


def test_the_welcome_goes_through_the_mail_server(run: Runner, mail_server: MailServer) -> None:
    receipt = run(send_welcome_email, SIGNUP)

    assert receipt == {"message_id": MESSAGE_ID, "sent_to": mail_server.host}
    assert [headers_and_text(message) for message in mail_server.received] == [WELCOME]
    assert run.steps == ["send-email"]
    assert outbox() == []


def test_the_welcome_is_a_file_where_there_is_no_mail_server(run: Runner) -> None:
    receipt = run(send_welcome_email, SIGNUP)

    assert receipt == {"message_id": MESSAGE_ID, "sent_to": f".fanout/outbox/{MESSAGE_ID}.eml"}
    assert headers_and_text(Path(receipt["sent_to"]).read_bytes()) == WELCOME


def test_a_repeated_welcome_takes_the_place_of_the_first(run: Runner) -> None:
    assert run(send_welcome_email, SIGNUP) == run(send_welcome_email, SIGNUP)
    assert len(outbox()) == 1


@pytest.mark.parametrize("event_id", ["evt_2", "../../etc/passwd", "a b\n<c>@d", "é" * 200])
def test_any_event_id_makes_a_message_of_its_own(run: Runner, event_id: str) -> None:
    receipts = [run(send_welcome_email, SIGNUP), run(send_welcome_email, SIGNUP, event_id=event_id)]

    assert outbox() == sorted(Path(receipt["sent_to"]) for receipt in receipts)
    assert len(outbox()) == 2


def test_a_name_that_is_not_ascii_arrives_whole(run: Runner, mail_server: MailServer) -> None:
    run(send_welcome_email, signup(name="Zoë, Κόσμος"))

    headers, text = headers_and_text(mail_server.received[0])
    assert headers["To"] == '"Zoë, Κόσμος" <ada@example.com>'
    assert text.startswith("Hello Zoë, Κόσμος,\n")


def test_a_refused_recipient_is_not_tried_again(run: Runner, mail_server: MailServer) -> None:
    mail_server.refusals["ada@example.com"] = "550 no such mailbox"

    with pytest.raises(NonRetriableError) as raised:
        run(send_welcome_email, SIGNUP)
    assert str(raised.value) == f"`{mail_server.host}` refuses mail to `ada@example.com`: 550 no such mailbox"


def test_a_recipient_refused_for_now_is_tried_again(run: Runner, mail_server: MailServer) -> None:
    mail_server.refusals["ada@example.com"] = "451 come back later"

    with pytest.raises(smtplib.SMTPRecipientsRefused):
        run(send_welcome_email, SIGNUP)


def test_a_mail_server_that_is_down_is_tried_again(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SMTP_HOST", f"127.0.0.1:{bound_but_deaf.getsockname()[1]}")
        with pytest.raises(ConnectionRefusedError):
            run(send_welcome_email, SIGNUP)


@pytest.mark.parametrize(
    ("plan", "ends"),
    [({"plan": "team"}, "2025-11-08"), ({"plan": "starter"}, "2025-10-23"), ({}, "2025-10-23")],
)
def test_a_trial_is_counted_from_the_event(run: Runner, plan: dict[str, str], ends: str) -> None:
    trial = {"plan": plan.get("plan", "starter"), "starts": "2025-10-09", "ends": ends}

    assert run(start_trial, {"user": ADA, **plan}) == trial
    assert run.steps == ["compute-trial", "record-trial"]
    assert json.loads(Path(".fanout/trials.jsonl").read_text()) == {"id": "usr_1", **trial}


@pytest.mark.parametrize("plan", ["gold", None, ["team"]])
def test_an_unknown_plan_is_named(run: Runner, plan: object) -> None:
    with pytest.raises(NonRetriableError, match=re.escape(f"`data.plan` is {plan!r}, not one of starter, team")):
        run(start_trial, {"user": ADA, "plan": plan})


def test_a_contact_is_created_once_and_then_updated(run: Runner) -> None:
    signups = [signup(), signup(id="usr_2", name="Grace Hopper"), signup(name="Ada King-Lovelace")]

    assert [run(sync_crm, each)["change"] for each in signups] == ["created", "created", "updated"]
    contacts = [json.loads(line) for line in Path(".fanout/crm/contacts.jsonl").read_text().splitlines()]
    assert contacts == [{**ADA, "name": "Ada King-Lovelace"}, {**ADA, "id": "usr_2", "name": "Grace Hopper"}]


def test_a_crm_in_maintenance_says_when_to_come_back(run: Runner) -> None:
    Path(".fanout/crm").mkdir(parents=True)
    Path(".fanout/crm/maintenance").touch()

    with pytest.raises(RetryAfterError) as raised:
        run(sync_crm, SIGNUP)
    assert raised.value.delay_ms() == 5000


def test_an_address_is_on_the_list_once(run: Runner) -> None:
    first, second = run(add_to_mailing_list, signup(email="ada@EXAMPLE.com")), run(add_to_mailing_list, SIGNUP)

    assert first == {"address": "ada@example.com", "change": "added"}
    assert second == {"address": "ada@example.com", "change": "already there"}
    assert run.steps == ["validate-address", "subscribe"]
    assert Path(".fanout/mailing-list.txt").read_text() == "ada@example.com\n"


def test_lines_added_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: add_line(file, str(number)), range(50)))

    assert sorted(file.read_text().splitlines(), key=int) == [str(number) for number in range(50)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["list.lock", "list.txt"]


@pytest.mark.parametrize("text", ["ada", "ada@", "@c.de", "ada@example", "a@b@c.de", "a..b@c.de", "a@c.de, e@f.gh"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(NonRetriableError, match=re.escape(f"`{text}` is not an e-mail address")):
        valid_address(text)


@pytest.mark.parametrize("function", [send_welcome_email, start_trial, sync_crm, add_to_mailing_list])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "`data.user` has to be an object with `id`, `name` and `email`, not None"),
        ({"user": "Ada"}, "`data.user` has to be an object with `id`, `name` and `email`, not 'Ada'"),
        ({"user": {"id": "usr_1"}}, "`data.user.name` has to be text on one line, not None"),
        (signup(id=" "), "`data.user.id` has to be text on one line, not ' '"),
        (signup(name="A\nBcc: b@c.de"), r"`data.user.name` has to be text on one line, not 'A\nBcc: b@c.de'"),
    ],
)
def test_an_event_without_a_user_fails_at_once(run: Runner, function: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(NonRetriableError) as raised:
        run(function, data)
    assert str(raised.value) == message
    assert run.steps == []


def test_the_events_in_the_folder_work(run: Runner) -> None:
    lines = [(EVENTS / "signup.json").read_text(), *(EVENTS / "signups.ndjson").read_text().splitlines()]
    for line in lines:
        event = json.loads(line)
        assert event["name"] == "app/user.signup"
        for function in (send_welcome_email, start_trial, sync_crm, add_to_mailing_list):
            run(function, event["data"], event_id=event["data"]["user"]["id"])

    assert len(outbox()) == len(Path(".fanout/mailing-list.txt").read_text().splitlines()) == len(lines) == 6
