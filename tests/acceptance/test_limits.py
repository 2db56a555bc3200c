"""Time limits of steps and of runs, and what becomes of those who have nothing to do with it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.acceptance.conftest import Project

TOML = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\npark = "{park}"\n[dev]\nretry_delay = 0.05\n'
CODE = """
import asyncio


def endless():
    note(f"endless {os.getpid()}")
    while True:
        pass


@fanout.function(trigger=fanout.on("app/go"), retries=1, timeouts=fanout.Timeouts(step=0.4))
def loops(ctx: Context):
    ctx.step.run("before", note, "loops: before")
    ctx.step.run("endless", endless)


@fanout.function(trigger=fanout.on("app/go"), retries=1, timeouts=fanout.Timeouts(step=0.4))
def compensates(ctx: Context):
    try:
        ctx.step.parallel(lambda: ctx.step.run("endless", endless), lambda: ctx.step.sleep("nap", 0.05))
    except fanout.StepError as error:
        return ctx.step.run("undo", lambda: [error.name, error.type, error.cause_message])


@fanout.function(trigger=fanout.on("app/go"), retries=2, timeouts=fanout.Timeouts(step=0.4))
def recovers(ctx: Context):
    def slow_at_first():
        note("recovers: tried")
        if (HERE / "notes.txt").read_text().count("recovers: tried") == 1:
            time.sleep(600)
        return "at last"
    return ctx.step.run("slow", slow_at_first)


@fanout.function(trigger=fanout.on("app/go"), retries=0, timeouts=fanout.Timeouts(step=0.4))
async def blocks(ctx: AsyncContext):
    async def block():
        time.sleep(600)
    await ctx.step.run("block", block)


@fanout.function(trigger=fanout.on("app/go"), retries=0, timeouts=fanout.Timeouts(step=0.4))
async def in_a_thread(ctx: AsyncContext):
    await ctx.step.run("endless", endless)


@fanout.function(trigger=fanout.on("app/go"), retries=0, timeouts=fanout.Timeouts(step=0.4))
async def stubborn(ctx: AsyncContext):
    async def stays():
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass
    await ctx.step.run("stays", stays)


@fanout.function(trigger=fanout.on("app/go"), timeouts=fanout.Timeouts(step=0.4))
def quick(ctx: Context):
    ctx.step.sleep("longer than a step may take", 0.6)
    return [ctx.step.run("quick", time.sleep, 0.01) for _ in range(5)]


def neighbour(number):
    @fanout.function(trigger=fanout.on("app/go"), id=f"neighbour-{number}", retries=0)
    def plain(ctx: Context):
        for step in range(20):
            ctx.step.run("work", note, f"neighbour-{number} {step}")
            ctx.step.run("nap", time.sleep, 0.03)
        return number
    return plain


neighbours = [neighbour(number) for number in range(5)]


# Tasks that let themselves be cancelled: nobody is killed.


@fanout.function(trigger=fanout.on("app/calm"), retries=1, timeouts=fanout.Timeouts(step=0.2))
async def sleeps(ctx: AsyncContext):
    async def sleep():
        note(f"sleeps {os.getpid()}")
        await asyncio.sleep(600)
    try:
        await ctx.step.run("sleep", sleep)
    except fanout.StepError as error:
        return [error.type, error.cause_message]


@fanout.function(trigger=fanout.on("app/calm"), retries=0, timeouts=fanout.Timeouts(step=25))
async def own_timeout(ctx: AsyncContext):
    async def hurry():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(600)
    try:
        await ctx.step.run("hurry", hurry)
    except fanout.StepError as error:
        return [error.type, error.cause_message]


@fanout.function(trigger=fanout.on("app/calm"))
async def calm(ctx: AsyncContext):
    for _ in range(10):
        await ctx.step.run("nap", asyncio.sleep, 0.05)
    return os.getpid()


# Whole runs.


