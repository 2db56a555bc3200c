"""`fanout send`, end to end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import COMMAND, Project, until

FOUR = """
def double(n):
    return n * 2

@fanout.function(trigger=fanout.on("app/number"))
def plain(ctx: Context):
    first = ctx.step.run("double", double, ctx.event.data["n"])
    return ctx.step.run("double", double, first)

@fanout.function(trigger=fanout.on("app/number"))
async def asynchronous(ctx: AsyncContext):
    async def triple(n):
        return n * 3
    return await ctx.step.run("triple", triple, ctx.event.data["n"])

@fanout.function(trigger=fanout.on("app/*"), retries=1)
def flaky(ctx: Context):
    def once():
        marker = HERE / "flaky.txt"
        if not marker.exists():
            marker.write_text("")
            raise ConnectionError("not yet")
        return "at last"
    return ctx.step.run("try", once)

@fanout.function(trigger=fanout.on("app/number"), retries=1)
def broken(ctx: Context):
    ctx.step.run("fine", double, 1)
    def fail():
        raise ValueError("it is broken")
    ctx.step.run("break", fail)
"""


def test_one_failure_touches_no_other_function(project: Project) -> None:
    project.write(FOUR)
    result = project.send("app/number", {"n": 5})
    assert result.code == 1
    assert result.err == ""
    value = result.json()
    assert list(value) == ["events", "runs", "woken", "cancelled"]
    [event] = value["events"]
    assert event == {"id": event["id"], "name": "app/number", "duplicate": False}
    runs = {run["function"]: run for run in value["runs"]}
    seen = {
        name: (
            run["state"], run["attempts"], run["output"], run["error"] and (run["error"]["type"], run["error"]["message"]),
            [(step["name"], step["state"], step["attempts"]) for step in run["steps"]],
        )
        for name, run in runs.items()
    }  # fmt: skip
    assert seen == {
        "plain": ("completed", 1, 20, None, [("double", "completed", 1), ("double#2", "completed", 1)]),
        "asynchronous": ("completed", 1, 15, None, [("triple", "completed", 1)]),
        "flaky": ("completed", 1, "at last", None, [("try", "completed", 2)]),
        "broken": (
            "failed", 1, None, ("StepError", "step `break` failed: ValueError: it is broken"),
            [("fine", "completed", 1), ("break", "failed", 2)],
        ),
    }  # fmt: skip
    for run in runs.values():
        assert run["event_id"] == event["id"]
        assert isinstance(run["started_at"], int)
        assert run["started_at"] <= run["ended_at"]


def test_the_report_says_what_ran_what_failed_and_what_to_do(project: Project) -> None:
    project.write(FOUR)
    result = project.fanout("send", "--name", "app/number", "--data", '{"n": 1}')
    assert result.code == 1
    last = result.out.splitlines()[-1]
    assert last.startswith("4 runs of 1 event in ")
    assert last.endswith(": 3 completed, 1 failed")
    failed = project.query("SELECT id FROM run WHERE state = 'failed'")[0][0]
    assert result.err == (
        f"hint: `fanout runs show {failed}` shows why; when it is mended, `fanout replay --failed` goes on from there\n"
    )


GOOD = '{"name": "app/number", "data": {"n": 1}}'


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", 'error: `event.json` is empty\nhint: an event is `{"name": "app/hello", "data": {}}`\n'),
        ('{"name": "app/x", "dat": {}}', "error: `event.json` line 1: field `dat` is not one that an event has\nhint: did you mean `data`?\n"),
        ('{"name": "fanout/x"}', None),
        ('{"name": 3}', None),
        ('{"name": "app/x", "data": [1]}', None),
        ("not json", None),
        (f"{GOOD}\n{GOOD}\n{{", None),
        ('{"name": "app/x", "data": {"x": "' + "y" * 600_000 + '"}}', None),
    ],
)  # fmt: skip
def test_bad_input_stores_nothing(project: Project, content: str, error: str | None) -> None:
    project.write(FOUR)
    (project.root / "event.json").write_text(content)
    result = project.fanout("send", "event.json")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: `event.json`")
    assert len(result.err.splitlines()) <= 2
    if error is not None:
        assert result.err == error
    assert not project.journal.exists() or project.query("SELECT count(*) FROM event") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "error: there is no event to send\nhint: name a file, `-` for stdin, or `--name app/hello --data '{}'`\n"),
        (("gone.json",), "error: `gone.json` can't be read: No such file or directory\n"),
        (("--name", "a/b", "x.json"), "error: events come from files or from `--name`, not from both\nhint: leave one of them out\n"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_work_says_so(project: Project, arguments: tuple[str, ...], error: str) -> None:
    project.write(FOUR)
    assert project.fanout("send", *arguments) == (2, "", error)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def broken(:\n", "error: `work.py` line 12: SyntaxError: "),
        ("import nothing_of_that_name\n", "error: `work.py` line 12: ModuleNotFoundError: "),
        ("raise RuntimeError('at import')\n", "error: `work.py` line 12: RuntimeError: at import\n"),
        ("raise SystemExit(3)\n", "error: `work.py` line 12: SystemExit: 3\n"),
        ("x = 1\n", "error: there is no function in `work`\n"),
        ("os._exit(7)\n", "error: worker "),
    ],
)
def test_code_that_does_not_load_is_named_and_nothing_is_stored(project: Project, code: str, error: str) -> None:
    project.write(code)
    result = project.send("app/number", {"n": 1})
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(error), result.err
    assert project.query("SELECT count(*) FROM event") == [(0,)]


def test_files_a_list_lines_and_stdin_all_go_in(project: Project) -> None:
    project.write(FOUR)
    (project.root / "one.json").write_text(GOOD)
    (project.root / "list.json").write_text(f"[{GOOD}, {GOOD}]")
    (project.root / "lines.ndjson").write_text(f"{GOOD}\n\n{GOOD}\n")
    result = project.fanout("send", "one.json", "list.json", "lines.ndjson", "-", "--json", stdin=GOOD)
    assert len(result.json()["events"]) == 6
    assert len(result.json()["runs"]) == 24


def test_an_event_sent_twice_starts_nothing_twice(project: Project) -> None:
    project.write(FOUR)
    event = json.dumps({"name": "app/other", "id": "order-1"})
    first = project.fanout("send", "-", "--json", stdin=event).json()
    second = project.fanout("send", "-", "--json", stdin=event).json()
    assert [event["duplicate"] for event in (*first["events"], *second["events"])] == [False, True]
    assert (len(first["runs"]), len(second["runs"])) == (1, 0)


def test_the_sender_is_told_of_duplicates_however_it_sends(project: Project) -> None:
    project.write(FOUR)
    told = "hint: `order-1` was sent before, in the last 24 hours: it starts no function twice\n"
    event = json.dumps({"name": "app/other", "id": "order-1"})
    assert project.fanout("send", "-", stdin=event).err == ""
    again = project.fanout("send", "-", stdin=event)
    assert (again.code, again.err) == (0, told)
    assert again.out.splitlines()[-1].startswith("0 runs of 1 event in ")
    idle = "hint: no engine is running; `fanout serve` runs what was stored, or the next `fanout send`\n"
    assert project.fanout("send", "-", "--no-wait", stdin=event) == (0, "order-1\n", told + idle)
    cloud = json.dumps({"specversion": "1.0", "type": "app/other", "source": "/shop", "id": "order-2"})
    both = project.fanout("send", "-", stdin=f"{event}\n{cloud}\n{cloud}")
    assert (both.code, both.err) == (
        0,
        f"1 event from before goes on as well\n{told.replace('` was', '` and 1 more were').replace('it starts', 'they start')}",
    )  # fmt: skip
    assert project.query("SELECT id, count(*) FROM event GROUP BY 1 ORDER BY 1") == [("order-1", 4), ("order-2", 2)]
    assert project.query("SELECT count(*) FROM run") == [(2,)]


def test_an_event_of_tomorrow_is_left_to_the_engine_that_comes(project: Project) -> None:
    project.write(FOUR)
    tomorrow = time.time_ns() // 1_000_000 + 86_400_000
    result = project.fanout("send", "-", stdin=json.dumps({"name": "app/other", "ts": tomorrow}))
    assert (result.code, result.out.splitlines()[-1].endswith(": 1 waiting")) == (0, True)
    assert re.sub(r"[0-9-]{10} |[0-9:]{8}", "T", result.err).replace("TT", "T") == (
        "hint: `flaky` begins at T\nhint: `fanout serve` carries that on, or the next `fanout send`\n"
    )
    assert project.query("SELECT due_at FROM run") == [(tomorrow,)]


def test_an_event_nobody_listens_to_is_said(project: Project) -> None:
    project.write("@fanout.function(trigger=fanout.on('shop/order'))\ndef f(ctx): pass\n")
    result = project.fanout("send", "--name", "shop/ordre")
    assert result.code == 0
    assert result.err == (
        "hint: no function listens to `shop/ordre`, and no run waits for it; did you mean `shop/order`?\n"
    )


def test_no_wait_only_stores_and_the_next_engine_runs_it(project: Project) -> None:
    project.write(FOUR)
    stored = project.fanout("send", "--name", "app/other", "--no-wait")
    assert stored.code == 0
    assert project.query("SELECT id FROM event") == [(stored.out.strip(),)]
    assert project.query("SELECT count(*) FROM run") == [(0,)]
    assert project.send("app/other").err == "1 event from before goes on as well\n"
    assert project.query("SELECT state, count(*) FROM run GROUP BY 1") == [("completed", 2)]


SLOW = """
@fanout.function(trigger=fanout.on("app/slow"))
def slow(ctx: Context):
    def wait():
        note(f"pid {os.getpid()}")
        while not (HERE / "go").exists():
            time.sleep(0.01)
    ctx.step.run("wait", wait)
    ctx.step.run("after", note, "after")
