from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from functions.weekly_activity import load_activity, load_users

if TYPE_CHECKING:
    from tests.functions.conftest import Examples

THURSDAY = 1_760_000_000_000  # 9 October 2025, 08:53:20 UTC
MAIL = """\
Message-ID: <weekly-activity.2025-W41.usr_3@example.com>
To: Barbara <barbara.3@example.com>
Subject: Your week 2025-W41
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 7bit
MIME-Version: 1.0

Hello Barbara,

this is what you did:

   9 comments
  27 documents
  29 reviews
"""


def request(users: int, id_: str = "request") -> str:
    """An event whose week is known."""
    return json.dumps({"id": id_, "name": "app/weekly-activity.requested", "ts": THURSDAY, "data": {"users": users}})


def mails(users: int) -> list[str]:
    return sorted(f"weekly-activity.2025-W41.usr_{number}@example.com.eml" for number in range(1, users + 1))


def test_every_user_gets_one_mail(examples: Examples) -> None:
    result = examples.fanout("send", "-", "--json", stdin=request(5))

    assert result.code == 0
    load, *sent = result.json()["runs"]
    assert (load["function"], load["output"]) == ("weekly-activity-load-users", {"week": "2025-W41", "users": 5})
    assert [run["function"] for run in sent] == ["weekly-activity-send-email"] * 5
    assert [step["name"] for step in sent[0]["steps"]] == ["load-activity", "send-email"]
    assert examples.outbox() == mails(5)
    assert (examples.root / sent[2]["output"]["sent_to"]).read_text() == MAIL


def test_every_user_gets_one_mail_although_each_step_fails_once(examples: Examples) -> None:
    examples.disturb("""
        from functions import weekly_activity

        def fails_once(name):
            fn = getattr(weekly_activity, name)

            @wraps(fn)
            def disturbed(*args):
                result = fn(*args)  # done, and then it can't say so
                if is_first(f"{name}-{args[0]['id'] if name == 'send_email' else args[0]}"):
                    raise ConnectionError("lost")
                return result

            setattr(weekly_activity, name, disturbed)

        for name in ("load_users", "load_activity", "send_email"):
            fails_once(name)
    """)
    result = examples.fanout("send", "-", "--json", stdin=request(5))

    assert result.code == 0
    runs = result.json()["runs"]
    assert len(runs) == 6
    attempts = {(step["name"], step["attempts"]) for run in runs for step in run["steps"]}
    assert attempts == {("load-users", 2), ("send-events", 1), ("load-activity", 2), ("send-email", 2)}
    assert examples.outbox() == mails(5)


def test_who_asks_twice_mails_nobody_twice(examples: Examples) -> None:
    examples.fanout("send", "-", stdin=request(3))
    result = examples.fanout("send", "-", "--json", stdin=request(5, "again"))

    # The users are told apart, not the requests: the two who are new get theirs.
    assert [run["function"] for run in result.json()["runs"]] == [
        "weekly-activity-load-users",
        "weekly-activity-send-email",
        "weekly-activity-send-email",
    ]
    assert examples.outbox() == mails(5)


def test_an_interrupted_send_goes_on_with_the_next(examples: Examples) -> None:
    examples.disturb("""
        import signal
        from functions import weekly_activity

        fn = weekly_activity.load_users

        @wraps(fn)
        def interrupted(number):
            if is_first("interrupt"):
                os.kill(os.getppid(), signal.SIGINT)
            return fn(number)

        weekly_activity.load_users = interrupted
    """)
    stopped = examples.fanout("send", "-", stdin=request(5))
    assert (stopped.code, examples.outbox()) == (130, [])
    assert examples.send("app/nobody.listens").code == 0

    assert examples.outbox() == mails(5)
    runs = examples.runs_of("request")
    assert [run["state"] for run in runs] == ["completed"] * 6
    assert {step["attempts"] for run in runs for step in run["steps"]} == {1}


@pytest.mark.parametrize("users", ["all", -1, 1.5, None])
def test_what_is_no_number_of_users_fails_at_once(examples: Examples, users: object) -> None:
    result = examples.send("app/weekly-activity.requested", {"users": users})

    [run] = result.json()["runs"]
    assert (result.code, run["steps"][0]["attempts"]) == (1, 1)
    assert run["error"]["message"] == (
        f"step `load-users` failed: NonRetriableError: `data.users` has to be a number of users, not {users!r}"
    )


def test_users_and_activity_are_the_same_at_every_attempt() -> None:
    assert load_users(30) == load_users(40)[:30]
    assert len({user["email"] for user in load_users(30)}) == 30
    assert load_activity("usr_1", "2025-W41") == load_activity("usr_1", "2025-W41")
    assert load_activity("usr_1", "2025-W41") != load_activity("usr_1", "2025-W42")


def test_the_event_in_the_folder_works(examples: Examples) -> None:
    result = examples.send_file("weekly_activity.json")

    assert {run["state"] for run in result.json()["runs"]} == {"completed"}
    assert len(examples.outbox()) == 12
