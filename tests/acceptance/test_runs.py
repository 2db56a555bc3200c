"""`fanout runs`, `fanout init`, and the command as a whole."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess

import pytest

from fanout.commands.app import COMMANDS
from tests.acceptance.conftest import COMMAND, Project

CODE = """
@fanout.function(trigger=fanout.on("app/go"), retries=1)
def broken(ctx: Context):
    ctx.step.run("fine", lambda: {"n": 1})
    def fail():
        raise ValueError("[red]no\\x1b[2J")
    ctx.step.run("fail", fail)

@fanout.function(trigger=fanout.on("app/go"))
def works(ctx: Context):
    return "yes"
"""


def masked(text: str) -> str:
    """Ids, times and durations differ from run to run."""
    text = re.sub(r"\b01[0-9A-Z]{24}(?=  [✓✗])", f"{'<id>':.<26}", text)
    text = re.sub(r"\b01[0-9A-Z]{24}\b", "<id>", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "<time>..", text)
    text = re.sub(r"\b\d+(\.\d)? m?s\b *", "<took> ", text)
    text = re.sub(r"work.py:\d+", "work.py:N", text)
    # How the steps are drawn is in tests/unit/test_run_page.py.
    text = re.sub(r"(?m)^steps .*", "steps <scale>", text)
    text = re.sub(r"(?m)^    queued .*\n", "", text)
    text = re.sub(r"(?m)^  ([✓✗] \w+) [ ▒█─]*", r"  \1 <bar> ", text)
    text = re.sub(r"(?m)^ +▒ failed attempt(  ─ waiting)?$", " <legend>", text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def test_the_list_and_one_run_in_whole(project: Project) -> None:
    project.write(CODE)
    project.send("app/go", {"x": "[bold]"})
    result = project.fanout("runs")
    assert masked(result.out) == (
        "run                         state        function  event   began     took\n"
        "<id>......................  ✓ completed  works     app/go  <time>..  <took>\n"
        "<id>......................  ✗ failed     broken    app/go  <time>..  <took>\n"
    )
    short = result.out.splitlines()[2].split()[0][-10:]
    shown = project.fanout("runs", "show", short)
    assert shown.code == 0
    assert masked(shown.out) == (
        "run      <id>\n"
        "function broken\n"
        "state    ✗ failed\n"
        "event    app/go  <id>\n"
        'data     {"x":"[bold]"}\n'
        "queued   <time>..\n"
        "began    <time>.., took <took>\n"
        "steps <scale>\n"
        '  ✓ fine <bar> <took> {"n":1}\n'
        "  ✗ fail <bar> <took> 2 attempts\n"
        " <legend>\n"
        "\n"
        "<time>..  step `fail`, attempts 1 and 2: ValueError: [red]no\\x1b[2J\n"
        "Traceback (most recent call last):\n"
        "  work.py:N  fail\n"
        '    raise ValueError("[red]no\\x1b[2J")\n'
        "ValueError: [red]no\\x1b[2J\n"
    )


def test_filters_and_json(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")
    everything = project.fanout("runs", "--json").json()["runs"]
    assert [run["function"] for run in everything] == ["works", "broken"]
    assert all("steps" not in run for run in everything)
    assert [run["function"] for run in project.fanout("runs", "--failed", "--json").json()["runs"]] == ["broken"]
    assert [run["id"] for run in project.fanout("runs", "--function", "works", "--json").json()["runs"]] == [
        everything[0]["id"]
    ]
    assert project.fanout("runs", "--limit", "1", "--json").json()["runs"] == everything[:1]
    shown = project.fanout("runs", "show", everything[1]["id"], "--json").json()
    assert [(failure["step"], failure["attempt"], failure["type"]) for failure in shown["failures"]] == [
        ("fail", 0, "ValueError"), ("fail", 1, "ValueError"), (None, 0, "StepError"),
    ]  # fmt: skip
    assert project.fanout("runs", "--status", "cancelled") == (0, "", "no such runs\n")


def test_follow_tells_of_runs_that_are_new_or_change_until_it_is_stopped(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")
    process = project.start("runs", "--follow", "--function", "broken", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["function"], first["state"]) == ("broken", "failed")
    project.send("app/go")
    second = json.loads(process.stdout.readline())
    while second["state"] != "failed":
        second = json.loads(process.stdout.readline())
    assert (second["function"], second["id"] > first["id"]) == ("broken", True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.communicate()[0] == ""


def test_more_filters(project: Project) -> None:
    project.write(CODE)
    project.send("app/go")

    def found(*arguments: str) -> list[str]:
        return [run["function"] for run in project.fanout("runs", *arguments, "--json").json()["runs"]]

    assert found("--event", "app/*", "--since", "1h") == ["works", "broken"]
    assert found("--until", "1h") == []
    assert found("--error", "valueerror: [RED]no") == ["broken"]
    assert project.fanout("runs", "--function", "brokn") == (0, "", "no such runs; did you mean `broken`?\n")
    hint = "hint: write `2h` for two hours ago, or a time like 2025-10-26T02:30\n"
    assert project.fanout("runs", "--since", "soon") == (2, "", f"error: `--since soon` is no time\n{hint}")


def test_there_is_no_journal_yet(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("runs")
    assert (result.code, result.out) == (3, "")
    assert result.err.endswith("hint: send an event first: `fanout send FILE`\n")


def test_no_project_is_an_error_with_a_hint(project: Project) -> None:
    for arguments in (("runs",), ("send", "x.json"), ("serve",), ("replay", "--failed")):
        result = project.fanout(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.splitlines()[-1].startswith("hint: "), result.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(project: Project, name: str) -> None:
    result = project.fanout(name, "--help")
    assert result.code == 0
    assert COMMANDS[name].split(";")[0].split(",")[0][:30] in result.out


def test_an_unknown_command_and_option(project: Project) -> None:
    assert project.fanout("snd").code == 2
    assert project.fanout("send", "--nme", "x").code == 2


def test_a_second_engine_is_refused_and_told_who_has_the_journal(project: Project) -> None:
    project.write(CODE)
    with project.serving() as engine:
        result = project.fanout("serve")
    assert result.code == 4
    assert f"pid {engine.pid}" in result.err


def on_a_terminal(project: Project, *arguments: str, columns: int) -> str:
    """What the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**project.environment(), "COLUMNS": str(columns), "TERM": "xterm-256color"}
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
    process.wait(timeout=60)
    return written.decode()


def test_a_narrow_terminal_is_respected_and_colour_is_only_for_terminals(project: Project) -> None:
    project.write(
        CODE + "\n@fanout.function(trigger=fanout.on('app/go'))\ndef slow(ctx): ctx.step.run('s', time.sleep, 0.4)\n"
    )
    shown = on_a_terminal(project, "send", "--name", "app/go", columns=40)
    assert "\x1b[" in shown
    final = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in shown.splitlines()]
    tree = [line.rstrip() for line in final if line.startswith(("├", "└", "app/"))]
    assert tree
    assert max(map(len, tree)) <= 40
    assert "\x1b[2J" not in shown
    assert "\x1b" not in project.fanout("runs").out
