"""`fanout functions`: what the code has, and what of it is paused."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from fanout.commands import loading
from fanout.config import load
from fanout.engine.pool import LocalPool
from fanout.protocol import Load, ShutDown, ToWorker
from tests.acceptance.conftest import Project, until

CODE = """
@fanout.function(trigger=fanout.on("app/go"), retries=2, concurrency=fanout.Concurrency(5, key="event.data.account"))
def sync(ctx: Context):
    note("sync")

@fanout.function(trigger=fanout.on("app/go"))
def other(ctx: Context):
    note("other")
"""


def lines(text: str) -> list[str]:
    return [re.sub(r" +", " ", re.sub(r"\d\d:\d\d:\d\d", "<time>", line)).rstrip() for line in text.splitlines()]


def test_the_list_in_a_new_project_and_after_runs(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("functions")
    assert (result.code, lines(result.out), result.err) == (
        0,
        [
            "function started by runs last run p50 p95",
            "other app/go - - -",
            "sync app/go - - -",
        ],
        "",
    )
    project.send("app/go")
    shown = re.sub(r"\d+ ms", "<took>", lines(project.fanout("functions").out)[1])
    assert shown == "other app/go 1 completed <time> <took> <took>"
    sync = project.fanout("functions", "--json").json()["functions"][1]
    assert (sync["id"], sync["module"], sync["settings"]["retries"], sync["runs"]) == (
        "sync", "work", 2, {"completed": 1},
    )  # fmt: skip


def test_the_list_is_of_todays_code(project: Project) -> None:
    project.write(CODE)
    project.fanout("functions")
    project.write(CODE.replace("def other", "def another"))
    assert [each["id"] for each in project.fanout("functions", "--json").json()["functions"]] == ["another", "sync"]


def test_code_that_does_not_load(project: Project) -> None:
    project.write("def broken(:\n")
    result = project.fanout("functions")
    error = "`work.py` line 12: SyntaxError: invalid syntax\nhint: the line is `def broken(:`\n"
    assert result == (2, "", f"error: {error}")
    project.write(CODE)
    project.fanout("functions")
    project.write("def broken(:\n")
    result = project.fanout("functions", "--json")
    assert (result.code, [each["id"] for each in result.json()["functions"]], result.err) == (
        0, ["other", "sync"], f"warning: {error}hint: this is what the code had when it was last loaded\n",
    )  # fmt: skip


def test_a_paused_function_starts_nothing_until_it_is_resumed(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("functions", "pause", "sync")
    assert (result.code, lines(result.out), result.err) == (0, ["sync paused since <time>"], "")
    result = project.fanout("send", "--name", "app/go")
    assert (result.code, project.notes()) == (0, ["other"])
    assert re.sub(r"\d\d:\d\d:\d\d", "<time>", result.err) == (
        "hint: 1 run of `sync` left in the queue: its function is paused since <time>; "
        "`fanout functions resume sync` lets it go on\n"
    )
    assert lines(project.fanout("functions").out)[2] == "sync paused app/go 1 queued <time> - -"
    assert project.fanout("functions", "resume", "sync", "sync") == (0, "sync  not paused\n", "")
    assert project.notes() == ["other"]
    project.send("app/nothing")
    assert project.notes() == ["other", "sync"]


def test_pausing_while_an_engine_runs(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        paused = project.fanout("functions", "pause", "sync", "other", "--json").json()["functions"]
        assert [(each["id"], each["paused_at"] is not None) for each in paused] == [("sync", True), ("other", True)]
        result = project.fanout("send", "--name", "app/go")
        # The engine goes on, but nobody need wait for it.
        assert (result.code, project.notes()) == (0, [])
        assert result.err.count("left in the queue") == 2
        assert project.fanout("functions", "resume", "sync").code == 0
        until(lambda: project.notes() == ["sync"], "it goes on")


def test_a_name_that_is_not_there(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("functions", "pause", "snyc") == (
        3, "", "error: there is no function `snyc`\nhint: did you mean `sync`?\n",
    )  # fmt: skip
    assert project.query("SELECT count(*) FROM request") == [(0,)]


def test_a_look_at_the_functions_starts_nothing_that_was_left(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a worker would be told, it may have no time to do before the command ends."""
    project.write(CODE)
    project.fanout("functions", "pause", "sync")
    project.send("app/go")
    project.fanout("functions", "resume", "sync")
    told: list[ToWorker] = []
    send = LocalPool.send

    def listen(pool: LocalPool, worker: int, messages: Sequence[ToWorker]) -> None:
        told.extend(messages)
        send(pool, worker, messages)

    monkeypatch.setattr(LocalPool, "send", listen)
    found = loading.functions_now(load(project.root / "fanout.toml"))
    assert sorted(each.spec.id for each in found) == ["other", "sync"]
    assert [type(each) for each in told] == [Load, ShutDown]
    assert project.query("SELECT state, started_at FROM run WHERE function = 'sync'") == [("queued", None)]
