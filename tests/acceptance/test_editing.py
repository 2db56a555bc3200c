"""Functions that are edited while their runs wait or are tried again: no run is stranded, nothing recorded is lost."""

from __future__ import annotations

import sqlite3
import textwrap
from typing import Any, NamedTuple

import pytest

from tests.acceptance.conftest import Project

TOML = (
    '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\npark = "{park}"\n[dev]\nretry_delay = {delay}\n'
)
HEAD = """
import asyncio

def value(ctx, name):
    note(f"{ctx.run_id} {name}")
    return name

def flaky(ctx, name):
    note(f"{ctx.run_id} {name}")
    if not (HERE / "mended").exists():
        raise ConnectionError("not yet")
    return name

def do(ctx, name):
    return ctx.step.run(name, value, ctx, name)

def retry(ctx, name):
    return ctx.step.run(name, flaky, ctx, name)

def fail(ctx, name):
    def fails():
        raise fanout.NonRetriableError("for good")
    try:
        ctx.step.run(name, fails)
    except fanout.StepError:
        return "failed"

def nap(ctx, name):
    return ctx.step.sleep(name, "1h")

def hear(ctx, name):
    event = ctx.step.wait_for_event(name, event="app/answer", timeout="300d")
    return event and "heard"

@fanout.function()
def child(ctx: Context):
    if not (HERE / "mended").exists():
        ctx.step.sleep("nap", "1h")
    return "of a child"

@fanout.function()
def late_child(ctx: Context):
    ctx.step.wait_for_event("answer", event="app/answer", timeout="300d")
    ctx.step.sleep("nap", 0.3)

@fanout.function()
def other_child(ctx: Context):
    return "of another child"

def ask(ctx, name):
    return ctx.step.invoke(name, child)

def spread(ctx, name):
    return ctx.step.map(name, child, range(3))
"""


class Edit(NamedTuple):
    """A function before and after, each as the expression that it returns, and what comes of it."""

    before: str
    after: str
    output: Any
    steps: dict[str, tuple[str, bool]]
    """State and whether it was reached, by key."""
    executed: list[str]


