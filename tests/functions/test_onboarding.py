from __future__ import annotations

import json
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.functions.conftest import Examples

EVENTS = Path(__file__).parents[2] / "functions" / "events"


def states(run: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in run["steps"]}


def started(examples: Examples, **data: Any) -> str:
    """A run that waits; its id."""
    result = examples.send_file("onboarding.json", **data)
    [run] = result.json()["runs"]
    assert (result.code, run["state"]) == (0, "waiting")
    assert states(run) == {"send-welcome": "completed", "wait-for-activation": "waiting"}
    return str(run["id"])


def test_who_begins_is_not_nudged(examples: Examples) -> None:
    run_id = started(examples)
    assert examples.send_file("onboarding_activated.json").code == 0

    [run] = examples.runs_of(run_id)
    assert (run["state"], run["output"]) == ("completed", {"activated": True, "nudged": False})
    assert states(run) == {"send-welcome": "completed", "wait-for-activation": "completed"}
    assert examples.outbox() == [f"welcome.{run_id}.eml"]


def test_somebody_elses_beginning_is_not_taken_for_theirs(examples: Examples) -> None:
    run_id = started(examples)
    examples.send_file("onboarding_activated.json", user={"id": "usr_7"})
    examples.send_file("onboarding_deleted.json", user={"id": "usr_7"})

    [run] = examples.runs_of(run_id)
    assert run["state"] == "waiting"


def test_who_does_not_begin_in_time_is_nudged(examples: Examples) -> None:
    result = examples.send_file("onboarding_impatient.json", patience="10ms")

    [run] = result.json()["runs"]
    assert (result.code, run["output"]) == (0, {"activated": False, "nudged": True})
    assert examples.outbox() == [f"nudge.{run['id']}.eml", f"welcome.{run['id']}.eml"]
    nudge = message_from_string((examples.root / ".fanout" / "outbox" / f"nudge.{run['id']}.eml").read_text())
    assert (nudge["To"], nudge["Subject"]) == ("Grace Hopper <grace@example.com>", "Can we help you to begin?")


def test_who_is_deleted_hears_no_more(examples: Examples) -> None:
    run_id = started(examples)
    examples.send_file("onboarding_deleted.json")
    examples.send_file("onboarding_activated.json")

    [run] = examples.runs_of(run_id)
    assert run["state"] == "cancelled"
    assert states(run) == {"send-welcome": "completed", "wait-for-activation": "cancelled"}
    assert examples.outbox() == [f"welcome.{run_id}.eml"]


def test_a_failure_is_recorded_once(examples: Examples) -> None:
    user = {"id": "usr_3", "name": "Tim", "email": "tim"}
    result = examples.send_file("onboarding.json", user=user)

    assert result.code == 1
    failed, handler = result.json()["runs"]
    assert (failed["function"], failed["state"]) == ("onboard-user", "failed")
    assert (handler["function"], handler["state"]) == ("onboard-user-on-failure", "completed")
    [line] = (examples.root / ".fanout" / "onboarding-failures.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "run": failed["id"],
        "user": user,
        "why": "step `send-welcome` failed: NonRetriableError: `tim` is not an e-mail address",
    }


def test_a_mail_that_is_written_twice_is_one_mail(examples: Examples) -> None:
    examples.disturb("""
        from functions import onboarding

        fn = onboarding.send_email

        @wraps(fn)
        def disturbed(user, mail_id, text):
            result = fn(user, mail_id, text)
            if is_first(mail_id):
                raise ConnectionError("lost")
            return result

        onboarding.send_email = disturbed
    """)
    result = examples.send_file("onboarding.json", patience="10ms")

    [run] = result.json()["runs"]
    assert [(step["name"], step["attempts"]) for step in run["steps"]] == [
        ("send-welcome", 2),
        ("wait-for-activation", 1),
        ("send-nudge", 2),
    ]
    assert len(examples.outbox()) == 2


@pytest.mark.parametrize("name", ["onboarding_activated.json", "onboarding_deleted.json"])
def test_the_events_in_the_folder_are_about_one_user(name: str) -> None:
    begun, about = (json.loads((EVENTS / each).read_text())["data"]["user"]["id"] for each in ("onboarding.json", name))

    assert begun == about
