"""Functions run here alone, with the real engine, but without files, processes, or time that passes."""

from fanout.testing import Project, in_turn, run

from functions import signup

ADA = {"id": "usr_1", "name": "Ada", "email": "ada@example.com"}


def test_the_welcome_is_sent() -> None:
    result = run(signup.send_welcome_email, data={"user": ADA}, steps={"send-email": "message-1"})

    assert result.output == {"message_id": "message-1"}


def test_a_mail_server_that_is_down_for_a_moment_is_asked_again() -> None:
    answers = in_turn(ConnectionError("down"), "message-1")
    result = run(signup.send_welcome_email, data={"user": ADA}, steps={"send-email": answers})

    assert result.state == "completed"
    assert result.steps["send-email"].attempts == 2


def test_one_event_starts_them_all_and_a_failure_stays_alone() -> None:
    project = Project(signup)
    project.stub(signup.sync_crm, {"upsert-contact": ConnectionError("the CRM is down")})

    project.send("app/user.signup", data={"user": ADA})
    project.finish()

    assert {run.function: run.state for run in project.runs} == {
        "send-welcome-email": "completed",
        "start-trial": "completed",
        "sync-crm": "failed",
    }
