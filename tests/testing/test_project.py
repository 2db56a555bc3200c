"""Several functions together."""

from __future__ import annotations

import textwrap
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import Concurrency, Context, Debounce, FanoutError
from fanout.testing import Project, in_turn
from functions import onboarding, signup, weekly_activity

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
ADA = {"id": "usr_1", "name": "Ada", "email": "ada@example.com"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".fanout").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTP_HOST", raising=False)


def test_an_event_starts_all_that_listen() -> None:
    project = Project(signup)
    project.stub(signup.sync_crm, {"upsert-contact": "created"})

    runs = project.send("app/user.signup", data={"user": ADA, "plan": "team"})

    assert {run.function: run.state for run in runs} == {
        "send-welcome-email": "completed", "start-trial": "completed", "sync-crm": "completed",
        "add-to-mailing-list": "completed",
    }  # fmt: skip
    assert project.run("sync-crm").output == {"contact": "usr_1", "change": "created"}
    assert project.run(signup.start_trial).steps["compute-trial"].output["plan"] == "team"


def test_what_steps_send_starts_others() -> None:
    project = Project([weekly_activity.weekly_activity_load_users, weekly_activity.weekly_activity_send_email])

    project.send({"name": "app/weekly-activity.requested", "data": {"users": 3}})

    assert Counter(run.function for run in project.runs) == {
        "weekly-activity-load-users": 1,
        "weekly-activity-send-email": 3,
    }
    assert [event.name for event in project.events].count("app/send.weekly.activity") == 3
    project.send({"name": "app/weekly-activity.requested", "data": {"users": 3}})
    assert len(project.runs_of("weekly-activity-send-email")) == 3, "their events have ids"


def test_days_pass() -> None:
    project = Project(onboarding, now=NOW)
    project.send({"name": "app/user.joined", "data": {"user": ADA}})
    project.send("app/user.activated", data={"user": {"id": "somebody"}})
    project.advance("2 days")
    assert project.run("onboard-user").waits_for == ["wait-for-activation"]
    project.advance("1 day")

    assert project.run("onboard-user").output == {"activated": False, "nudged": True}
    assert project.now == (NOW + timedelta(days=3)).timestamp() * 1000


def test_what_has_failed_is_handled_by_its_on_failure() -> None:
    project = Project(onboarding)
    project.send("app/user.joined", data={"user": {**ADA, "email": "none"}})

    failed, handler = project.runs
    assert (failed.state, handler.function, handler.state) == ("failed", "onboard-user-on-failure", "completed")
    assert handler.event.data["run_id"] == failed.run_id


def test_schedules_tick_as_time_passes() -> None:
    @fanout.function(trigger=fanout.cron("0 9 * * mon-fri", tz="Europe/Berlin"))
    def report(ctx: Context) -> str:
        return str(ctx.event.data["scheduled_at"])[:16]

    project = Project(report, now=NOW)  # a Sunday
    assert project.runs == []
    project.advance("7 days")
    assert [run.output for run in project.runs] == [f"2026-03-0{day}T08:00" for day in range(2, 7)]
    assert project.tick(report).state == "completed"
    project.advance_to(NOW + timedelta(days=30))
    assert project.runs[-1].output == "2026-03-31T07:00", "summer time has begun"


def test_retries_take_their_time() -> None:
    @fanout.function(trigger=fanout.on("a"), backoff=[60, 3600])
    def f(ctx: Context) -> int:
        return ctx.step.run("one", lambda: 1)

    project = Project(f, steps={"one": in_turn(OSError("x"), OSError("y"), 2)})
    project.send("a")
    for span, attempts in (("59s", 1), ("1s", 2), ("59m", 2), ("1m", 3)):
        project.advance(span)
        assert project.run(f).steps["one"].attempts == attempts
    assert project.run(f).output == 2


def test_limits_hold() -> None:
    @fanout.function(trigger=fanout.on("a"), concurrency=Concurrency(1), throttle=fanout.Throttle(1, 60))
    def slow(ctx: Context) -> None:
        pass

    @fanout.function(trigger=fanout.on("a"), debounce=Debounce("10s"))
    def last(ctx: Context) -> int:
        return int(ctx.event.data["n"])

    project = Project(slow, last)
    project.send(*({"name": "a", "data": {"n": n}} for n in range(3)))
    assert Counter(run.state for run in project.runs_of(slow)) == {"completed": 1, "queued": 2}
    project.advance("2m")
    assert Counter(run.state for run in project.runs) == {"completed": 4}
    assert project.run(last).output == 2