DONE, LOST = ("completed", True), ("completed", False)
CUT = ("cancelled", False)
EDITS = {
    "nothing": Edit(
        "[do(ctx, 'a'), hear(ctx, 'w')]", "[do(ctx, 'a'), hear(ctx, 'w')]",
        ["a", "heard"], {"a": DONE, "w": DONE}, ["a"],
    ),
    "rename completed": Edit(
        "[do(ctx, 'a'), hear(ctx, 'w')]", "[do(ctx, 'new'), hear(ctx, 'w')]",
        ["new", "heard"], {"a": LOST, "w": DONE, "new": DONE}, ["a", "new"],
    ),
    "rename waiting": Edit(
        "[do(ctx, 'a'), nap(ctx, 'old')]", "[do(ctx, 'a'), ctx.step.sleep('new', 0.01)]",
        ["a", None], {"a": DONE, "old": LOST, "new": DONE}, ["a"],
    ),
    "rename retrying": Edit(
        "[do(ctx, 'a'), retry(ctx, 'old')]", "[do(ctx, 'a'), retry(ctx, 'new')]",
        ["a", "new"], {"a": DONE, "old": CUT, "new": DONE}, ["a", "old", "new"],
    ),
    "reorder": Edit(
        "[do(ctx, 'a'), do(ctx, 'b'), hear(ctx, 'w')]", "[hear(ctx, 'w'), do(ctx, 'b'), do(ctx, 'a')]",
        ["heard", "b", "a"], {"a": DONE, "b": DONE, "w": DONE}, ["a", "b"],
    ),
    "reorder waiting behind retrying": Edit(
        "ctx.step.parallel(lambda: hear(ctx, 'w'), lambda: retry(ctx, 'r'))", "[retry(ctx, 'r'), hear(ctx, 'w')]",
        ["r", "heard"], {"w": DONE, "r": DONE}, ["r", "r"],
    ),
    "insert": Edit(
        "[do(ctx, 'a'), hear(ctx, 'w')]",
        "[do(ctx, 'first'), do(ctx, 'a'), do(ctx, 'middle'), hear(ctx, 'w'), do(ctx, 'last')]",
        ["first", "a", "middle", "heard", "last"],
        {"a": DONE, "w": DONE, "first": DONE, "middle": DONE, "last": DONE}, ["a", "first", "middle", "last"],
    ),
    "insert a sleep before what waits": Edit(
        "[nap(ctx, 'n'), do(ctx, 'a')]", "[ctx.step.sleep('short', 0.01), nap(ctx, 'n'), do(ctx, 'a')]",
        [None, None, "a"], {"n": DONE, "short": DONE, "a": DONE}, ["a"],
    ),
    "remove completed": Edit(
        "[do(ctx, 'a'), do(ctx, 'b'), hear(ctx, 'w')]", "[do(ctx, 'b'), hear(ctx, 'w')]",
        ["b", "heard"], {"a": LOST, "b": DONE, "w": DONE}, ["a", "b"],
    ),
    "remove waiting": Edit(
        "ctx.step.parallel(lambda: nap(ctx, 'n'), lambda: hear(ctx, 'w'), lambda: hear(ctx, 'v'))", "[hear(ctx, 'v')]",
        ["heard"], {"n": LOST, "w": LOST, "v": DONE}, [],
    ),
    "remove what waits for ever": Edit(
        "ctx.step.parallel(lambda: ctx.step.wait_for_event('w', event='app/never', timeout='300d'), lambda: nap(ctx, 'n'))",
        "'without'",
        "without", {"w": CUT, "n": LOST}, [],
    ),
    "remove retrying": Edit(
        "[do(ctx, 'a'), retry(ctx, 'r')]", "[do(ctx, 'a')]",
        ["a"], {"a": DONE, "r": CUT}, ["a", "r"],
    ),
    "remove invoked": Edit(
        "[ask(ctx, 'i')]", "['without']",
        ["without"], {"i": LOST}, [],
    ),
    "remove mapped": Edit(
        "ctx.step.parallel(lambda: ctx.step.map('m', late_child, range(3)), lambda: hear(ctx, 'w'))", "[hear(ctx, 'w')]",
        ["heard"], {"m": CUT, "w": DONE}, [],
    ),
    "another kind, completed": Edit(
        "[do(ctx, 'a'), hear(ctx, 'w')]", "[ctx.step.sleep('a', '1h'), hear(ctx, 'w')]",
        [None, "heard"], {"a": DONE, "w": DONE}, ["a"],
    ),
    "another kind, retrying": Edit(
        "[retry(ctx, 'a')]", "[ctx.step.sleep('a', 0.01)]",
        [None], {"a": DONE}, ["a"],
    ),
    "another kind, retrying, to a map": Edit(
        "[retry(ctx, 'a')]", "[ctx.step.map('a', other_child, range(2))]",
        [["of another child"] * 2], {"a": DONE}, ["a"],
    ),
    "another kind, asleep": Edit(
        "[nap(ctx, 'a')]", "[do(ctx, 'a')]",
        [None], {"a": DONE}, [],
    ),
    "another kind, mapped": Edit(
        "ctx.step.parallel(lambda: ctx.step.map('m', late_child, range(3)), lambda: hear(ctx, 'w'))",
        "[hear(ctx, 'w'), do(ctx, 'm'), ctx.step.sleep('until they have ended', 0.6)]",
        ["heard", "m", None], {"m": DONE, "w": DONE, "until they have ended": DONE}, ["m"],
    ),
    "another kind, mapped, to one that fails": Edit(
        "ctx.step.parallel(lambda: ctx.step.map('m', late_child, range(3)), lambda: hear(ctx, 'w'))",
        "[hear(ctx, 'w'), fail(ctx, 'm'), ctx.step.sleep('until they have ended', 0.6)]",
        ["heard", "failed", None], {"m": ("failed", True), "w": DONE, "until they have ended": DONE}, [],
    ),
    "another kind, mapped, to one that waits": Edit(
        "ctx.step.parallel(lambda: ctx.step.map('m', late_child, range(3)), lambda: hear(ctx, 'w'))",
        "[hear(ctx, 'w'), ctx.step.wait_for_event('m', event='app/never', timeout=0.6)]",
        ["heard", None], {"m": DONE, "w": DONE}, [],
    ),
    "another function to invoke": Edit(
        "[ask(ctx, 'i')]", "[ctx.step.invoke('i', other_child)]",
        ["of a child"], {"i": DONE}, [],
    ),
    "into branches": Edit(
        "[do(ctx, 'a'), do(ctx, 'b'), hear(ctx, 'w')]",
        "ctx.step.parallel(lambda: do(ctx, 'a'), lambda: do(ctx, 'b'), lambda: hear(ctx, 'w'))",
        ["a", "b", "heard"], {"a": DONE, "b": DONE, "w": DONE}, ["a", "b"],
    ),
    "out of branches": Edit(
        "ctx.step.parallel(lambda: do(ctx, 'a'), lambda: do(ctx, 'b'), lambda: hear(ctx, 'w'))",
        "[do(ctx, 'a'), do(ctx, 'b'), hear(ctx, 'w')]",
        ["a", "b", "heard"], {"a": DONE, "b": DONE, "w": DONE}, ["a", "b"],
    ),
    "a branch before the others": Edit(
        "ctx.step.parallel(lambda: do(ctx, 'a'), lambda: hear(ctx, 'w'))",
        "ctx.step.parallel(lambda: do(ctx, 'new'), lambda: do(ctx, 'a'), lambda: hear(ctx, 'w'))",
        ["new", "a", "heard"], {"a": DONE, "w": DONE, "new": DONE}, ["a", "new"],
    ),
    "fewer of a name": Edit(
        "[do(ctx, 'a'), do(ctx, 'a'), do(ctx, 'a'), hear(ctx, 'w')]", "[do(ctx, 'a'), hear(ctx, 'w')]",
        ["a", "heard"], {"a": DONE, "a#2": LOST, "a#3": LOST, "w": DONE}, ["a"] * 3,
    ),
    "more of a name": Edit(
        "[do(ctx, 'a'), hear(ctx, 'w')]", "[do(ctx, 'a'), do(ctx, 'a'), hear(ctx, 'w'), do(ctx, 'a')]",
        ["a", "a", "heard", "a"], {"a": DONE, "a#2": DONE, "a#3": DONE, "w": DONE}, ["a"] * 3,
    ),
    "between steps, at fault": Edit(
        "[do(ctx, 'a'), 1 // 0]", "[do(ctx, 'b'), 1 // 1]",
        ["b", 1], {"a": LOST, "b": DONE}, ["a", "b"],
    ),
}  # fmt: skip


