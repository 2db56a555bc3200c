"""`fanout serve` for real use: how it stops, what it tells its supervisor, and the web process beside it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import COMMAND, FENCE_S, Project, until

CODE = """
@fanout.function(trigger=fanout.on("app/go"))
def go(ctx: Context):
    def work():
        note("begun")
        while not (HERE / "enough").exists():
            time.sleep(0.01)
        note("done")
    ctx.step.run("work", work)
    ctx.step.sleep("nap", "1s")
    note("after")
    return "all of it"
"""


@contextmanager
def started(project: Project, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A `fanout serve` that says that it serves; killed if it is still there at the end."""
    process = project.start("serve", *options)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("serving"), first + process.stderr.read()
        process.first = first  # type: ignore[attr-defined]
        yield process
    finally:
        process.kill()
        process.communicate()


def at_work(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("send", "--name", "app/go", "--no-wait").code == 0


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=FENCE_S)
    return process.returncode, said


def states(project: Project) -> tuple[str, str]:
    ((run, step),) = project.query(
        "SELECT run.state, step.state FROM run JOIN step ON step.run = run.key WHERE step.key = 'work'"
    )
    return run, step


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_running_steps_end_and_the_rest_goes_on_next_time(
    project: Project, number: signal.Signals, code: int
) -> None:
    at_work(project)
    with started(project, "--no-web") as process:
        until(lambda: project.notes() == ["begun"], "the step has begun")
        process.send_signal(number)
        assert process.stderr is not None
        assert (
            process.stderr.readline() == "stopping: 1 run is at work, for 25 s at most; Ctrl-C again ends it at once\n"
        )
        (project.root / "enough").touch()
        assert ended(process) == (code, "stopped; what was left goes on next time\n")
    assert states(project) == ("queued", "completed")
    with started(project, "--no-web"):
        until(lambda: project.notes() == ["begun", "done", "after"], "the rest has been done, and only that")


def test_when_the_grace_is_over_it_ends_and_the_step_is_begun_again_next_time(project: Project) -> None:
    at_work(project)
    with started(project, "--no-web", "--grace", "0.5") as process:
        until(lambda: project.notes() == ["begun"], "the step has begun")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
        assert 0.4 < time.monotonic() - began < 10
    (project.root / "enough").touch()
    with started(project, "--no-web"):
        until(lambda: project.notes() == ["begun", "begun", "done", "after"], "nothing was lost")


def test_a_second_signal_ends_it_at_once(project: Project) -> None:
    at_work(project)
    with started(project, "--no-web", "--grace", "1000") as process:
        until(lambda: project.notes() == ["begun"], "the step has begun")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping: 1 run")
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
    assert states(project)[0] != "failed"


def answer(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"content-type": "application/json"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=FENCE_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_web_process_serves_to_the_end_and_then_the_port_is_free(project: Project) -> None:
    at_work(project)
    with started(project, "--port", "0") as process:
        url = process.first.split(" at ")[1].split(";")[0]  # type: ignore[attr-defined]
        until(lambda: project.notes() == ["begun"], "the step has begun")
        assert answer(f"{url}/health")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping: 1 run")
        # It begins nothing more, but what is sent is stored: the next engine runs it.
        status, said = answer(f"{url}/e/key", b'{"name": "app/go"}')
        assert (status, len(json.loads(said)["ids"])) == (200, 1)
        (project.root / "enough").touch()
        assert ended(process)[0] == 0
    port = int(url.rpartition(":")[2])
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    assert project.notes() == ["begun", "done"]
    assert project.query("SELECT count(*) FROM event WHERE key > 0") == [(2,)]


def test_another_address_needs_a_token_before_anything_begins(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("serve", "--host", "0.0.0.0", "--port", "0")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: others can reach `0.0.0.0`: a token is needed to listen there\n"
        "hint: set `FANOUT_TOKEN` to 16 characters or more, or leave the address at 127.0.0.1\n"
    )


def test_the_port_of_another_program_is_said(project: Project) -> None:
    project.write(CODE)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = project.fanout("serve", "--port", str(port))
    assert result.code == 2
    assert result.err.startswith(f"error: `127.0.0.1:{port}` is in use by another program\nhint: ")


def test_a_supervisor_hears_how_it_is(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(CODE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(FENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with started(project, "--no-web") as process:
            assert supervisor.recv(1024) == b"READY=1\nSTATUS=serving 1 function of `test`"
            assert [supervisor.recv(1024) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            process.send_signal(signal.SIGTERM)
            while (said := supervisor.recv(1024)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1\nSTATUS=stopping: 0 runs at work"
            assert ended(process)[0] == 0


def test_it_goes_on_when_the_terminal_of_its_words_has_gone(project: Project) -> None:
    project.write('print("loaded")\n@fanout.function(trigger=fanout.on("app/go"))\ndef f(ctx): return os.getpid()\n')
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "serve", "--no-web"], cwd=project.root, env=project.environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    try:
        os.close(theirs)
        said = b""
        while b"Ctrl-C stops" not in said:
            said += os.read(ours, 65_536)
        os.close(ours)
        assert project.send("app/go").code == 0
        [(worker,)] = project.query("SELECT output FROM run")
        os.kill(int(worker), signal.SIGKILL)  # The next one says that it has been loaded, and nobody hears that.
        assert project.send("app/go").code == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(FENCE_S) == 0
    finally:
        process.kill()
        process.wait()
