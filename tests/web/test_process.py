"""The web process: begun, ended and begun again, and never left behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fanout.config import Config
from fanout.errors import UsageError
from fanout.web import process
from fanout.web.process import WebProcess
from tests.acceptance.conftest import is_alive, until
from tests.web.conftest import Running

PARENT = """
import sys, time
from pathlib import Path
from fanout.config import load
from fanout.web.process import WebProcess

site = WebProcess(load(Path(sys.argv[1])), host="127.0.0.1", port=0, on_line=print)
print(site.port, site.pid, flush=True)
time.sleep(600)
"""
EVENT = {"name": "app/hello"}


def post(site: Running, *, timeout: float = 60) -> httpx.Response:
    return httpx.post(f"{site.url}/e/k", json=EVENT, timeout=timeout)


def start(config: Config, *, host: str, port: int = 0) -> None:
    WebProcess(config, host=host, port=port, on_line=print).close()


def test_it_is_light_and_out_of_the_terminals_reach(running: Running) -> None:
    assert post(running).status_code == 200
    assert os.getsid(running.pid) == running.pid
    if sys.platform == "linux":
        status = Path(f"/proc/{running.pid}/status").read_text()
        [resident] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        assert int(resident.split()[1]) < 64 * 1024


def test_it_is_started_again_and_what_came_meanwhile_is_answered(running: Running) -> None:
    assert post(running).status_code == 200
    first = running.pid
    os.kill(first, signal.SIGKILL)
    running.until(lambda: bool(running.said), "its end is seen")
    assert running.said == ["the web process was killed by SIGKILL; it is started again at once"]
    assert post(running).status_code == 200
    second = running.pid
    assert second != first
    os.kill(second, signal.SIGTERM)
    running.until(lambda: len(running.said) > 1, "its second end is seen")
    assert running.said[1] == "the web process ended with code 0; it is started again in 0.5 s"
    running.until(lambda: running.process.pid is not None, "it is started again")
    assert post(running).status_code == 200


def test_what_it_says_is_passed_on_and_pauses_grow(
    config: Config, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PAUSES_S", (0.0, 0.01, 0.02))
    assert post(running).status_code == 200
    config.path.write_text("[app\n")
    os.kill(running.pid, signal.SIGKILL)
    running.until(lambda: len(running.said) >= 7, "it fails several times")
    assert running.said[0] == "the web process was killed by SIGKILL; it is started again at once"
    assert running.said[1].startswith(f"error: `{config.path}` line 1")
    ends = [line for line in running.said[1:] if line.startswith("the web process")]
    assert ends[:2] == [
        "the web process ended with code 2; it is started again in 0.01 s",
        "the web process ended with code 2; it is started again in 0.02 s",
    ]
    config.path.write_text('[app]\nid = "test"\nfunctions = ["work"]\n')
    running.until(lambda: running.process.pid is not None and can_answer(running), "it is well again")


def can_answer(site: Running) -> bool:
    try:
        return post(site, timeout=0.2).status_code == 200
    except httpx.TransportError:
        return False


def test_it_ends_with_its_parent_and_its_port_is_free(config: Config) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(config.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        port, pid = map(int, parent.stdout.readline().split())
        assert httpx.post(f"http://127.0.0.1:{port}/e/k", json=EVENT, timeout=60).status_code == 200
        with httpx.stream("GET", f"http://127.0.0.1:{port}/live", timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            parent.kill()
            # Also with a page open, which would listen for ever.
            assert [line for line in lines if line.startswith("event:")] == []
        until(lambda: not is_alive(pid), "the web process ends")
        process.listening_socket("127.0.0.1", port).close()
    finally:
        parent.kill()
        parent.communicate()


def test_its_end_is_short_and_what_it_has_taken_is_written(running: Running, config: Config) -> None:
    answer = post(running).json()
    pid = running.pid
    with httpx.stream("GET", f"{running.url}/live", timeout=60) as stream:
        assert next(stream.iter_lines()) == "retry: 1000"
        running.process.close()
        assert not is_alive(pid)
    assert answer["status"] == 200
    running.process.look()
    assert running.process.pid is None


def test_a_port_that_is_taken(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as raised:
            start(config, host="127.0.0.1", port=port)
    assert raised.value.message == f"`127.0.0.1:{port}` is in use by another program"
    assert raised.value.hint == "`--port 0` takes any port that is free; or stop that one"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a b", "256.1.1.1", "x" * 300])
def test_an_address_that_is_none(config: Config, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANOUT_TOKEN", "x" * 16)
    with pytest.raises(UsageError) as raised:
        start(config, host=host)
    assert raised.value.message == f"there is no address `{host}`"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_others_need_a_token_before_anything_is_bound(
    config: Config, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FANOUT_TOKEN", raising=False)
    monkeypatch.setattr(process, "listening_socket", None)
    with pytest.raises(UsageError) as raised:
        start(config, host=host)
    assert raised.value.message == f"others can reach `{host}`: a token is needed to listen there"
    assert raised.value.hint == "set `FANOUT_TOKEN` to 16 characters or more, or leave the address at 127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FANOUT_TOKEN": "x" * 15}, "`FANOUT_TOKEN` has 15 characters, at least 16 are needed"),
        ({"FANOUT_TOKEN": ""}, "`FANOUT_TOKEN` has 0 characters, at least 16 are needed"),
        ({"FANOUT_EVENT_KEY": "x"}, "`FANOUT_EVENT_KEY` has 1 characters, at least 16 are needed"),
        ({"FANOUT_TOKEN": "é" * 16}, "`FANOUT_TOKEN` has characters that no header can carry"),
        ({"FANOUT_TOKEN": "x y" * 16}, "`FANOUT_TOKEN` has characters that no header can carry"),
        (
            {"FANOUT_TOKEN": "x" * 16, "FANOUT_EVENT_KEY": "x" * 16},
            "`FANOUT_TOKEN` and `FANOUT_EVENT_KEY` are the same",
        ),
    ],
)
def test_tokens_and_keys_that_are_none(
    config: Config, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as raised:
        start(config, host="127.0.0.1")
    assert raised.value.message == message


def test_the_address_and_the_link_for_people(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANOUT_TOKEN", "x" * 15 + "+")
    site = Running(config, host="0.0.0.0")
    try:
        assert site.url == f"http://127.0.0.1:{site.process.port}"
        assert site.process.link == f"{site.url}/?token={'x' * 15}%2B"
        answer = httpx.get(site.process.link, timeout=60)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert httpx.get(f"{site.url}/no", timeout=60).status_code == 401
    finally:
        site.process.close()


def test_alone_it_listens_where_it_is_told_and_ends_at_ctrl_c(config: Config) -> None:
    alone = subprocess.Popen(
        [sys.executable, "-P", "-m", "fanout.web", "--config", str(config.path), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert alone.stdout is not None
        url = alone.stdout.readline().strip()
        assert httpx.post(f"{url}/e/k", json=EVENT, timeout=60).status_code == 200
        alone.send_signal(signal.SIGINT)
        assert alone.communicate(timeout=60) == ("", "")
        assert alone.returncode == 0
    finally:
        alone.kill()
        alone.communicate()


def test_with_patience_a_port_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match="is in use by another program"):
            process.listening_socket("127.0.0.1", port)
        monkeypatch.setattr("fanout.web.process.time.sleep", lambda _: holder.close())
        process.listening_socket("127.0.0.1", port, patience_s=60).close()


def test_where_it_cannot_be_started_now_it_is_tried_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    assert post(running).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr("fanout.web.process.subprocess.Popen", refuse)
        os.kill(running.pid, signal.SIGKILL)
        running.until(lambda: len(running.said) == 2, "it is told of")
    assert running.said[1] == "the web process can't be started: Too many open files; it is tried again in 0.5 s"
    running.until(lambda: running.process.pid is not None, "it is started again")
    assert post(running).status_code == 200


def test_what_it_does_not_read_holds_nobody_up_and_the_next_one_hears_the_last(running: Running) -> None:
    assert post(running).status_code == 200
    first = running.pid
    os.kill(first, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(10)
    try:
        for number in range(2_000):
            running.process.tell(f"{number} " + "word " * 20)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        os.kill(first, signal.SIGKILL)
    running.process.tell("the last")
    running.until(lambda: running.process.pid not in (None, first), "it is started again")
    assert httpx.get(f"{running.url}/health", timeout=60).json()["problem"] == "the last"


def _give_up(_number: int, _frame: object) -> None:
    raise AssertionError("it waits for who does not read")
