"""`fanout dev watch` where it is easily wrong: secrets, settings that change, and what editors and processes do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import FENCE_S, Project, until
from tests.acceptance.terminal import watching

TOML = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\n[dev]\nretry_delay = 0.05\n[web]\nport = 0\n'
SECRET = "hunter2-of-joe"
HIDING = TOML + '[redact]\nkeys = ["password", "token"]\n'
TELLING = f"""
print("connecting with password={SECRET}")

@fanout.function(trigger=fanout.on("app/go", if_='event.data.password == "{SECRET}"'))
def tells(ctx: Context):
    print({{"password": "{SECRET}"}})
    ctx.step.run("log-in", log_in)

def log_in():
    raise fanout.NonRetriableError("refused: password='{SECRET}'")
"""
BREAKING = f'raise ValueError("no server for password={SECRET}")\n'
PLAIN = """
@fanout.function(trigger=fanout.on("app/go"))
def f(ctx: Context):
    return ctx.event.data
"""


class Objects:
    """What `--json` says, object by object."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def of(self, kind: str, **wanted: object) -> list[dict[str, Any]]:
        return [each for each in self() if each["kind"] == kind and wanted.items() <= each.items()]

    def saw(self, kind: str, **wanted: object) -> dict[str, Any]:
        until(lambda: bool(self.of(kind, **wanted)), f"{kind} {wanted}")
        return self.of(kind, **wanted)[0]


@contextmanager
def objects(project: Project, *arguments: str) -> Iterator[tuple[Objects, list[str]]]:
    """`dev watch --json` until the end of the block, and what it has said to stderr, which is there afterwards."""
    file, said = project.root / "said", list[str]()
    with project.start("dev", "watch", "--json", *arguments, into=file) as process:
        try:
            yield Objects(file), said
        finally:
            process.send_signal(signal.SIGINT)
            said.append(process.communicate(timeout=FENCE_S)[1])


def test_secrets_are_told_to_nobody_at_the_terminal(project: Project) -> None:
    project.write(TELLING, toml=HIDING)
    with watching(project, FANOUT_TOKEN="t" * 20) as terminal:
        # The token of the dashboard is for who sits here.
        terminal.saw(r"dashboard: \S+\?token=t{20}\n")
        terminal.saw("serving 1 function")
        terminal.saw(r"connecting with password=\[redacted\]")
        project.fanout("send", "--name", "app/go", "--data", json.dumps({"password": SECRET}), "--no-wait")
        terminal.saw(r"│ {'password': '\[redacted\]'}")
        terminal.saw(r"✗ log-in failed:.*NonRetriableError: refused: password='\[redacted\]'")
        project.write(TELLING.replace("trigger=fanout.on", "retries=1, trigger=fanout.on") + BREAKING, toml=HIDING)
        terminal.saw(r"error: .*ValueError: no server for password=\[redacted\]")
        project.write(TELLING.replace(' == "', ' != "'), toml=HIDING)
        terminal.saw(r"reloaded in .*: ~ tells \(on .*\[redacted\]")
        assert SECRET not in terminal.shown


def test_secrets_are_told_to_no_program(project: Project) -> None:
    project.write(TELLING, toml=HIDING)
    with objects(project, "--no-web") as (said, talk):
        said.saw("serving")
        project.fanout("send", "--name", "app/go", "--data", json.dumps({"password": SECRET}), "--no-wait")
        failed = said.saw("run", state="failed")
        assert failed["error"]["message"] == "step `log-in` failed: NonRetriableError: refused: password='[redacted]'"
        project.write(TELLING + BREAKING, toml=HIDING)
        until(lambda: any(each["error"] for each in said.of("reload")), "the error is told")
        project.write(TELLING.replace(' == "', ' != "'), toml=HIDING)
        until(lambda: any(each["changes"] for each in said.of("reload")), "the change is told")
    assert SECRET not in json.dumps(said()) + talk[0]


def test_programs_may_ask_for_what_fails_alone(project: Project) -> None:
    project.write(TELLING, toml=TOML)
    with objects(project, "--no-web", "--failed") as (said, _):
        said.saw("serving")
        project.fanout("send", "--name", "app/go", "--data", json.dumps({"password": SECRET}), "--no-wait")
        said.saw("run", state="failed")
    assert [each["kind"] for each in said()] == ["serving", "step", "run"]


