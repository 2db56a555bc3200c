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


def test_the_runs_of_an_app_that_is_removed_wait_and_are_told_of_until_it_is_back(two_apps: Project) -> None:
    assert two_apps.fanout("send", "--name", "app/go").code == 1
    [(id_,)] = two_apps.query("SELECT id FROM run WHERE state = 'queued'")
    (two_apps.root / "billing" / "billing_work.py").write_text(CODE.replace("{app}", "billing"))
    toml = two_apps.root / "fanout.toml"
    toml.write_text(TOML[: TOML.index('[[apps]]\nid = "billing"')])
    gone = "the code has no function `billing/work` any more, nor an app `billing`"
    back = "it goes on when fanout.toml has the app again, by this id; `fanout cancel` ends it"
    left = f"hint: 1 run of `billing/work` left in the queue: {gone}; {back}\n"
    result = two_apps.fanout("send", "--name", "app/go")
    assert (result.code, result.err, two_apps.notes()) == (
        0,
        f"1 run from before goes on as well\n{left}",
        ["shop"] * 2,
    )
    assert two_apps.fanout("why", id_) == (0, f"`billing/work` waits: {gone}\n", f"hint: {back}\n")
    [listed] = two_apps.fanout("runs", "--function", "billing/work", "--json").json()["runs"]
    assert (listed["id"], listed["state"]) == (id_, "queued")
    with two_apps.serving() as engine:
        assert engine.stderr is not None
        assert engine.stderr.readline() == left
    toml.write_text(TOML)
    assert two_apps.fanout("send", "--name", "app/nothing").code == 0
    assert two_apps.notes() == ["shop", "shop", "billing"]
    assert two_apps.query("SELECT DISTINCT state FROM run") == [("completed",)]


def test_an_interpreter_that_is_not_there_stops_no_other_app(two_apps: Project) -> None:
    (two_apps.root / "fanout.toml").write_text(
        TOML.replace('path = "billing"', 'path = "billing"\npython = "gone/python"')
    )
    result = two_apps.fanout("send", "--name", "app/go")
    python = two_apps.root / "billing" / "gone" / "python"
    assert (result.code, two_apps.notes()) == (1, ["shop"])
    assert result.err == (
        f"warning: app `billing`: the interpreter `{python}` can't be started: No such file or directory\n"
        "hint: make its environment, or mend `python` in fanout.toml\n"
        "hint: 1 run of `billing/work` left in the queue: app `billing` could not be loaded\n"
    )


def test_code_that_kills_its_worker_stops_no_other_app(two_apps: Project) -> None:
    (two_apps.root / "billing" / "billing_work.py").write_text("import os\nprint('ouch')\nos._exit(7)\n")
    result = two_apps.fanout("send", "--name", "app/go")
    assert (result.code, two_apps.notes()) == (1, ["shop"])
    assert "warning: app `billing`: worker " in result.err
    assert "exited with code 7" in result.err
    assert result.err.endswith("hint: 1 run of `billing/work` left in the queue: app `billing` could not be loaded\n")


def test_a_backlog_of_one_app_does_not_hold_up_another(two_apps: Project) -> None:
    (two_apps.root / "shop" / "shop_work.py").write_text(
        CODE.replace("{app}", "shop").replace(
            "def work(ctx):\n", 'def work(ctx):\n    import time\n    while not (Path(__file__).parent / "go").exists():\n        time.sleep(0.01)\n'
        )
    )  # fmt: skip
    bill = CODE.replace("{app}", "billing").replace("app/go", "app/bill")
    (two_apps.root / "billing" / "billing_work.py").write_text(bill)
    (two_apps.root / "fanout.toml").write_text(f"{TOML}slots = 2\n")
    with two_apps.serving():
        lines = '{"name": "app/go"}\n' * 50
        assert two_apps.fanout("send", "-", "--no-wait", stdin=lines).code == 0
        assert two_apps.fanout("send", "--name", "app/bill").code == 0
        assert two_apps.notes() == ["billing"]
        (two_apps.root / "shop" / "go").touch()
        until(lambda: len(two_apps.notes()) == 51, "the backlog ends")
