"""Executions that wait: they hold no slot, leave unseen, and are no loss when they die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import fanout
from tests.acceptance.both import KINDS, PARKS, Suite, notes, write
from tests.acceptance.conftest import Project, is_alive, until

CODE = """
from concurrent.futures import ThreadPoolExecutor


async def value(name, value):
    note(f"{name}: {value}")
    return value


@go()
async def catches_exceptions(ctx):
    said = []
    async def flaky():
        fail_once("catches exceptions")
        return "good"
    for call in (
        lambda: ctx.step.sleep("nap", 0.02),
        lambda: ctx.step.run("flaky", flaky),
        lambda: ctx.step.wait_for_event("event", event="app/never", timeout=0.05),
        lambda: ctx.step.invoke("child", naps),
        lambda: ctx.step.map("map", naps, range(3)),
        lambda: ctx.step.parallel(lambda: ctx.step.sleep("one", 0.02), lambda: ctx.step.sleep("two", 0.04)),
    ):
        try:
            said.append(await call())
        except Exception as error:
            said.append(repr(error))
    return said


@child()
async def naps(ctx):
    await ctx.step.sleep("nap", 0.02)
    return "rested"


@go()
async def catches_everything(ctx):
    for number in range(3):
        try:
            await ctx.step.sleep("nap", 0.02)
        except BaseException:
            note("catches everything: caught")
        try:
            await ctx.step.run("step", value, "catches everything", str(number))
        except BaseException:
            pass
    return await ctx.step.run("last", value, "catches everything", "last")


@go()
async def insists(ctx):
    while True:
        try:
            await ctx.step.sleep("nap", 0.02)
            return await ctx.step.run("step", value, "insists", "done")
        except:
            pass


@go()
async def cleans_up(ctx):
    try:
        await ctx.step.sleep("nap", 0.02)
        return await ctx.step.run("work", value, "cleans up", "work")
    finally:
        await ctx.step.run("clean", value, "cleans up", "clean")


if KIND == "plain":

    @go()
    def own_threads(ctx):
        def work(n):
            ctx.step.sleep("nap", 0.01 * n)
            return ctx.step.run("square", lambda: n * n)
        with ThreadPoolExecutor(4) as threads:
            squares = sorted(threads.map(work, range(8)))
        ctx.step.sleep("last nap", 0.02)
        return squares
"""


@pytest.fixture(scope="module", params=PARKS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp(request.param), CODE, park=PARKS[request.param])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_except_exception_around_a_step_does_not_see_that_it_leaves(suite: Suite, kind: str) -> None:
    assert suite.output("catches-exceptions", kind) == [None, "good", None, "rested", ["rested"] * 3, [None, None]]


def test_except_base_exception_does_but_has_nothing_of_it(suite: Suite, kind: str) -> None:
    assert suite.output("catches-everything", kind) == "last"
    said = [note for note in suite.notes("catches everything", kind) if note != "caught"]
    assert said == ["0", "1", "2", "last"]


def test_code_that_tries_again_for_ever_comes_to_its_end(suite: Suite, kind: str) -> None:
    assert suite.output("insists", kind) == "done"
    assert suite.notes("insists", kind) == ["done"]
    assert suite.steps("insists", kind) == {"nap": ("completed", 1), "step": ("completed", 1)}


def test_a_step_that_cleans_up_runs_once_and_at_the_end(suite: Suite, kind: str) -> None:
    assert suite.output("cleans-up", kind) == "work"
    assert suite.notes("cleans up", kind) == ["work", "clean"]


def test_steps_in_threads_of_the_user_s_own(suite: Suite) -> None:
    assert suite.output("own-threads", "plain") == [n * n for n in range(8)]


MEETING = """
PEOPLE = 30


@child("app/meet")
async def meets(ctx):
    await ctx.step.run("arrive", note, "meets: arrived")
    event = await ctx.step.wait_for_event("all are here", event=f"app/begin-{KIND}", timeout="300d")
    await ctx.step.run("leave", note, "meets: left")
    return event.data["said"]


