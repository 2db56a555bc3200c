"""`/live`: pages hear that the journal has changed, whoever changed it, and of no end of changes too often."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from fanout.config import Config
from fanout.events import NewEvent
from fanout.journal.sqlite_appender import SqliteAppender
from tests.acceptance.conftest import until
from tests.web.conftest import Served


def numbers(stream: httpx.Response) -> Iterator[int]:
    return (int(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: "))


def listening(served: Served) -> int:
    return len(served.server._site.news._listeners)


def test_a_page_hears_of_every_change_also_of_other_processes(config: Config, served: Served) -> None:
    journal = SqliteAppender(config.journal)
    with httpx.stream("GET", f"http://{served.host}/live", timeout=60) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        heard = numbers(stream)
        last = next(heard)
        for number in range(3):
            journal.append_events([NewEvent("a", "{}")], number)
            before, last = last, next(heard)
            assert last > before
        # Who comes later hears at once: something may have happened since that page was made.
        with httpx.stream("GET", f"http://{served.host}/live", timeout=60) as second:
            assert next(numbers(second)) == last
    until(lambda: listening(served) == 0, "who has left is forgotten")
    until(lambda: served.server._site.news._thread is None, "with nobody there, nothing is followed")
    journal.close()


def test_many_changes_are_told_a_few_times_a_second(config: Config, served: Served) -> None:
    journal = SqliteAppender(config.journal)
    with httpx.stream("GET", f"http://{served.host}/live", timeout=60) as stream:
        heard = numbers(stream)
        next(heard)
        until_s, words = time.monotonic() + 1.0, 0
        while time.monotonic() < until_s:
            for _ in range(20):
                journal.append_events([NewEvent("a", "{}")], 1)
            next(heard)
            words += 1
    assert words <= 6
    journal.close()


def test_without_a_journal_a_page_waits_for_it(served: Served, config: Config) -> None:
    with httpx.stream("GET", f"http://{served.host}/live", timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        httpx.post(f"http://{served.host}/e/k", json={"name": "a"}, timeout=60)
        assert next(line for line in lines if line) == "data: 1"


def test_its_heart_beats(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.web.live.HEART_BEAT_S", 0.05)
    with httpx.stream("GET", f"http://{served.host}/live", timeout=60) as stream:
        beats = (line for line in stream.iter_lines() if line.startswith(":"))
        assert [next(beats) for _ in range(3)] == [": still here"] * 3


def test_so_many_pages_and_no_more(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.web.live.MOST_STREAMS", 1)
    address = f"http://{served.host}/live"
    with httpx.stream("GET", address, timeout=60) as first:
        assert first.status_code == 200
        refused = httpx.get(address, timeout=60)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    until(lambda: listening(served) == 0, "the first has left")
    with httpx.stream("GET", address, timeout=60) as again:
        assert again.status_code == 200
