"""`fanout check`, on real projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_apps_loading import TOML

SOUND = """
    @fanout.function(trigger=[fanout.on("app/go"), fanout.cron("0 9 * * 1", tz="Europe/Berlin")])
    def greet(ctx: Context):
        ctx.step.send_event("tell", {"name": "app/greeted", "data": {}})

    @fanout.function(trigger=fanout.on("app/greeted"))
    def note_it(ctx: Context):
        ctx.step.invoke("count", count)

    @fanout.function()
    def count(ctx: Context):
        return 1
"""
ODD = """
    @fanout.function(trigger=fanout.on("app/user.signup"))
    def greet(ctx: Context):
        ctx.step.send_event("tell", {"name": "app/user.signupp", "data": {}})

    @fanout.function()
    def forgotten(ctx: Context):
        return 1
"""


def test_a_project_without_problems(project: Project) -> None:
    project.write(SOUND)
    result = project.fanout("check")
    assert (result.code, result.err) == (0, "no problems found\n")
    lines = result.out.splitlines()
    assert lines[0].startswith("✓ app `test`  3 functions in 1 module")
    assert lines[1:4] == ["", "schedules", "  greet  on Mondays at 09:00, Europe/Berlin"]
    assert lines[4].startswith("    next ")
    assert len(lines[4].split(",")) == 3
    # It has looked, and left nothing behind.
    assert not project.journal.exists()


def test_what_nothing_starts_and_nobody_hears(project: Project) -> None:
    project.write(ODD)
    result = project.fanout("check")
    assert (result.code, result.err) == (0, "2 warnings\n")
    assert result.out.splitlines()[2:] == [
        "warning: work.py:17: nothing starts `forgotten`: it has no trigger, and no step of the project invokes it",
        "  hint: `fanout invoke forgotten` runs it by hand",
        "warning: work.py:15: nobody listens to `app/user.signupp`",
        "  hint: did you mean `app/user.signup`?",
    ]
    assert project.fanout("check", "--strict").code == 1
    problems = project.fanout("check", "--json").json()["problems"]
    assert [(each["level"], each["file"], each["line"]) for each in problems] == [
        ("warning", "work.py", 17), ("warning", "work.py", 15),
    ]  # fmt: skip


def test_traces_that_can_not_be_exported_here(project: Project, tmp_path: Path) -> None:
    project.write(SOUND, toml='[app]\nid = "test"\nfunctions = ["work"]\n[otel]\nenabled = true\n')
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()
    result = project.fanout("check", PYTHONPATH=str(hidden.parent))
    assert (result.code, result.err) == (0, "1 warning\n")
    assert result.out.splitlines()[-2:] == [
        "warning: `fanout.toml` has `[otel] enabled = true`, and OpenTelemetry is not installed",
        "  hint: `pip install 'fanout[otel]'`",
    ]
    assert project.fanout("check").err == "no problems found\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        ('@fanout.function(trigger=fanout.cron("61 * * * *"))\ndef f(ctx): pass', "61"),
        ('@fanout.function(trigger=fanout.on("app/a", if_="event.data.x ="))\ndef f(ctx): pass', "event.data.x ="),
        ("@fanout.function(concurrency=0)\ndef f(ctx): pass", "concurrency"),
        ("import os; os._exit(3)", "exited with code 3"),
        ("", "there is no function"),
    ],
    ids=["syntax", "cron", "expression", "limit", "exit", "empty"],
)
def test_code_that_can_not_be_loaded(project: Project, code: str, said: str) -> None:
    project.write(code)
    result = project.fanout("check")
    assert (result.code, result.err) == (1, "1 error\n")
    assert result.out.startswith("✗ app `test`\n\nerror: app `test`: ")
    assert said in result.out
    value = project.fanout("check", "--json").json()
    assert (value["ok"], value["apps"][0]["functions"]) == (False, 0)


def test_one_app_of_two(project: Project) -> None:
    code = 'import fanout\n@fanout.function(trigger=fanout.on("app/go"))\ndef work(ctx):\n    {}\n'
    for app, body in (("shop", "pass"), ("billing", "pass pass")):
        (project.root / app).mkdir()
        (project.root / app / f"{app}_work.py").write_text(code.format(body))
    (project.root / "fanout.toml").write_text(TOML)
    result = project.fanout("check")
    assert result.code == 1
    assert [line[0] for line in result.out.splitlines()[:2]] == ["✓", "✗"]
    assert "error: app `billing`: `billing_work.py` line 4: SyntaxError" in result.out


def test_it_says_how_the_code_is_now_beside_an_engine_that_has_other_code(project: Project) -> None:
    project.write(SOUND)
    with project.serving():
        project.write(ODD)
        assert project.fanout("check").err == "2 warnings\n"


def test_names_of_others_are_made_printable(project: Project) -> None:
    project.write(
        '@fanout.function(trigger=fanout.on("app/go"), id="[red]")\n'
        "def f(ctx):\n"
        '    ctx.step.send_event("x", {"name": "app/\\x1b[2J[bold]"})\n'
    )
    result = project.fanout("check")
    assert "nobody listens to `app/\\x1b[2J[bold]`" in result.out
