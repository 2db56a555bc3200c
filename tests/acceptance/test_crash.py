"""The engine dies by SIGKILL, anywhere: nothing accepted is lost, nothing recorded is done again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from tests.acceptance.conftest import Project, is_alive, until

KILLER = str(Path(__file__).with_name("killer.py"))

SCENARIO = """
def work(run, step):
    note(f"{run} {step} {os.getpid()}")
    return step

@fanout.function(trigger=fanout.on("app/go"))
def plain(ctx: Context):
    return [ctx.step.run(name, work, ctx.run_id, name) for name in ("one", "two", "three")]

@fanout.function(trigger=fanout.on("app/go"))
async def asynchronous(ctx: AsyncContext):
    return [await ctx.step.run(name, work, ctx.run_id, name) for name in ("one", "two", "three")]

@fanout.function(trigger=fanout.on("app/go"), retries=3)
def flaky(ctx: Context):
    ctx.step.run("one", work, ctx.run_id, "one")
    def twice():
        work(ctx.run_id, "two")
        marker = HERE / f"{ctx.run_id}.txt"
        if not marker.exists():
            marker.write_text("")
            raise ConnectionError("not yet")
    ctx.step.run("two", twice)
    ctx.step.run("three", work, ctx.run_id, "three")

@fanout.function(trigger=fanout.on("app/go"), retries=1)
def broken(ctx: Context):
    ctx.step.run("one", work, ctx.run_id, "one")
    def fail():
        work(ctx.run_id, "two")
        raise ValueError("for good")
    ctx.step.run("two", fail)
"""
FINAL = {"plain": "completed", "asynchronous": "completed", "flaky": "completed", "broken": "failed"}
TOML = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 1\n[dev]\nretry_delay = 0.01\n'


def check(project: Project) -> None:
    """Every accepted event has its runs, all are final, and nothing was done again once it was acknowledged."""
    events = [key for (key,) in project.query("SELECT key FROM event WHERE name = 'app/go'")]
    runs = project.query("SELECT event, function, state, id FROM run ORDER BY event, function")
    assert [(event, function) for event, function, _, _ in runs] == [
        (event, function) for event in events for function in sorted(FINAL)
    ]
    for _, function, state, run_id in runs:
        assert state == FINAL[function], (function, run_id)
        steps = project.query(
            f"SELECT step.key, step.state FROM step JOIN run ON run.key = run WHERE id = '{run_id}' ORDER BY position"
        )
        expected = [("one", "completed"), ("two", "completed"), ("three", "completed")]
        assert steps == (expected if function != "broken" else [("one", "completed"), ("two", "failed")])
    # A step begins only when those before it are acknowledged: from then on they may not be executed any more.
    furthest: dict[str, int] = {}
    for line in project.notes():
        run_id, step, _ = line.split()
        place = ("one", "two", "three").index(step)
        assert place >= furthest.get(run_id, 0), f"{run_id} did {step} again"
        furthest[run_id] = place
    assert project.query("PRAGMA integrity_check") == [("ok",)]


def accepted(project: Project) -> int:
    try:
        return int(project.query("SELECT count(*) FROM event")[0][0])
    except apsw.Error:
        return 0  # There is no journal yet.


def until_accepted(project: Project, process: subprocess.Popen[str], events: int) -> None:
    until(lambda: accepted(project) >= events or process.poll() is not None, "the event is accepted")


def no_worker_is_left(project: Project) -> None:
    pids = {int(line.split()[2]) for line in project.notes()}
    until(lambda: not any(is_alive(pid) for pid in pids), "the workers of a killed engine end")


def killed_at(project: Project, number: int, moment: str) -> int:
    process = project.start(
        KILLER, str(number), moment, "send", "--name", "app/go", "--json", command=(sys.executable,)
    )
    process.communicate(timeout=60)
    return process.returncode


def transactions_of_an_uninterrupted_send(folder: Path) -> int:
    folder.mkdir()
    project = Project(folder)
    project.write(SCENARIO, toml=TOML)
    assert killed_at(project, 0, "never") == 1
    check(project)
    return int((folder / "transactions").read_text())


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_killed_at_each_commit_in_turn(tmp_path: Path, moment: str) -> None:
    count = transactions_of_an_uninterrupted_send(tmp_path / "whole")
    assert count > 6
    kills = 0
    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        project = Project(folder)
        project.write(SCENARIO, toml=TOML)
        # How steps share commits varies from run to run, so that a late one may not come at all.
        kills += killed_at(project, number, moment) == -signal.SIGKILL
        no_worker_is_left(project)
        project.send("app/nothing")
        check(project)
    assert kills > count / 2


def test_killed_at_random_a_hundred_times(project: Project) -> None:
    project.write(SCENARIO, toml=TOML)
    chance = random.Random(20261121)
    kills = 0
    while kills < 100:
        process = project.start("send", "--name", "app/go", "--json")
        if chance.random() < 0.8:
            # However slow this machine is: most kills come when the event has been accepted and its runs are at work.
            until_accepted(project, process, accepted(project) + 1)
            time.sleep(chance.uniform(0, 0.08))
        else:
            time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate(timeout=30)
        kills += process.returncode == -signal.SIGKILL
    result = project.send("app/go")
    assert {run["function"]: run["state"] for run in json.loads(result.out)["runs"]} == FINAL
    check(project)
    no_worker_is_left(project)
    assert accepted(project) > 50, "the kills were too early to show anything"