@fanout.function(trigger=fanout.on("app/run"), timeouts=fanout.Timeouts(finish=0.5), on_failure=lambda ctx: None)
def too_long(ctx: Context):
    for _ in range(100):
        ctx.step.run("nap", time.sleep, 0.05)


@fanout.function(trigger=fanout.on("app/run"), timeouts=fanout.Timeouts(finish=2))
def asleep(ctx: Context):
    ctx.step.parallel(lambda: ctx.step.sleep("nap", "1h"), lambda: ctx.step.invoke("child", patient))


@fanout.function(trigger=fanout.on("app/run"), timeouts=fanout.Timeouts(finish=0.5))
async def between_steps(ctx: AsyncContext):
    await asyncio.sleep(600)


@fanout.function()
async def patient(ctx: AsyncContext):
    await ctx.step.wait_for_event("never", event="app/never", timeout="1h")


@fanout.function(trigger=fanout.on("app/run"), timeouts=fanout.Timeouts(start=25, finish=25, step=25))
def in_time(ctx: Context):
    ctx.step.sleep("nap", 0.6)
    return "in time"


@fanout.function(trigger=fanout.on("fanout/function.failed"))
def hears(ctx: Context):
    note(f"failed: {ctx.event.data['function_id']} {ctx.event.data['error']['type']}")