"""


def test_timeout_ends_with_5_and_the_runs_stay(project: Project) -> None:
    project.write(SLOW)
    process = project.start("send", "--name", "app/slow", "--timeout", "0.5")
    until(lambda: project.notes() != [] or process.poll() is not None, "the step begins, or is too late")
    (project.root / "go").touch()
    out, err = process.communicate(timeout=30)
    if process.returncode == 5:
        assert "the time is over" in err
        assert project.query("SELECT state FROM run") == [("queued",)]
    else:
        assert (process.returncode, out.splitlines()[-1][-11:]) == (0, "1 completed")


def test_ctrl_c_lets_the_step_end_and_keeps_what_is_left(project: Project) -> None:
    project.write(SLOW)
    process = project.start("send", "--name", "app/slow")
    until(lambda: project.notes() != [], "the step begins")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    # Only then it has surely stopped giving out work.
    assert process.stderr.readline().startswith("stopping: 1 run is at work")
    (project.root / "go").touch()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "hint: stopped: runs that are left are in the journal, and `fanout serve` or the next `fanout send` goes on "
        "with them"
    )
    assert project.query("SELECT key, state FROM step") == [("wait", "completed")]
    assert len(project.notes()) == 1
    assert project.send("app/nothing").err == "1 run from before goes on as well\n"
    assert project.notes()[1:] == ["after"]
    assert project.query("SELECT state FROM run") == [("completed",)]


def test_ctrl_c_twice_ends_at_once_and_loses_nothing(project: Project) -> None:
    project.write(SLOW)
    process = project.start("send", "--name", "app/slow")
    until(lambda: project.notes() != [], "the step begins")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "stopping: 1 run is at work, for 5 s at most; Ctrl-C again ends it at once\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 4.5, "it should not have waited for the step"
    (project.root / "go").touch()
    project.send("app/nothing")
    assert project.query("SELECT state FROM run") == [("completed",)]


def test_with_an_engine_running_it_follows_that_one(project: Project) -> None:
    project.write(FOUR.replace("app/number", "app/n") + SLOW)
    (project.root / "flaky.txt").touch()
    with project.serving():
        project.send("app/other")
        result = project.fanout("send", "--name", "app/slow", "--timeout", "0.5")
        assert result.code == 5
        assert result.err.splitlines()[-1] == (
            "hint: the time is over: runs that are left are in the journal, and the engine goes on with them"
        )
        (project.root / "go").touch()
        until(lambda: project.notes()[-1:] == ["after"], "the engine goes on")


def test_what_functions_log_goes_to_stderr_with_their_names(project: Project) -> None:
    project.write(
        """
        @fanout.function(trigger=fanout.on("app/log"))
        def greet(ctx: Context):
            ctx.step.run("log", lambda: ctx.logger.info("hello %s", ctx.event.data["name"]))
            ctx.logger.debug("nobody sees this")
        """
    )
    result = project.send("app/log", {"name": "Ada"})
    assert (result.code, result.err) == (0, "greet: hello Ada\n")


def test_data_may_come_from_a_file_or_stdin(project: Project) -> None:
    project.write(FOUR)
    (project.root / "n.json").write_text('\ufeff{"n": 2}')
    from_file = project.fanout("send", "--name", "app/number", "--data", "@n.json", "--json")
    from_stdin = project.fanout("send", "--name", "app/number", "--data", "-", "--json", stdin='{"n": 3}')
    for result, output in ((from_file, 8), (from_stdin, 12)):
        assert [run["output"] for run in result.json()["runs"] if run["function"] == "plain"] == [output]


WAITS = """
@fanout.function(trigger=fanout.on("app/nap"))
def naps(ctx: Context):
    note("begins")
    ctx.step.sleep("nap", ctx.event.data["s"])
