"""`fanout cron`: schedules listed, foretold, triggered by hand, and run in the foreground."""

from __future__ import annotations

import json
import re
import signal
import subprocess

from tests.acceptance.conftest import FENCE_S, Project, until

CODE = """
@fanout.function(trigger=fanout.cron("30 2 * * *", tz="Europe/Berlin", jitter="20h"))
def nightly(ctx: Context):
    note(ctx.event.data["scheduled_at"])
    return ctx.event.data

@fanout.function(trigger=fanout.on("app/go"))
def other(ctx: Context):
    note("other")
"""
EVERY_SECOND = """
@fanout.function(trigger=fanout.cron("* * * * * *"), retries=0)
def tick(ctx: Context):
    note("tick")
    if len((HERE / "notes.txt").read_text().splitlines()) > 1:
        raise ValueError("no[red]")
"""


def masked(text: str) -> str:
    text = re.sub(r"\b01[0-9A-Z]{24}\b", "<id>", text)
    text = re.sub(r"\b[0-9A-Z]{10}\b(?!-)", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "<date>", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(r"in \d+ [dhm] \d+ [hms]", "in <time>", text)
    text = re.sub(r"\b\d+(\.\d)? m?s\b", "<took>", text)
    return "".join(re.sub(r" +", " ", line).rstrip() + "\n" for line in text.splitlines())


def test_the_list_in_a_new_project_and_after_a_tick(project: Project) -> None:
    project.write(CODE)
    hint = "hint: no engine is running: nothing ticks before `fanout cron run` or `fanout serve`\n"
    result = project.fanout("cron", "list")
    assert (result.code, masked(result.out), result.err) == (
        0,
        (
            "function schedule last tick next tick\n"
            "nightly every day at 02:30, up to 20h later, Europe/Berlin no tick yet <date> <time>\n"
            " 30 2 * * * in <time>\n"
        ),
        hint,
    )
    project.fanout("cron", "trigger", "nightly")
    result = project.fanout("cron", "list")
    assert masked(result.out).replace("<date> <time>", "<time>") == (
        "function schedule last tick next tick\n"
        "nightly every day at 02:30, up to 20h later, Europe/Berlin <time> <time>\n"
        " 30 2 * * * ✓ completed in <time>\n"
        " <id>\n"
    )
    with project.serving():
        assert project.fanout("cron", "list").err == ""
        [schedule] = project.fanout("cron", "list", "--json").json()["schedules"]
    assert (schedule["function"], schedule["last"]["state"], schedule["is_present"]) == ("nightly", "completed", True)
    assert schedule["next_at"] > schedule["last"]["scheduled_at"]


def test_a_schedule_whose_code_is_gone(project: Project) -> None:
    project.write(CODE)
    project.fanout("cron", "trigger", "nightly")
    project.write(CODE.replace("def nightly", "def renamed"))
    schedules = project.fanout("cron", "list", "--json").json()["schedules"]
    assert [(each["function"], each["is_present"], each["next_at"] is None) for each in schedules] == [
        ("renamed", True, False), ("nightly", False, True),
    ]  # fmt: skip
    assert "not in the code" in project.fanout("cron", "list").out


def test_there_is_no_schedule(project: Project) -> None:
    project.write("@fanout.function()\ndef f(ctx): ...\n")
    assert project.fanout("cron", "list") == (0, "", "no function has a cron trigger\n")
    result = project.fanout("cron", "run")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        'error: no function has a cron trigger\nhint: give one `trigger=fanout.cron("0 9 * * mon-fri")`\n'
    )