"""


def send(project: Project, name: str) -> dict[str, dict[str, Any]]:
    return {run["function"]: run for run in project.send(name).json()["runs"]}


def late(step: str, seconds: str = "0.4") -> tuple[str, str]:
    return "TimeoutError", f"step `{step}` did not end within {seconds} s"


@pytest.mark.parametrize("park", ["0", "366d"])
def test_a_step_that_ignores_its_limit_costs_only_itself(project: Project, park: str) -> None:
    project.write(CODE, toml=TOML.format(park=park))
    runs = send(project, "app/go")
    for name, step in (("loops", "endless"), ("blocks", "block"), ("in-a-thread", "endless"), ("stubborn", "stays")):
        run = runs[name]
        assert (run["state"], run["reason"]) == ("failed", None)
        assert run["error"]["message"].startswith(f"step `{step}` failed: TimeoutError: step `{step}` did not end")
    assert runs["compensates"]["output"] == ["endless", *late("endless")]
    assert (runs["recovers"]["state"], runs["recovers"]["output"]) == ("completed", "at last")
    assert runs["quick"]["output"] == [None] * 5
    attempts = {
        (function, step): attempts
        for function, step, attempts in project.query(
            "SELECT function, step.key, attempts FROM step JOIN run ON run.key = run WHERE step.state = 'failed'"
        )
    }
    assert attempts == {
        ("loops", "endless"): 2, ("compensates", "endless"): 2,
        ("blocks", "block"): 1, ("in-a-thread", "endless"): 1, ("stubborn", "stays"): 1,
    }  # fmt: skip
    assert project.notes().count("loops: before") == 1
    # Only what is over its limit has failed; a neighbour that was over its own had its time begin anew.
    failures = project.query(
        "SELECT function, step, type, message, count(*) FROM failure JOIN run ON run.key = run "
        " WHERE step IN ('endless', 'block', 'stays') GROUP BY 1, 2, 3, 4"
    )
    assert sorted(failures) == sorted(
        [
            ("blocks", "block", *late("block"), 1), ("compensates", "endless", *late("endless"), 2),
            ("in-a-thread", "endless", *late("endless"), 1), ("loops", "endless", *late("endless"), 2),
            ("stubborn", "stays", *late("stays"), 1),
        ]
    )  # fmt: skip
    assert project.query("SELECT sum(crashes), sum(is_suspect) FROM run") == [(0, 0)]
    for number in range(5):
        run = runs[f"neighbour-{number}"]
        assert (run["state"], run["output"], run["attempts"], len(run["steps"])) == ("completed", number, 1, 40)
        seen = [int(line.split()[1]) for line in project.notes() if line.startswith(f"neighbour-{number} ")]
        assert seen == sorted(seen), "a step was done again after it was recorded"


@pytest.mark.parametrize("park", ["0", "366d"])
def test_a_task_is_cancelled_and_its_worker_lives(project: Project, park: str) -> None:
    project.write(CODE, toml=TOML.format(park=park).replace("processes = 2", "processes = 1"))
    runs = send(project, "app/calm")
    assert runs["sleeps"]["output"] == list(late("sleep", "0.2"))
    assert runs["own-timeout"]["output"] == ["TimeoutError", ""]
    assert runs["calm"]["state"] == "completed"
    pids = {int(line.split()[1]) for line in project.notes() if line.startswith("sleeps")}
    assert pids == {runs["calm"]["output"]}
    assert len([line for line in project.notes() if line.startswith("sleeps")]) == 2


@pytest.mark.parametrize("park", ["0", "366d"])
def test_a_run_that_takes_too_long_has_timed_out(project: Project, park: str) -> None:
    project.write(CODE, toml=TOML.format(park=park))
    began = time.monotonic()
    runs = send(project, "app/run")
    # Limits that were kept are not waited for.
    assert time.monotonic() - began < 20
    for name, seconds in (("too-long", 0.5), ("asleep", 2), ("between-steps", 0.5)):
        run = runs[name]
        assert (run["state"], run["reason"], run["attempts"]) == ("failed", "timed out", 1)
        assert (run["error"]["type"], run["error"]["message"]) == ("TimeoutError", f"it did not end within {seconds} s")
        assert run["ended_at"] - run["started_at"] >= seconds * 1000
    assert runs["in-time"]["output"] == "in time"
    assert project.query("SELECT state FROM run WHERE function = 'patient'") == [("cancelled",)]
    assert project.query("SELECT state FROM run WHERE function = 'too-long-on-failure'") == [("completed",)]
    assert sorted(line for line in project.notes() if line.startswith("failed")) == [
        f"failed: {name} TimeoutError" for name in ("asleep", "between-steps", "too-long")
    ]
    assert {state for (state,) in project.query("SELECT DISTINCT state FROM step")} <= {"completed", "cancelled"}


def test_a_run_that_is_not_started_in_time_never_is(project: Project) -> None:
    project.write(
        """
        @fanout.function(trigger=fanout.on("app/go"))
        def first(ctx: Context):
            ctx.step.run("block", time.sleep, 0.8)

        @fanout.function(trigger=fanout.on("app/go"), timeouts=fanout.Timeouts(start=0.3))
        def hurried(ctx: Context):
            note("hurried")

        @fanout.function(trigger=fanout.on("app/go"), timeouts=fanout.Timeouts(start=30, finish=30))
        def patient(ctx: Context):
            ctx.step.sleep("nap", 0.05)
            return "begun"

        @fanout.function(trigger=fanout.on("app/other"), timeouts=fanout.Timeouts(start=0.3))
        def begins_at_once(ctx: Context):
            ctx.step.run("long", time.sleep, 0.5)
            ctx.step.sleep("nap", 0.5)
            return "begun"
        """,
        toml=TOML.format(park="0") + "",
    )
    text = (project.root / "fanout.toml").read_text().replace("processes = 2", "processes = 1\nslots = 1")
    (project.root / "fanout.toml").write_text(text)
    runs = send(project, "app/go")
    assert (runs["hurried"]["state"], runs["hurried"]["reason"]) == ("failed", "timed out")
    assert runs["hurried"]["error"]["message"] == "it was not started within 0.3 s"
    assert runs["hurried"]["started_at"] is None
    assert (runs["patient"]["output"], project.notes()) == ("begun", [])
    assert send(project, "app/other")["begins-at-once"]["output"] == "begun"
    assert json.loads(project.fanout("runs", "--failed", "--json").out)["runs"][0]["id"] == runs["hurried"]["id"]
