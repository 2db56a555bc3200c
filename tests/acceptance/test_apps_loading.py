"""Several apps, one of which can't be loaded: the others go on, and everybody is told."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project, until

TOML = """
[[apps]]
id = "shop"
path = "shop"
functions = ["shop_work"]

[[apps]]
id = "billing"
path = "billing"
functions = ["billing_work"]

[pool]
processes = 2
"""
CODE = """
from pathlib import Path
import fanout

def note(line):
    with (Path(__file__).parent.parent / "notes.txt").open("a") as file:
        file.write(line + "\\n")

@fanout.function(trigger=fanout.on("app/go"))
def work(ctx):
    note(ctx.run_id and "{app}")
"""
WARNING = (
    "warning: app `billing`: `billing_work.py` line 1: SyntaxError: invalid syntax\nhint: the line is `def broken(:`\n"
)


@pytest.fixture
def two_apps(project: Project) -> Project:
    """Both have been loaded once; then one of them was broken."""
    project.write("", toml=TOML)
    for app in ("shop", "billing"):
        (project.root / app).mkdir()
        (project.root / app / f"{app}_work.py").write_text(CODE.replace("{app}", app))
    assert project.fanout("functions").code == 0
    (project.root / "billing" / "billing_work.py").write_text("def broken(:\n")
    return project


def test_send_runs_what_it_can_and_says_what_is_left(two_apps: Project) -> None:
    result = two_apps.fanout("send", "--name", "app/go")
    assert (result.code, two_apps.notes()) == (1, ["shop"])
    assert (
        result.err == f"{WARNING}hint: 1 run of `billing/work` left in the queue: app `billing` could not be loaded\n"
    )
    [(id_,)] = two_apps.query("SELECT id FROM run WHERE state = 'queued'")
    assert two_apps.fanout("why", id_) == (
        0, "`billing/work` waits: app `billing` could not be loaded\n", "hint: `fanout functions` says why\n",
    )  # fmt: skip
    listed = two_apps.fanout("functions", "--json")
    assert [(each["id"], each["is_loadable"]) for each in listed.json()["functions"]] == [
        ("billing/work", False), ("shop/work", True),
    ]  # fmt: skip
    assert listed.err == WARNING


def test_what_does_not_need_the_broken_app_is_all_right(two_apps: Project) -> None:
    result = two_apps.fanout("invoke", "shop/work")
    assert (result.code, result.err) == (0, WARNING)
    assert two_apps.fanout("invoke", "billing/work").code == 1


def test_serve_warns_and_goes_on_with_the_mended_code(two_apps: Project) -> None:
    with two_apps.serving() as engine:
        assert engine.stderr is not None
        assert [engine.stderr.readline(), engine.stderr.readline()] == WARNING.splitlines(keepends=True)
        # Nobody waits for ever for what can't be run.
        result = two_apps.fanout("send", "--name", "app/go")
        assert (result.code, two_apps.notes()) == (1, ["shop"])
        assert result.err == "hint: 1 run of `billing/work` left in the queue: app `billing` could not be loaded\n"
        mended = CODE.replace("{app}", "billing")
        more = mended[mended.index("@fanout") :].replace("def work", "def more").replace("app/go", "app/more")
        (two_apps.root / "billing" / "billing_work.py").write_text(mended + more)
        until(lambda: two_apps.notes() == ["shop", "billing"], "what was left goes on")
        # The code is a new one: what it has in addition is known as well.
        result = two_apps.fanout("send", "--name", "app/more")
        assert (result.code, two_apps.notes(), result.err) == (0, ["shop", "billing", "billing"], "")
    listed = two_apps.fanout("functions", "--json").json()["functions"]
    assert [each["is_loadable"] for each in listed] == [True, True, True]