def test_crashes_lose_nothing_and_double_nothing() -> None:
    sent: list[str] = []

    def mail(user: Any, *_rest: Any) -> str:
        sent.append(user["id"])
        return "sent"

    project = Project(
        weekly_activity, steps={"send-email": mail}, crash_after=["send-events", "load-activity", "send-email"]
    )
    project.send("app/weekly-activity.requested", data={"users": 9})
    project.crash()

    assert sorted(sent) == [f"usr_{n}" for n in range(1, 10)]
    assert Counter(run.state for run in project.runs) == {"completed": 10}


def test_cancelling_and_replaying() -> None:
    @fanout.function(trigger=fanout.on("a"))
    def f(ctx: Context) -> int:
        first = ctx.step.run("first", lambda: 1)
        ctx.step.sleep("rest", "1d")
        return first + ctx.step.run("second", lambda: 1)

    project = Project(f)
    (run,) = project.send("a")
    run = project.cancel(run)
    assert (run.state, run.steps["rest"].state) == ("cancelled", "cancelled")
    project.stub(f, {"first": 5, "second": 7})
    again = project.replay(run)
    assert (again.replay_of, again.steps["first"].output) == (run.run_id, 1)
    assert project.finish()[-1].output == 8
    from_start = project.replay(run, from_start=True)
    project.advance("1 day")
    assert project.again(from_start).output == 12


def test_invoking_by_name() -> None:
    assert (
        Project(onboarding)
        .invoke("onboard-user-on-failure", {"run_id": "r", "event": {"data": {}}, "error": {"message": "no"}})
        .state
        == "completed"
    )


def test_a_project_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").write_text('[app]\nid = "kit"\nfunctions = ["kit_test_work"]\n')
    (tmp_path / "kit_test_work.py").write_text(
        textwrap.dedent("""
            import fanout

            @fanout.function(trigger=fanout.on("a"))
            async def f(ctx):
                return await ctx.step.run("one", lambda: 1)
        """)
    )
    for project in (Project(), Project(tmp_path), Project(str(tmp_path / "fanout.toml"))):
        assert [run.output for run in project.send("a")] == [1]


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: Project(signup).run("sync-cmr"), "the project has no function `sync-cmr`", "did you mean `sync-crm`?"),
        (lambda: Project(signup).run("sync-crm"), "`sync-crm` has 0 runs, not one", "there are runs of none"),
        (lambda: Project([]), "there is no function in what was given", "put `@fanout.function(...)` above one"),
        (lambda: Project(signup, "."), "a project of `fanout.toml` has all its functions", "give it alone"),
        (lambda: Project(signup, steps={"send-mail": 1}), "no function has a step `send-mail`", "did you mean `send-email`?"),
        (lambda: Project(signup).stub("sync-crm", {"send-email": 1}), "`sync-crm` has no step `send-email`", "there are `upsert-contact`"),
        (lambda: Project(signup).advance("soon"), "'soon' is no span of time", "write seconds, or `3 days`, or `1h30m`"),
        (lambda: Project(signup).send({"name": "a"}, data={}), "`data` goes with one event's name", 'write `send("app/paid", data={"id": 7})`'),
        (lambda: Project(signup).tick("sync-crm"), "`sync-crm` has no run for that", "has it a schedule? one run a tick"),
    ],
)  # fmt: skip
def test_mistakes_are_told(make: Any, message: str, hint: str) -> None:
    with pytest.raises(FanoutError) as raised:
        make()
    assert (raised.value.message, raised.value.hint) == (message, hint)


def test_a_function_that_tests_itself_is_stopped() -> None:
    project = Project(signup)
    project.stub(signup.sync_crm, {"upsert-contact": lambda _user: project.send("app/user.signup")})
    project.send("app/user.signup", data={"user": ADA})

    steps = project.run("sync-crm").steps["upsert-contact"]
    assert steps.error is not None
    assert steps.error.message == "a function that is being tested can't move its test on"


def test_a_project_that_is_over_leaves_nothing_to_the_next() -> None:
    @fanout.function(trigger=fanout.on("a"))
    def f(ctx: Context) -> None:
        ctx.step.sleep("long", "9d")

    with Project(f) as project:
        project.send("a")
        project.close()
    for other in (Project(f), Project(f)):
        assert (other.runs, other.events) == ([], [])
        other.send("a")
        assert len(other.runs) == 1
