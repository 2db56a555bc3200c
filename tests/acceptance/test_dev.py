"""`fanout dev watch` as people have it: in a terminal, with keys, beside an editor; and in a pipe."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import FENCE_S, Project, until
from tests.acceptance.terminal import watching

CODE = """
@fanout.function(trigger=fanout.on("app/go"))
def pays(ctx: Context):
    ctx.step.run("charge", str, 12)
    print("paid", 12)

def send_mail():
    if not (HERE / "mended").exists():
        raise OSError("refused")

@fanout.function(trigger=fanout.on("app/go"), retries=1)
def mails(ctx: Context):
    ctx.step.run("send", send_mail)
"""
TOML = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\n[dev]\nretry_delay = 0.05\n[web]\nport = 0\n'


def masked(text: str) -> str:
    text = re.sub(r"\d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{10}\b", "<id>", text)
    return re.sub(r"\b[\d.]+ m?s\b", "<took>", text)


def save(project: Project, code: str, *, toml: str = TOML) -> None:
    project.write(code, toml=toml)


def test_a_session_at_a_terminal(project: Project) -> None:
    save(project, CODE)
    with watching(project, "--no-web", columns=120) as terminal:
        terminal.saw("serving 2 functions")
        assert not terminal.is_restored()
        project.fanout("send", "--name", "app/go", "--no-wait")
        terminal.saw(r"✗ failed after")
        terminal.saw(r"done in")
        said = masked(terminal.shown)
        assert said.startswith(
            "watching the code of `test`; q stops\n"
            "retries come after <took>: `[dev] retry_delay`\n"
            "keys: r replay  f failed only  o dashboard  c clear  ? keys  q quit\n"
            "serving 2 functions\n"
            "<time> ┌ app/go  <id>\n"
        )
        assert "<time> │ pays     <id>  │ paid 12\n" in said
        assert re.search(r"│ pays     <id>  ✓ done in <took>  charge( <took>)?\n", said)
        assert "↻ send failed: OSError: refused  work.py:20  attempt 2 of 2 at <time>, in <took>\n" in said
        assert "✗ send failed after 2 attempts: OSError: refused  work.py:20\n" in said
        assert re.search(r"mails    <id>  ✗ failed after <took>", said)

        (project.root / "mended").touch()
        terminal.press("r")
        terminal.saw(r"replaying mails \w{10}, which failed: steps that completed are not repeated\n")
        terminal.saw(r"mails .*✓ done in .*replay of")
        terminal.press("f")
        terminal.saw("only what fails is shown")
        terminal.press("o?")
        terminal.saw("there is no dashboard: `--no-web` was given\nr  replay the run")
        terminal.press("\x1b[Ac")
        terminal.saw(r"\x1b\[2J")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.is_restored()
        assert terminal.shown.endswith("stopped; what was left goes on next time\n\0end\0")


def test_code_that_is_saved_while_it_runs(project: Project) -> None:
    save(project, "def broken(:\n")
    with watching(project, "--no-web") as terminal:
        terminal.saw(r"error: .*work\.py(.*\n)*.*nothing runs until this is mended")
        save(project, CODE)
        terminal.saw("serving 2 functions")
        save(project, CODE.replace("retries=1", "retries=3") + "@fanout.function()\ndef new_one(ctx): pass\n")
        terminal.saw(r"reloaded in .*: \+ new-one  ~ mails \(retries 1 to 3\)\n")
        save(project, CODE + "@fanout.function(\n")
        terminal.saw(r"error: .*work\.py(.*\n)*.*the code from before goes on until this is mended")
        project.fanout("send", "--name", "app/go", "--no-wait")
        terminal.saw("attempt 2 of 4")
        save(project, CODE)
        terminal.saw(r"reloaded in .*: ~ mails \(retries 3 to 1\)  - new-one\n")
        (project.root / "fanout.toml").write_text("[app\n")
        terminal.saw(r"error: .*fanout\.toml")
        save(project, CODE, toml=TOML.replace("0.05", "7"))
        terminal.saw(r"retry_delay 7s")
        terminal.press("\x03")
        assert terminal.end() == 130
        assert terminal.is_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was_after_a_signal(project: Project, number: int) -> None:
    save(project, CODE + "@fanout.function(trigger=fanout.on('app/long'))\ndef long(ctx):\n    time.sleep(60)\n")
    with watching(project, "--no-web", columns=50) as terminal:
        terminal.saw("serving")
        project.fanout("send", "--name", "app/long", "--no-wait")
        terminal.saw(r"\n│ long     \w{6} » running\n")
        terminal.process.send_signal(number)
        terminal.saw("stopping: 1 run is at work")
        terminal.press("q")
        terminal.end()
        assert terminal.is_restored()


def test_the_dashboard_is_opened_at_the_next_port_that_is_free(project: Project, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        save(project, CODE, toml=TOML.replace("port = 0", f"port = {port}"))
        with watching(project, BROWSER=f"{browser} %s") as terminal:
            terminal.saw(rf"port {port} is in use by another program: this is \d+\n")
            terminal.saw(r"dashboard: http://127\.0\.0\.1:\d+\n(.*\n)*.*serving 2 functions")
            found = re.search(r"dashboard: (\S+)\n", terminal.shown)
            assert found is not None
            terminal.press("o")
            until((tmp_path / "opened").exists, "the browser is started")
            until(lambda: (tmp_path / "opened").read_text() == f"{found[1]}\n", "it is given the address")
            terminal.press("q")
            assert terminal.end() == 0
        done = project.fanout("dev", "watch", "--port", str(port))
        assert (done.code, done.out) == (2, "")
        assert f"127.0.0.1:{port}` is in use" in done.err


def test_in_a_pipe_there_is_an_object_a_line(project: Project, tmp_path: Path) -> None:
    save(project, CODE)
    file = tmp_path / "lines"

    def said() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def has(kind: str, **wanted: object) -> bool:
        return any(each["kind"] == kind and wanted.items() <= each.items() for each in said())

    with project.start("dev", "watch", "--json", "--no-web", into=file) as process:
        try:
            until(lambda: has("serving", functions=["mails", "pays"], url=None), "it serves")
            second = project.fanout("dev", "watch", "--no-web")
            assert (second.code, second.out) == (4, "")
            assert f"in use by the engine with pid {process.pid}" in second.err
            assert "hint: one engine at a time can run a journal" in second.err
            project.fanout("send", "--name", "app/go", "--no-wait")
            until(lambda: has("run", function="mails", state="failed"), "it has failed")
            until(lambda: has("run", function="pays", state="completed"), "it has completed")
            assert has("event", name="app/go", runs=2, sender=None)
            assert has("step", function="pays", step="charge", state="completed", attempts=1)
            assert has("step", function="mails", step="send", state="retrying", attempts=1)
            assert has("output", function="pays", text="paid 12", stream="stdout", level=None)
            save(project, CODE.replace("retries=1", "retries=2"))
            change = {"kind": "~", "function": "mails", "words": ["retries 1 to 2"]}
            until(lambda: has("reload", changes=[change], error=None), "it is loaded again")
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(FENCE_S) == 130
        assert process.stderr is not None
        assert process.stderr.read().endswith("stopped; what was left goes on next time\n")


def test_what_was_before_is_not_told_of(project: Project) -> None:
    save(project, CODE)
    project.fanout("send", "--name", "app/go")
    with watching(project, "--no-web", columns=120) as terminal:
        terminal.saw("serving 2 functions")
        project.fanout("send", "--name", "app/go", "--no-wait")
        terminal.saw("done in")
        assert masked(terminal.shown).count("┌") == 1
        assert "starts nothing" not in terminal.shown