def name_of(edit: str) -> str:
    return edit.replace(",", "").replace(" ", "_")


def functions(texts: dict[str, str]) -> str:
    """A module with a function for each."""
    written = [HEAD]
    for edit, text in texts.items():
        written.append(
            f'\n@fanout.function(trigger=fanout.on("app/go"))\ndef {name_of(edit)}(ctx: Context):\n    return {text}\n'
        )
    return "".join(written)


def pass_time(project: Project) -> None:
    """What is due some day, but for events that may still come, is due now. There is no engine that could mind."""
    with sqlite3.connect(project.journal) as connection:
        connection.execute("UPDATE step SET due_at = 1 WHERE due_at IS NOT NULL AND kind != 'wait'")
        connection.execute("UPDATE run SET due_at = 1 WHERE due_at IS NOT NULL")
    connection.close()


@pytest.mark.parametrize("park", ["0", "366d"])
def test_an_edit_strands_no_run_and_loses_nothing(project: Project, park: str) -> None:
    before = functions({name: edit.before for name, edit in EDITS.items()})
    project.write(before, toml=TOML.format(park=park, delay=100))
    first = project.send("app/go")
    assert {run["state"] for run in first.json()["runs"] if run["parent"] is None} == {"waiting"}

    after = functions({name: edit.after for name, edit in EDITS.items()})
    project.write(after, toml=TOML.format(park=park, delay=0.05))
    (project.root / "mended").touch()
    pass_time(project)
    assert project.send("app/answer").code == 0
    found = {
        name: project.query(
            f"SELECT state, output, id, key FROM run WHERE function = '{name_of(name).replace('_', '-')}'"
        )
        for name in EDITS
    }
    assert {name: [(run[0], run[1]) for run in runs] for name, runs in found.items()} == {
        name: [("completed", encoded(edit.output))] for name, edit in EDITS.items()
    }
    for name, edit in EDITS.items():
        [(_, _, id_, key)] = found[name]
        steps = project.query(f"SELECT key, state, is_unreached = 0 FROM step WHERE run = {key}")
        assert {step: (state, bool(is_reached)) for step, state, is_reached in steps} == edit.steps, name
        executed = [line.split(" ", 1)[1] for line in project.notes() if line.startswith(id_)]
        assert sorted(executed) == sorted(edit.executed), name
    assert project.query("SELECT DISTINCT state FROM run") == [("completed",)]
    assert project.query("SELECT * FROM map") == project.query("SELECT * FROM wait") == []