def test_runs_are_told_from_their_beginning_with_their_event(project: Project) -> None:
    project.write(PLAIN + 'print("loading")\n', toml=TOML)
    with objects(project, "--no-web") as (said, _):
        said.saw("serving")
        project.fanout("send", "--name", "app/go", "--no-wait")
        done = said.saw("run", state="completed")
        event, queued = said.saw("event"), said.saw("run", state="queued")
        assert (queued["run"], queued["event"], done["event"]) == (done["run"], event["id"], event["id"])
        until(lambda: bool(said.of("output")), "what the module prints is told")
        assert {(each["text"], each["run"], each["event"]) for each in said.of("output")} == {("loading", None, None)}
        assert all(each["times"] >= 1 for each in said.of("output"))


def _page(place: str) -> str:
    with urllib.request.urlopen(place, timeout=FENCE_S) as answer:
        return str(answer.read().decode())


def test_the_dashboard_has_the_settings_of_now(project: Project) -> None:
    project.write(PLAIN, toml=TOML)
    with watching(project) as terminal:
        terminal.saw("serving 1 function")
        [place] = re.findall(r"dashboard: (\S+)\n", terminal.shown)
        project.fanout("send", "--name", "app/go", "--data", json.dumps({"password": SECRET}), "--no-wait")
        terminal.saw("done in")
        [(run,)] = project.query("SELECT id FROM run")
        until(lambda: SECRET in _page(f"{place}/runs/{run}"), "it is shown")
        # The journal stays, whoever is started again.
        project.write(PLAIN, toml=HIDING + '[journal]\npath = "other.db"\n')
        terminal.saw(r"fanout\.toml \(other keys to redact\)\nhint: `\[journal\] path` takes effect at the next start")
        until(lambda: SECRET not in _page(f"{place}/runs/{run}"), "it is not shown any more")
        terminal.press("r")
        terminal.saw(r"done in .*replay of")
        project.write(PLAIN, toml=HIDING.replace("[web]", '[web]\nhost = "127.0.0.2"'))
        terminal.saw(r"dashboard: http://127\.0\.0\.2:\d+\n")
        other = re.findall(r"dashboard: (\S+)\n", terminal.shown)[-1]
        assert SECRET not in _page(f"{other}/runs/{run}")
        with pytest.raises(OSError, match="refused"):
            _page(place)
        project.write(PLAIN, toml=HIDING.replace("[web]", '[web]\nhost = "0.0.0.0"'))
        terminal.saw(rf"error: (.*\n)+?the dashboard stays at {re.escape(other)}\n")
        assert SECRET not in _page(f"{other}/runs/{run}")
        assert "web process" not in terminal.shown
        terminal.press("q")
        assert terminal.end() == 0


def test_settings_that_are_mended_are_said_to_be(project: Project) -> None:
    project.write(PLAIN, toml=TOML)
    with watching(project, "--no-web") as terminal:
        terminal.saw("serving 1 function")
        (project.root / "fanout.toml").write_text("[app")
        terminal.saw(r"error: .*fanout\.toml")
        (project.root / "fanout.toml").write_text(TOML)
        terminal.saw(r"fanout\.toml can be read again\n")


LONG = """
@fanout.function(trigger=fanout.on("app/go"))
def f(ctx: Context):
    ctx.step.run("long", long)

def long():
    note("begun")
    while not (HERE / "enough").exists():
        time.sleep(0.01)
    note("ended")
"""


def test_steps_may_end_when_the_terminal_has_gone(project: Project) -> None:
    project.write(LONG, toml=TOML)
    with watching(project, "--no-web") as terminal:
        terminal.saw("serving 1 function")
        project.fanout("send", "--name", "app/go", "--no-wait")
        until(lambda: project.notes() == ["begun"], "the step has begun")
        terminal.hang_up()
        terminal.process.send_signal(signal.SIGHUP)  # As the shell does, beside the system.
        # A look at the screen is due each tenth of a second: the step ends after several.
        with pytest.raises(subprocess.TimeoutExpired):
            terminal.process.wait(1)
        (project.root / "enough").touch()
        terminal.process.wait(FENCE_S)
    assert project.notes() == ["begun", "ended"]
    assert project.query("SELECT key, state FROM step") == [("long", "completed")]


BEGINNING = """
import io, sys

class Interrupted(io.StringIO):
    def write(self, text):
        raise KeyboardInterrupt

sys.argv, sys.stdout = ["fanout", "--version"], Interrupted()
from fanout.commands.main import main
main()
"""


def test_an_interrupt_while_it_begins_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", BEGINNING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
