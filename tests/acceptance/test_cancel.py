"""`fanout cancel`: runs that go on or wait, with what they have invoked."""

from __future__ import annotations

from tests.acceptance.conftest import Project, until

CODE = """
@fanout.function()
def sleepy(ctx: Context):
    ctx.step.sleep("nap", "1h")
    note("woke up")

@fanout.function()
def parent(ctx: Context):
    ctx.step.map("children", sleepy, [{}, {}, {}])

@fanout.function(trigger=fanout.on("app/other"))
def other(ctx: Context):
    ctx.step.run("note", note, "other")

@fanout.function(trigger=fanout.on("app/slow"))
def slow(ctx: Context):
    def wait():
        note("begins")
        while not (HERE / "go").exists():
            time.sleep(0.01)
    ctx.step.run("wait", wait)
    ctx.step.run("after", note, "after")
"""


def id_of(project: Project, function: str) -> str:
    [(id_,)] = project.query(f"SELECT id FROM run WHERE function = '{function}' ORDER BY key LIMIT 1")
    return str(id_)


def test_a_waiting_run_is_cancelled_with_its_children(project: Project) -> None:
    project.write(CODE)
    project.fanout("invoke", "parent")
    id_ = id_of(project, "parent")
    assert project.fanout("cancel", id_[-10:]) == (
        0, f"{id_}  ⊘ cancelled  parent, and 3 runs that it had invoked\n", "",
    )  # fmt: skip
    assert project.query("SELECT state, count(*) FROM run GROUP BY 1") == [("cancelled", 4)]
    assert project.query("SELECT state, count(*) FROM step GROUP BY 1") == [("cancelled", 4)]
    assert project.query("SELECT count(*) FROM map") == [(0,)]


def test_several_at_once_as_json(project: Project) -> None:
    project.write(CODE)
    project.fanout("invoke", "parent")
    project.fanout("invoke", "sleepy")
    first, second = id_of(project, "parent"), project.query("SELECT id FROM run ORDER BY key DESC LIMIT 1")[0][0]
    result = project.fanout("cancel", first, second, first, "--json")
    assert (result.code, result.err) == (0, "")
    assert [(run["id"], run["state"], run["cancelled_children"]) for run in result.json()["runs"]] == [
        (first, "cancelled", 3), (second, "cancelled", 0),
    ]  # fmt: skip


def test_only_what_is_live_can_be_cancelled(project: Project) -> None:
    project.write(CODE)
    project.send("app/other")
    id_ = id_of(project, "other")
    assert project.fanout("cancel", id_) == (
        2, "", f"error: the run `{id_}` is completed: only one that has not ended can be cancelled\n",
    )  # fmt: skip
    assert project.fanout("cancel", "nothing") == (
        3, "", "error: there is no run `nothing`\nhint: `fanout runs` lists them\n",
    )  # fmt: skip
    assert project.query("SELECT count(*) FROM request WHERE kind = 'cancel'") == [(0,)]


def test_nothing_else_is_started_for_it(project: Project) -> None:
    project.write(CODE)
    project.fanout("invoke", "sleepy")
    project.fanout("send", "--name", "app/other", "--no-wait")
    assert project.fanout("cancel", id_of(project, "sleepy")).code == 0
    assert project.notes() == []
    project.send("app/nothing")
    assert project.notes() == ["other"]


def test_a_running_engine_ends_the_step_and_runs_nothing_after_it(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        project.fanout("send", "--name", "app/slow", "--no-wait")
        until(lambda: project.notes() == ["begins"], "the step begins")
        id_ = id_of(project, "slow")
        assert project.fanout("cancel", id_) == (0, f"{id_}  ⊘ cancelled  slow\n", "")
        (project.root / "go").touch()
        project.send("app/other")
    assert project.notes() == ["begins", "other"]
    shown = project.fanout("runs", "show", id_, "--json").json()
    assert (shown["state"], [(step["name"], step["state"]) for step in shown["steps"]]) in [
        ("cancelled", []),  # The step had not been going for long enough to be noted.
        ("cancelled", [("wait", "cancelled")]),
    ]


def test_code_that_does_not_load_only_delays_it(project: Project) -> None:
    project.write(CODE)
    project.fanout("invoke", "sleepy")
    id_ = id_of(project, "sleepy")
    project.write("def broken(:\n")
    result = project.fanout("cancel", id_)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "what was asked for is stored: the next engine does it, once the code can be loaded\n"
        "error: `work.py` line 12: SyntaxError: invalid syntax\n"
        "hint: the line is `def broken(:`\n"
    )
    project.write(CODE)
    project.send("app/nothing")
    assert project.query("SELECT state FROM run") == [("cancelled",)]