@child("app/call")
async def calls(ctx):
    # Only what comes after all of them wait is heard by all of them.
    while (HERE / f"notes-{KIND}.txt").read_text().count("left") < PEOPLE:
        if (HERE / f"notes-{KIND}.txt").read_text().count("arrived") >= PEOPLE:
            await ctx.step.send_event("begin", {"name": f"app/begin-{KIND}", "data": {"said": "welcome"}})
        await ctx.step.sleep("a while", 0.05)
"""


@pytest.mark.parametrize("park", PARKS)
def test_many_more_wait_than_there_are_slots(tmp_path: Path, park: str) -> None:
    """Those that may stay are more than there is room for: the ones that have waited the longest leave."""
    project = write(tmp_path, MEETING, park=PARKS[park], pool="processes = 1\nslots = 2")
    (tmp_path / "events.ndjson").write_text('{"name": "app/meet"}\n' * 30 + '{"name": "app/call"}\n')
    result = project.fanout("send", "events.ndjson", "--json")
    assert result.code == 0, result.err
    met = [run["output"] for run in result.json()["runs"] if run["function"].startswith("meets")]
    assert met == ["welcome"] * 60
    for kind in KINDS:
        assert sorted(notes(project, "meets", kind)) == ["arrived"] * 30 + ["left"] * 30


PATIENT = """
@child("app/wait")
async def waits(ctx):
    await ctx.step.run("before", note, f"waits: before {os.getpid()}")
    event = await ctx.step.wait_for_event("event", event="app/come", timeout="300d")
    await ctx.step.run("after", note, "waits: after")
    return event.data["n"]
"""


def workers(project: Project) -> set[int]:
    said = [note for kind in KINDS for note in notes(project, "waits", kind)]
    return {int(note.split()[1]) for note in said if note.startswith("before")}


def begin_waiting(project: Project, client: fanout.Client) -> None:
    client.send(*[{"name": "app/wait"}] * 5)
    until(lambda: project.query("SELECT count(*) FROM run WHERE state = 'waiting'") == [(10,)], "all wait")


def check_waited(project: Project) -> None:
    assert project.query("SELECT state, output, crashes, attempt, count(*) FROM run GROUP BY 1, 2, 3, 4") == [
        ("completed", "7", 0, 0, 10)
    ]
    for kind in KINDS:
        said = [note.split()[0] for note in notes(project, "waits", kind)]
        assert sorted(said) == ["after"] * 5 + ["before"] * 5


@pytest.mark.parametrize("park", PARKS)
def test_a_worker_that_dies_with_executions_that_wait_charges_nobody(tmp_path: Path, park: str) -> None:
    project = write(tmp_path, PATIENT, park=PARKS[park])
    with project.serving(), fanout.connect(tmp_path / "fanout.toml") as client:
        begin_waiting(project, client)
        for pid in workers(project):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(is_alive(pid) for pid in workers(project)), "the workers are gone")
        until(lambda: project.query("SELECT DISTINCT state, is_suspect FROM run") == [("waiting", 0)], "all still wait")
        client.wait(client.send({"name": "app/come", "data": {"n": 7}}), timeout_s=60)
        until(lambda: project.query("SELECT DISTINCT state FROM run") == [("completed",)], "all have gone on")
    check_waited(project)
    assert project.query("SELECT * FROM failure") == []


@pytest.mark.parametrize("park", PARKS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_engine_that_ends_while_executions_wait(tmp_path: Path, park: str, number: signal.Signals) -> None:
    project = write(tmp_path, PATIENT, park=PARKS[park])
    with project.serving() as engine, fanout.connect(tmp_path / "fanout.toml") as client:
        begin_waiting(project, client)
        engine.send_signal(number)
        _, err = engine.communicate(timeout=30)
        # There is nothing to be waited for.
        assert err == ("" if number is signal.SIGKILL else "stopped; what was left goes on next time\n")
    until(lambda: not any(is_alive(pid) for pid in workers(project)), "the workers are gone")
    assert project.query("SELECT DISTINCT state FROM run") == [("waiting",)]
    assert project.send("app/come", {"n": 7}).code == 0
    check_waited(project)