"""


def test_ctrl_c_while_all_waits_is_followed_at_once_and_says_once_who_goes_on(project: Project) -> None:
    project.write(WAITS)
    process = project.start("send", "--name", "app/nap", "--data", '{"s": 20}')
    until(lambda: project.notes() != [], "the function begins")
    until(lambda: project.query("SELECT state FROM run") == [("waiting",)], "it waits")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.sub(r"[0-9-]{10} |[0-9:]{8}", "T", err).replace("TT", "T") == (
        "hint: `naps` sleeps until T\n"
        "hint: stopped: runs that are left are in the journal, and `fanout serve` or the next `fanout send` goes on "
        "with them\n"
    )


def test_long_waits_are_left_to_the_engine_that_runs_unless_a_time_is_given(project: Project) -> None:
    project.write(WAITS)
    with project.serving():
        result = project.fanout("send", "--name", "app/nap", "--data", '{"s": 3600}')
        assert result.code == 0
        assert re.sub(r"[0-9-]{10} |[0-9:]{8}", "T", result.err).replace("TT", "T") == (
            "hint: `naps` sleeps until T\n"
            "hint: the engine that is running carries that on; after it `fanout serve`, or the next `fanout send`\n"
        )
        assert result.out.splitlines()[-1].endswith(": 1 waiting")
        assert project.send("app/nap", {"s": 0.5}).json()["runs"][0]["state"] == "completed"
        result = project.fanout("send", "--name", "app/nap", "--data", '{"s": 3600}', "--timeout", "1")
        assert (result.code, result.err.splitlines()[-1]) == (
            5, "hint: the time is over: runs that are left are in the journal, and the engine goes on with them",
        )  # fmt: skip


def test_two_sends_at_once_share_one_engine(project: Project) -> None:
    project.write(FOUR)
    both = [project.start("send", "--name", "app/other", "--json") for _ in range(3)]
    values = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [[run["state"] for run in value["runs"]] for value in values] == [["completed"]] * 3


def test_a_send_takes_over_when_the_engine_it_follows_is_killed(project: Project) -> None:
    project.write(SLOW)
    with project.serving() as engine:
        process = project.start("send", "--name", "app/slow", "--json")
        until(lambda: project.notes() != [], "the step begins")
        engine.kill()
        engine.wait()
        (project.root / "go").touch()
        out, _ = process.communicate(timeout=30)
    assert [run["state"] for run in json.loads(out)["runs"]] == ["completed"]


def test_what_functions_print_goes_to_stderr(project: Project) -> None:
    project.write("@fanout.function(trigger=fanout.on('app/p'))\ndef f(ctx): print('hello from f \\x1b[2J')\n")
    result = project.send("app/p")
    assert result.code == 0
    assert result.err == "hello from f \\x1b[2J\n"
    assert len(result.json()["runs"]) == 1


def test_version_imports_neither_rich_nor_typer_nor_a_database(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert done.stdout.startswith("fanout ")
    assert not imported & {"rich", "typer", "apsw", "sqlite3", "msgspec", "fanout.config"}


def test_the_examples_run_as_the_readme_says(project: Project) -> None:
    import shutil

    top = Path(__file__).parents[2]
    shutil.copytree(top / "functions", project.root / "functions")
    shutil.copy(top / "fanout.toml", project.root / "fanout.toml")
    for event, functions in (
        ("signup.json", {"send-welcome-email", "start-trial", "sync-crm", "add-to-mailing-list"}),
        ("document.json", {"summarize-document", "classify-document", "extract-entities"}),
    ):
        result = project.fanout("send", f"functions/events/{event}", "--json")
        assert result.code == 0, result
        assert {run["function"] for run in result.json()["runs"]} == functions
        assert {run["state"] for run in result.json()["runs"]} == {"completed"}
    assert len(list((project.root / ".fanout" / "outbox").glob("*.eml"))) == 1
