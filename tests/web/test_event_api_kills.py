"""The web process and the engine die by SIGKILL while events come: what was answered is there, once.

`FANOUT_TEST_KILLS` asks for more kills than the few that every run of the tests has.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from fanout.config import load
from fanout.web import process
from tests.acceptance.conftest import Project, until
from tests.web.conftest import Running

KILLS = int(os.environ.get("FANOUT_TEST_KILLS", "6"))
SENDERS = 4
BETWEEN_KILLS = 150
"""Events that are answered before the next kill."""


class Senders:
    """Threads that post events one after another; none is posted twice, whatever became of it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._is_over = False
        self.answered: list[tuple[str, int]] = []
        self.failures = 0
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        while not self._is_over:
            number += SENDERS
            body = json.dumps({"name": "app/go", "data": {"n": number}})
            try:
                connection.request("POST", "/e/k", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                self.failures += 1
                connection.close()
                continue
            assert (response.status, answer["status"]) == (200, 200), answer
            [id_] = answer["ids"]
            self.answered.append((id_, number))
        connection.close()


@contextmanager
def web_of(project: Project) -> Iterator[Running]:
    site = Running(load(project.root / "fanout.toml"))
    try:
        yield site
    finally:
        site.process.close()


class Engine:
    def __init__(self, project: Project) -> None:
        self._project = project
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = self._project.start("serve", "--no-web")
        assert self._process.stderr is not None
        assert self._process.stderr.readline().startswith("serving")

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        self._process.communicate(timeout=60)


def test_every_id_that_was_answered_is_in_the_journal_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PAUSES_S", (0.0,))
    project.write("@fanout.function(trigger=fanout.on('app/go'))\ndef f(ctx): return ctx.step.run('n', int, 1)\n")
    chance = random.Random(20261121)
    engine = Engine(project)
    with web_of(project) as site:
        engine.start()
        senders = Senders("127.0.0.1", site.process.port)
        try:
            for kill in range(KILLS):
                enough = len(senders.answered) + chance.randrange(1, BETWEEN_KILLS)
                site.until(lambda enough=enough: len(senders.answered) >= enough, "events are answered")  # type: ignore[misc]
                if kill % 2:
                    engine.end(signal.SIGKILL)
                    engine.start()
                else:
                    os.kill(site.pid, signal.SIGKILL)
                    deaths = len(site.said)
                    site.until(lambda deaths=deaths: len(site.said) > deaths, "its end is seen")  # type: ignore[misc]
            enough = len(senders.answered) + BETWEEN_KILLS
            site.until(lambda: len(senders.answered) >= enough, "all goes on")
        finally:
            senders.close()
        assert senders.failures >= KILLS / 2
    stored = "SELECT id, json_extract(data, '$.n') FROM event WHERE name = 'app/go'"
    found = project.query(stored)
    assert len({id_ for id_, _ in found}) == len({number for _, number in found}) == len(found)
    assert set(senders.answered) <= set(found)
    until(
        lambda: project.query("SELECT count(*) FROM run WHERE state = 'completed'") == [(len(found),)], "all have run"
    )
    engine.end(signal.SIGINT)
    assert project.query("SELECT count(DISTINCT event) FROM run") == [(len(found),)]
    assert project.query("PRAGMA integrity_check") == [("ok",)]