def test_the_next_ticks(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("cron", "next", "nightly", "-n", "2")
    lines = result.out.splitlines()
    assert (result.code, result.err, lines[0]) == (
        0, "", "every day at 02:30, up to 20h later, Europe/Berlin  (30 2 * * *)",
    )  # fmt: skip
    tick = re.compile(r"  \w{3} [\d-]{10} 0[23]:[03]0:00 CES?T  [\d-]{10} 0[01]:[03]0:00 UTC  in .*")
    assert all(tick.fullmatch(line) for line in lines[1:3]), lines
    assert {line.partition(": ")[2] for line in lines[3:]} == {
        "the clocks show 02:00 to 03:00 twice, so 02:30 ticks the first time only",
        "the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00",
    }
    [schedule] = project.fanout("cron", "next", "nightly", "--json").json()["schedules"]
    assert len(schedule["ticks"]) == 5
    assert {change["is_gap"] for change in schedule["clock_changes"]} == {True, False}


def test_the_next_ticks_of_what_has_none(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("cron", "next", "other") == (
        2, "", "error: `other` has no cron trigger\nhint: `fanout invoke other` runs it by hand\n",
    )  # fmt: skip
    assert project.fanout("cron", "next", "nihgtly") == (
        3, "", "error: there is no function `nihgtly`\nhint: did you mean `nightly`?\n",
    )  # fmt: skip


def test_a_tick_by_hand_is_a_run_of_the_schedule_at_once(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("cron", "trigger", "nightly", "--json")
    [run] = result.json()["runs"]
    assert (result.code, run["function"], run["event_name"], run["state"]) == (
        0, "nightly", "fanout/scheduled.timer", "completed",
    )  # fmt: skip
    assert (run["output"]["cron"], run["output"]["timezone"]) == ("30 2 * * *", "Europe/Berlin")
    shown = project.fanout("cron", "trigger", "nightly")
    assert masked(shown.out) == (
        "fanout/scheduled.timer <id>\n└── ✓ nightly <took>\n1 run of a tick of `nightly` in <took>: 1 completed\n"
    )
    assert len(project.notes()) == 2


def test_the_tick_of_another_time_is_there_once(project: Project) -> None:
    project.write(CODE)
    at = ("cron", "trigger", "nightly", "--at", "2025-10-26T02:30")
    assert project.fanout(*at).code == 0
    assert project.notes() == ["2025-10-26T00:30:00+00:00"]
    [(id_,)] = project.query("SELECT id FROM run")
    assert project.fanout(*at) == (
        2,
        "",
        (
            f"error: `nightly` has a run of 2025-10-26 02:30:00 CEST already: {id_}, completed\n"
            f"hint: `fanout replay {id_}` runs it once more\n"
        ),
    )
    assert project.fanout(*at[:-1], "2025-10-26T00:30:00Z").code == 2
    assert project.fanout(*at[:-1], "2025-10-26T02:30+01:00").code == 0
    assert project.fanout(*at[:-1], "half past two") == (
        2,
        "",
        "error: `half past two` is not a time\nhint: write it as 2025-10-26T02:30, or 2025-10-26T02:30+01:00\n",
    )


def test_what_can_not_be_triggered(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("cron", "trigger", "other") == (
        2, "", "error: `other` has no cron trigger\nhint: `fanout invoke other` runs it\n",
    )  # fmt: skip
    assert project.fanout("cron", "trigger", "nihgtly") == (
        3, "", "error: there is no function `nihgtly`\nhint: did you mean `nightly`?\n",
    )  # fmt: skip


def test_a_tick_by_hand_while_an_engine_runs(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        result = project.fanout("cron", "trigger", "nightly")
        assert (result.code, result.err) == (0, "")
        assert project.fanout("cron", "trigger", "other").code == 2
        assert project.fanout("cron", "trigger", "nothing").code == 3
    assert len(project.notes()) == 1


def running(project: Project, *options: str) -> subprocess.Popen[str]:
    process = project.start("cron", "run", *options)
    assert process.stderr is not None
    assert process.stderr.readline() == "running 1 schedule of 1 function; Ctrl-C stops\n"
    return process


def test_schedules_in_the_foreground_say_what_each_tick_became(project: Project) -> None:
    project.write(EVERY_SECOND)
    process = running(project)
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=FENCE_S)
    # There may be a word on a third tick, if that is at work.
    assert (process.returncode, err.splitlines()[-1]) == (130, "stopped; what was left goes on next time")
    assert masked("".join(lines)) == (
        "<time> tick ✓ completed <took> <id>\n<time> tick ✗ failed <took> <id> ValueError: no[red]\n"
    )


def test_schedules_in_the_foreground_as_json(project: Project) -> None:
    project.write(EVERY_SECOND)
    process = running(project, "--json")
    assert process.stdout is not None
    tick = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=FENCE_S)
    assert (tick["function"], tick["cron"], tick["timezone"], tick["run"]["state"]) == (
        "tick", "* * * * * *", "UTC", "completed",
    )  # fmt: skip


def test_a_tick_that_is_not_over_at_the_end_is_said_too(project: Project) -> None:
    project.write(
        '@fanout.function(trigger=fanout.cron("* * * * * *"))\n'
        'def long(ctx):\n    note("begins")\n    ctx.step.sleep("nap", "1h")\n'
    )
    process = running(project)
    until(
        lambda: project.journal.exists() and project.query("SELECT 1 FROM run WHERE state = 'waiting'") != [], "waits"
    )
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=FENCE_S)
    assert masked(out).splitlines()[-1] == "<time> long ↻ waiting <took> <id>"


def test_an_engine_that_runs_already_has_the_schedules(project: Project) -> None:
    project.write(CODE)
    with project.serving() as engine:
        assert project.fanout("cron", "run") == (
            4,
            "",
            (
                f"error: an engine with pid {engine.pid} is running already, and with it all schedules\n"
                "hint: `fanout cron list` shows what has ticked\n"
            ),
        )


def test_queued_ticks_wait_for_a_run_that_sleeps(project: Project) -> None:
    project.write(
        '@fanout.function(trigger=fanout.cron("* * * * * *"), overlap="queue")\n'
        'def long(ctx):\n    ctx.step.sleep("nap", "1h")\n'
    )
    process = running(project)
    until(lambda: project.journal.exists() and len(project.query("SELECT 1 FROM tick")) > 2, "it ticks")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=FENCE_S)
    [(first,)] = project.query("SELECT id FROM run WHERE started_at IS NOT NULL")
    # Nobody waits for an hour here, and people are told.
    result = project.fanout("cron", "trigger", "long")
    assert (result.code, result.out.splitlines()[-1].partition(": ")[2]) == (0, "1 queued")
    assert f"hint: `long` waits for the end of the tick before: {first[-10:]}" in result.err


def test_a_time_is_a_tick_of_the_schedule_that_ticks_then(project: Project) -> None:
    project.write(
        '@fanout.function(trigger=[fanout.cron("0 9 * * *"), fanout.cron("30 2 * * *", tz="Asia/Tokyo")])\n'
        "def two(ctx):\n    return ctx.event.data\n"
    )

    def chosen(at: str) -> tuple[str, str]:
        result = project.fanout("cron", "trigger", "two", "--at", at, "--json")
        assert result.code == 0
        return result.json()["runs"][0]["output"]["scheduled_at"], result.err

    assert chosen("2026-11-20T09:00") == ("2026-11-20T09:00:00+00:00", "")
    assert chosen("2026-11-20T02:30") == ("2026-11-19T17:30:00+00:00", "")
    words = "none of the 2 schedules of `two` ticks then: taken as a tick of the first (every day at 09:00, UTC)\n"
    assert chosen("2026-11-20T05:00") == ("2026-11-20T05:00:00+00:00", words)
    assert project.fanout("cron", "trigger", "two", "--at", "0001-01-01").code == 2


def test_a_tick_by_hand_ends_whatever_else_is_scheduled(project: Project) -> None:
    project.write(
        CODE + '@fanout.function(trigger=fanout.cron("* * * * * *"), overlap="cancel")\n'
        'def often(ctx):\n    ctx.step.sleep("nap", "5s")\n'
    )
    assert project.fanout("cron", "trigger", "nightly").code == 0
    assert project.query("SELECT DISTINCT function FROM run") == [("nightly",)]
