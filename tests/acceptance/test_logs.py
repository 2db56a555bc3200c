"""`fanout logs`: what functions print and log, by run, step and attempt."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import COMMAND, FENCE_S, Project, until

CODE = """
import logging, sys, threading
LOG = logging.getLogger("shop")

def pay(amount):
    print("paid", amount)
    LOG.info("in %s", "EUR")
    print("oops", file=sys.stderr)

def fail_once():
    marker = HERE / "failed"
    print("trying")
    if not marker.exists():
        marker.touch()
        raise ValueError("no")

@fanout.function(trigger=fanout.on("app/go"))
def talks(ctx: Context):
    print("begin")
    ctx.step.run("pay", pay, 12)
    ctx.step.run("flaky", fail_once)
    ctx.logger.warning("two\\nlines")

@fanout.function(trigger=fanout.on("app/go"))
async def silent(ctx: AsyncContext):
    pass

@fanout.function(trigger=fanout.on("app/odd"))
def odd(ctx: Context):
    ctx.step.run("[red]step", print, "\\x1b[2J[bold]no\\x07\\u202e")
    logging.getLogger("[red]\\x1b[1m").error("\\x1b]0;title\\x07")

@fanout.function(trigger=fanout.on("app/slow"))
def slow(ctx: Context):
    for number in range(3):
        print("line", number)
        while not (HERE / f"gate{number}").exists():
            time.sleep(0.005)
    print("last")

@fanout.function(trigger=fanout.on("app/crash"), retries=0)
def crashes(ctx: Context):
    def step():
        print("about to crash")
        os.kill(os.getpid(), 11)
    ctx.step.run("crash", step)

@fanout.function(trigger=fanout.on("app/much"))
def much(ctx: Context):
    def step():
        for number in range(100_000):
            print("line", number)
    ctx.step.run("much", step)

@fanout.function(trigger=fanout.on("app/breaks"), retries=0)
def breaks(ctx: Context):
    print("first part")
    ctx.step.run("kept", print, "only once")
    if not (HERE / "mended").exists():
        raise ValueError
