"""Functions run here with the real engine, but without files, processes, or time that passes."""

from datetime import UTC, datetime

from fanout.testing import Project, run

from functions import digest

SUNDAY = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


def test_the_schedule_starts_a_digest_for_each_user() -> None:
    project = Project(digest, now=SUNDAY)
    project.stub(
        digest.plan_digests, {"load-users": [{"id": "usr_1", "email": "a@b.c"}, {"id": "usr_2", "email": "d@e.f"}]}
    )

    project.advance("1 day")

    assert project.run(digest.plan_digests).output == 2
    assert [run.state for run in project.runs_of(digest.send_digest)] == ["completed", "completed"]


def test_a_digest_names_its_day() -> None:
    sent = []

    def send(address: str, subject: str) -> str:
        sent.append((address, subject))
        return "message-1"

    event = {"name": "app/digest.due", "data": {"user": digest.load_users()[0]}, "ts": 1_774_800_000_000}
    result = run(digest.send_digest, event, steps={"send-email": send})

    assert result.output == {"message_id": "message-1"}
    assert sent == [("ada@example.com", "Your digest of 29 March 2026")]