def encoded(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize("park", ["0", "366d"])
def test_a_map_goes_on_with_other_items_and_another_function(project: Project, park: str) -> None:
    code = """
        @fanout.function()
        def child(ctx: Context):
            if (HERE / "mended").exists():
                return ctx.event.data["item"]
            ctx.step.sleep("nap", "1h")

        @fanout.function()
        def other(ctx: Context):
            return -ctx.event.data["item"]

        @fanout.function(trigger=fanout.on("app/go"))
        def by_number(ctx: Context):
            return ctx.step.map("map", {function}, range({number}), max_in_flight=4)

        @fanout.function(trigger=fanout.on("app/go"))
        def by_key(ctx: Context):
            return ctx.step.map("map", {function}, range({start}, 6), key=str, max_in_flight=4)
    """
    toml = TOML.format(park=park, delay=0.05)
    project.write(textwrap.dedent(code).format(function="child", number=6, start=0), toml=toml)
    project.send("app/go")
    (project.root / "mended").touch()
    pass_time(project)
    # What is a run already stays what it is; the function was chosen when the step began.
    project.write(textwrap.dedent(code).format(function="other", number=8, start=-2), toml=toml)
    assert project.send("app/nothing").code == 0
    outputs = dict(project.query("SELECT function, output FROM run WHERE parent IS NULL"))
    assert outputs == {"by-number": "[0,1,2,3,4,5,6,7]", "by-key": "[0,1,2,3,-2,-1,4,5]"}


def test_a_function_that_is_gone_waits_for_its_code(project: Project) -> None:
    """Its runs are what others wait for, and those wait as well."""
    toml = TOML.format(park="0", delay=0.05)
    code = """
        @fanout.function(trigger=fanout.on("app/go"))
        def maps(ctx: Context):
            try:
                return ctx.step.map("map", child, range(6), max_in_flight=2)
            except fanout.InvokeError as error:
                return error.cause_message

        @fanout.function(trigger=fanout.on("app/go"))
        def invokes(ctx: Context):
            return ctx.step.invoke("invoke", child, {"item": 7})
        """
    child = """
        @fanout.function()
        def child(ctx: Context):
            ctx.step.sleep("nap", "1h")
            return ctx.event.data["item"]
        """
    project.write(textwrap.dedent(child) + textwrap.dedent(code), toml=toml)
    project.send("app/go")
    project.write(textwrap.dedent(code).replace(", child,", ', "child",'), toml=toml)
    pass_time(project)
    left = project.send("app/nothing")
    assert left.code == 0
    assert project.query("SELECT DISTINCT state FROM run WHERE function = 'child'") == [("queued",)]
    assert project.query("SELECT DISTINCT state FROM run WHERE function != 'child'") == [("waiting",)]
    project.write(textwrap.dedent(child).replace('"1h"', "0.01") + textwrap.dedent(code), toml=toml)
    for _ in range(3):
        pass_time(project)
        project.send("app/nothing")
    outputs = dict(project.query("SELECT function, output FROM run WHERE parent IS NULL"))
    assert outputs == {"maps": "[0,1,2,3,4,5]", "invokes": "7"}


def test_a_replay_after_an_edit_reports_what_it_does_not_reach(project: Project) -> None:
    before = """
        @fanout.function(trigger=fanout.on("app/go"), retries=0)
        def f(ctx: Context):
            ctx.step.run("old", note, "old")
            ctx.step.run("kept", note, "kept")
            raise ValueError("at fault")
        """
    project.write(before)
    assert project.send("app/go").code == 1
    project.write(before.replace('"old"', '"new"').replace('raise ValueError("at fault")', 'return "mended"'))
    [run] = project.fanout("replay", "--failed", "--json").json()["runs"]
    assert (run["state"], run["output"]) == ("completed", "mended")
    assert {step["name"]: step["is_unreached"] for step in run["steps"]} == {"old": True, "kept": False, "new": False}
    assert project.notes() == ["old", "kept", "new"]