"""


def run_of(project: Project, function: str) -> str:
    found = project.fanout("runs", "--function", function, "--json").json()["runs"]
    id_: str = found[0]["id"]
    return id_


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def masked(text: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "<time>", text)


def test_a_run_with_its_steps_and_attempts(project: Project) -> None:
    project.write(CODE)
    sent = project.fanout("send", "--name", "app/go")
    assert {"begin", "paid 12", "oops", "trying", "talks: two", "lines"} <= set(sent.err.splitlines())
    assert "EUR" not in sent.err
    run = run_of(project, "talks")
    shown = project.fanout("logs", run[-8:])
    assert (shown.code, shown.err) == (0, "")
    assert masked(shown.out) == (
        "<time>  -                 begin\n"
        "<time>  pay               paid 12\n"
        "<time>  pay               info (shop): in EUR\n"
        "<time>  pay               stderr: oops\n"
        "<time>  flaky             trying\n"
        "<time>  flaky, attempt 2  trying\n"
        "<time>  -                 warning: two\n"
        "                                lines\n"
    )
    assert f"log      7 lines: `fanout logs {run[-10:]}`\n" in project.fanout("runs", "show", run).out
    assert project.fanout("runs", "show", run, "--json").json()["log_lines"] == 7
    assert masked(project.fanout("logs", run, "--step", "flaky").out) == (
        "<time>  flaky             trying\n<time>  flaky, attempt 2  trying\n"
    )


def test_json_has_an_object_a_line_with_stable_keys(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")
    run = run_of(project, "talks")
    found = objects(project.fanout("logs", run, "--json").out)
    times = [each.pop("at") for each in found]
    assert times == sorted(times)
    assert found[1:3] + found[5:] == [
        {"run": run, "step": "pay", "attempt": 0, "stream": "stdout", "level": None, "logger": None, "text": "paid 12"},
        {"run": run, "step": "pay", "attempt": 0, "stream": None, "level": "info", "logger": "shop", "text": "in EUR"},
        {"run": run, "step": "flaky", "attempt": 1, "stream": "stdout", "level": None, "logger": None, "text": "trying"},
        {"run": run, "step": None, "attempt": 0, "stream": None, "level": "warning", "logger": "fanout.talks",
         "text": "two\nlines"},
    ]  # fmt: skip


def test_runs_and_steps_that_have_said_nothing(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")
    silent, talks = run_of(project, "silent"), run_of(project, "talks")
    assert project.fanout("logs", silent) == (0, "", f"{silent[-10:]} has printed and logged nothing\n")
    assert "log " not in project.fanout("runs", "show", silent).out
    assert project.fanout("logs", talks, "--step", "pya") == (
        0,
        "",
        f"step `pya` of {talks[-10:]} has printed and logged nothing\nhint: did you mean `pay`?\n",
    )
    assert project.fanout("logs", "nope") == (
        3,
        "",
        "error: there is no run `nope`\nhint: `fanout runs` lists them\n",
    )


def on_a_terminal(project: Project, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**project.environment(), "TERM": "xterm-256color"}
    del environment["NO_COLOR"]
    process = subprocess.Popen([COMMAND, *arguments], cwd=project.root, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:
        pass
    finally:
        os.close(ours)
    process.wait(timeout=FENCE_S)
    return written.decode()


def test_nothing_that_was_printed_becomes_markup_or_moves_the_cursor(project: Project) -> None:
    project.write(CODE)
    project.send("app/odd")
    run = run_of(project, "odd")
    plain = (
        "<time>  [red]step  \\x1b[2J[bold]no\\x07\\u202e\n"
        "<time>  -          error ([red]\\x1b[1m): \\x1b]0;title\\x07\n"
    )
    assert masked(project.fanout("logs", run).out) == plain
    coloured = on_a_terminal(project, "logs", run)
    assert "\x1b[31merror" in coloured
    assert masked(re.sub(r"\x1b\[[0-9;]*m", "", coloured)).replace("\r\n", "\n") == plain
    texts = [each["text"] for each in objects(project.fanout("logs", run, "--json").out)]
    assert texts == ["\x1b[2J[bold]no\x07\u202e", "\x1b]0;title\x07"]


def started(project: Project) -> str:
    project.fanout("send", "--name", "app/slow", "--no-wait")
    found: list[str] = []

    def has_begun() -> bool:
        found[:] = [run["id"] for run in project.fanout("runs", "--function", "slow", "--json").json()["runs"]]
        return bool(found) and "line 0" in project.fanout("logs", found[0]).out

    until(has_begun, "the run has printed")
    return found[0]


def test_following_a_run_to_its_end(project: Project, tmp_path: Path) -> None:
    project.write(CODE)
    file = tmp_path / "followed"
    with project.serving():
        run = started(project)
        with project.start("logs", "-f", run, into=file) as following:
            for number in range(3):
                until(lambda number=number: f"line {number}" in file.read_text(), "the line is shown")  # type: ignore[misc]
                assert following.poll() is None
                (project.root / f"gate{number}").touch()
            assert following.wait(FENCE_S) == 0
        assert [line.split("  ")[-1] for line in file.read_text().splitlines()] == [
            "line 0",
            "line 1",
            "line 2",
            "last",
        ]
        # Of a run that is over there is nothing to wait for.
        assert project.fanout("logs", "--follow", run).out == file.read_text()


def test_following_ends_with_ctrl_c(project: Project, tmp_path: Path) -> None:
    project.write(CODE)
    file = tmp_path / "followed"
    with project.serving():
        run = started(project)
        with project.start("logs", "--follow", "--json", run, into=file) as following:
            until(lambda: "line 0" in file.read_text(), "the line is shown")
            following.send_signal(signal.SIGINT)
            assert following.wait(FENCE_S) == 130
            assert following.stderr is not None
            assert following.stderr.read() == ""
        for number in range(3):
            (project.root / f"gate{number}").touch()


def test_following_a_run_that_nobody_runs_says_so(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")
    project.fanout("send", "--name", "app/slow", "--no-wait")
    with project.serving():
        until(lambda: "slow" in project.fanout("runs").out, "there is a run")
    run = run_of(project, "slow")
    with project.start("logs", "-f", run) as following:
        assert following.stderr is not None
        assert following.stderr.readline() == "hint: no engine is running; `fanout serve` goes on with this run\n"
        following.send_signal(signal.SIGINT)
        following.communicate()


def test_what_was_printed_before_a_crash_is_there(project: Project) -> None:
    project.write(CODE)
    project.send("app/crash")
    found = objects(project.fanout("logs", run_of(project, "crashes"), "--json").out)
    assert {(each["step"], each["text"]) for each in found} == {("crash", "about to crash")}


def test_a_replay_has_a_log_of_its_own(project: Project) -> None:
    project.write(CODE)
    project.send("app/breaks")
    first = run_of(project, "breaks")
    (project.root / "mended").touch()
    project.fanout("replay", "--failed")
    second = run_of(project, "breaks")
    texts = [[each["text"] for each in objects(project.fanout("logs", run, "--json").out)] for run in (first, second)]
    assert texts == [["first part", "only once"], ["first part"]]


def test_a_hundred_thousand_lines(project: Project) -> None:
    project.write(CODE)
    assert project.send("app/much").code == 0
    shown = project.fanout("logs", run_of(project, "much"))
    assert shown.out.count("\n") == 10_000
    assert shown.out.endswith("much  line 9999\n")
    assert shown.err == "hint: 90,000 more lines left out: of a run 10,000 are kept\n"


@pytest.mark.parametrize("content", [b"not a database, whatever it says" * 200, b""])
def test_logs_that_cannot_be_kept_harm_no_run(project: Project, content: bytes) -> None:
    project.write(CODE)
    logs = project.journal.with_name("journal.logs.db")
    logs.parent.mkdir()
    logs.write_bytes(content)
    sent = project.fanout("send", "--name", "app/go", "--json")
    assert {run["state"] for run in sent.json()["runs"]} == {"completed"}
    run = run_of(project, "talks")
    if not content:
        assert project.fanout("logs", run).code == 0
        return
    assert sent.err.count("warning: what functions print is not kept: ") == 1
    assert project.fanout("runs", "show", run).code == 0
    shown = project.fanout("logs", run)
    assert (shown.code, shown.out) == (4, "")
    assert shown.err.endswith("hint: no run needs them: move that file away, and a new one is made\n")
