"""`POST /e/{key}`: what is taken, what is answered, and that nothing is stored of what is refused."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from starlette.testclient import TestClient

from fanout.config import Config
from fanout.errors import EventError
from fanout.events import NewEvent, parse
from fanout.journal.sqlite_appender import SqliteAppender
from fanout.web import writer
from tests.web.conftest import client_of

ONE = {"name": "app/user.signup", "data": {"user": {"id": 7}}}
CLOUD_EVENT = {"specversion": "1.0", "type": "app/order", "source": "/shop", "id": "o-1", "data": {"total": 1}}
JSON = "application/json"


def stored(config: Config) -> list[tuple[Any, ...]]:
    """(id, name, data) of each event in the journal."""
    if not config.journal.exists():
        return []
    connection = apsw.Connection(str(config.journal), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT id, name, data FROM event ORDER BY key").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/e/any-key", "/e/", "/e"])
def test_one_event_is_durable_when_it_is_answered(browser: TestClient, config: Config, path: str) -> None:
    answer = browser.post(path, json=ONE)
    [(id_, *rest)] = stored(config)
    assert answer.json() == {"ids": [id_], "status": 200}
    assert rest == ["app/user.signup", '{"user":{"id":7}}']


@pytest.mark.parametrize(
    ("body", "kind", "names"),
    [
        (json.dumps([ONE, {"name": "b"}]), JSON, ["app/user.signup", "b"]),
        ('{"name": "a"}\n\n{"name": "b"}\n', "application/x-ndjson", ["a", "b"]),
        ('{"name": "a"}\n{"name": "b"}', "text/plain", ["a", "b"]),
        ("[]", JSON, []),
        (json.dumps(ONE), "application/x-www-form-urlencoded", ["app/user.signup"]),  # as `curl -d` has it
        (json.dumps(ONE), "application/octet-stream", ["app/user.signup"]),
        (json.dumps(ONE), "Application/JSON; charset=utf-8", ["app/user.signup"]),
        (json.dumps(CLOUD_EVENT), "application/cloudevents+json", ["app/order"]),
        (json.dumps([CLOUD_EVENT, {**CLOUD_EVENT, "id": "o-2"}]), "application/cloudevents-batch+json", ["app/order"] * 2),
    ],
)  # fmt: skip
def test_every_form_that_events_come_in(
    browser: TestClient, config: Config, body: str, kind: str, names: list[str]
) -> None:
    answer = browser.post("/e/k", content=body, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    assert [name for _, name, _ in stored(config)] == names
    assert answer.json()["ids"] == [id_ for id_, _, _ in stored(config)]


def test_an_event_without_a_content_type_is_taken_too(browser: TestClient) -> None:
    assert browser.post("/e/k", content=json.dumps(ONE)).status_code == 200


def test_a_cloud_event_in_binary_mode(browser: TestClient, config: Config) -> None:
    headers = {
        "ce-specversion": "1.0", "ce-type": "app/order", "ce-source": "/shop%20%C3%A9", "ce-id": "o-1",
        "ce-time": "2026-08-01T12:30:00Z", "ce-comexampleextension": "x", "content-type": JSON,
    }  # fmt: skip
    assert browser.post("/e/k", content=b'{"total": 1.50}', headers=headers).json() == {"ids": ["o-1"], "status": 200}
    [row] = apsw.Connection(str(config.journal)).execute("SELECT id, name, ts, data, user FROM event").fetchall()
    user = '{"source":"/shop é","comexampleextension":"x"}'
    assert row[:4] == ("o-1", "app/order", 1_785_587_400_000, '{"total":1.50}')
    assert json.loads(str(row[4])) == json.loads(user)
    headers["ce-id"] = "o-2"
    assert browser.post("/e/k", headers=headers).json() == {"ids": ["o-2"], "status": 200}  # without data


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"ce-id": None}, "header `ce-id` is missing"),
        ({"ce-time": "noon"}, 'header `ce-time` has to be a time with its zone, like "2026-08-01T12:30:00Z"'),
        ({"ce-type": "fanout/function.failed"}, "header `ce-type` begins with `fanout/`, as only fanout's own events do"),
        ({"body": "[1]"}, "the body has to be an object, not [1]"),
        ({"body": "{"}, "`body` line 1 column 2: this is not JSON: expecting property name enclosed in double quotes"),
        ({"body": '{},"id":"x"'}, "`body` line 1 column 3: this is not JSON: extra data"),
        ({"ce-data": "x", "body": ""}, 'the body has to be an object, not "x"'),
    ],
)  # fmt: skip
def test_a_binary_cloud_event_that_is_none(
    browser: TestClient, config: Config, given: dict[str, str | None], error: str
) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "a", "ce-source": "/shop", "ce-id": "o-1", **given}
    body = headers.pop("body", None)
    answer = browser.post("/e/k", content=body, headers={name: value for name, value in headers.items() if value})
    assert (answer.status_code, answer.json()["error"], answer.json()["ids"]) == (400, error, [])
    assert stored(config) == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            b'[{"name": "a"}, {"nmae": "b"}]',
            {"error": "`the request` event 2: field `nmae` is not one that an event has", "hint": "did you mean `name`?"},
        ),
        (
            b'{"name": "a"}\n{"name": "b", "ts": "now"}',
            {"error": '`the request` line 2: field `ts` has to be a whole number of milliseconds, not "now"'},
        ),
        (
            b"",
            {"error": "`the request` is empty", "hint": 'an event is `{"name": "app/hello", "data": {}}`'},
        ),
        (b"\xff", {"error": "`the request` line 1: this is not UTF-8 text", "hint": "save it as UTF-8"}),
        (b"name=app%2Fhello", {"error": "`the request` line 1 column 1: this is not JSON: expecting value"}),
        (
            json.dumps([{"name": "a"}] * 5001).encode(),
            {
                "error": "`the request` has 5,001 events, at most 5,000 can be in one request",
                "hint": "split it, and send one part after another",
            },
        ),
        (
            json.dumps([{"name": "a"}, {"name": "b", "data": {"x": "y" * 512 * 1024}}]).encode(),
            {
                "error": "`the request` event 2: the event has 524,316 bytes, at most 524,288 can be",
                "hint": "keep large data in a file, and send where it is",
            },
        ),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_and_nothing_of_it_is_stored(
    browser: TestClient, config: Config, body: bytes, answer: dict[str, str]
) -> None:
    refused = browser.post("/e/k", content=body)
    assert refused.status_code == 400
    assert refused.json() == {"ids": [], "status": 400, **answer}
    assert stored(config) == []


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"content-type": "application/xml"}, "events are JSON, not `application/xml`"),
        ({"content-type": "multipart/form-data; boundary=x"}, "events are JSON, not `multipart/form-data; boundary=x`"),
        ({"content-encoding": "gzip"}, "the body is encoded as `gzip`"),
    ],
)
def test_what_can_not_be_read_is_not_guessed_at(browser: TestClient, headers: dict[str, str], error: str) -> None:
    refused = browser.post("/e/k", content=json.dumps(ONE), headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (415, error)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_events_are_posted(browser: TestClient, method: str) -> None:
    refused = browser.request(method, "/e/k")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["error"] == f"`/e/k` does not take {method}"


def test_a_duplicate_is_stored_and_its_sender_told(browser: TestClient, config: Config) -> None:
    event = {"name": "a", "id": "mine"}
    assert browser.post("/e/k", json=event).json() == {"ids": ["mine"], "status": 200}
    assert browser.post("/e/k", json=event).json() == {"ids": ["mine"], "status": 200, "duplicates": ["mine"]}
    assert len(stored(config)) == 2


def test_a_journal_that_can_not_be_used(browser: TestClient, config: Config) -> None:
    config.journal.parent.mkdir()
    config.journal.write_bytes(b"not a database" * 100)
    refused = browser.post("/e/k", json=ONE)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {
        "ids": [],
        "status": 503,
        "error": f"`{config.journal}` is not a fanout journal",
        "hint": "move that file away, or name another in `[journal] path`",
    }
    # When it can be, it is.
    config.journal.unlink()
    assert browser.post("/e/k", json=ONE).status_code == 200


def test_another_journal_in_its_place_is_the_one_that_is_written(browser: TestClient, config: Config) -> None:
    assert browser.post("/e/k", json=ONE).status_code == 200
    assert len(browser.get("/api/events").json()["events"]) == 1
    for path in config.journal.parent.iterdir():
        path.unlink()
    assert browser.get("/api/events").json() == {"events": []}
    [id_] = browser.post("/e/k", json=ONE).json()["ids"]
    assert [row[0] for row in stored(config)] == [id_]
    assert [event["id"] for event in browser.get("/api/events").json()["events"]] == [id_]


def test_a_disk_that_is_full_for_a_while(browser: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert browser.post("/e/k", json=ONE).status_code == 200
    with monkeypatch.context() as full:
        full.setattr(SqliteAppender, "_is_known", lambda *_: fail())
        refused = browser.post("/e/k", json={**ONE, "id": "x"})
        assert (refused.status_code, refused.json()["ids"]) == (503, [])
        assert refused.json()["error"] == f"the disk of the journal `{config.journal}` is full"
    assert browser.post("/e/k", json={**ONE, "id": "x"}).json() == {"ids": ["x"], "status": 200}
    assert len(stored(config)) == 2


def fail() -> bool:
    raise apsw.FullError


def test_an_engine_that_can_not_be_told_is_no_reason_not_to_answer(config: Config) -> None:
    config.journal.parent.mkdir()
    name = config.journal.with_name("journal.db.lock")
    name.write_bytes(b"\xffnobody\nnowhere\n")

    async def several() -> None:
        written = writer.Writer(config.journal)
        for _ in range(3):
            async with asyncio.timeout(30):
                await written.events([NewEvent("a", "{}")])
        await written.close()

    with name.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.run(several())
    assert len(stored(config)) == 3


@pytest.mark.parametrize(
    "body", [b"[" + b"1," * 4_000_000 + b"1]", b"1\n" * 4_000_000, b"[" + b"{}," * 3_000_000 + b"{}]"]
)
def test_no_end_of_events_is_not_read_to_its_end(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(EventError) as raised:
            parse(body, "the request")
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()
    assert raised.value.message == "`the request` has more than 100,000 events, at most 5,000 can be in one request"


class Gate:
    """The appender of a site, held up until it is opened; it remembers what came together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.is_waiting = threading.Event()
        self.together: list[list[str]] = []
        real = SqliteAppender.append_events

        def append(journal: SqliteAppender, events: Sequence[NewEvent], now: int) -> Any:
            self.together.append([event.name for event in events])
            self.is_waiting.set()
            assert self.open.wait(30)
            return real(journal, events, now)

        monkeypatch.setattr(SqliteAppender, "append_events", append)


def test_requests_that_wait_share_a_commit_and_each_gets_its_own_ids(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)

    async def all_of_them() -> list[tuple[str, list[str]]]:
        written = writer.Writer(config.journal)

        def post(name: str, number: int) -> asyncio.Task[Any]:
            return asyncio.create_task(written.events([NewEvent(name, "{}")] * number))

        posted = [post("first", 1)]
        await asyncio.to_thread(gate.is_waiting.wait, 30)
        posted += [post(name, number) for number, name in enumerate("abc", 1)]
        gone = post("gone", 1)
        asked = asyncio.create_task(written.request("cancel", {"run": 1}))
        posted.append(post("last", 2))
        await asyncio.sleep(0)  # all of them begin
        gone.cancel()
        gate.open.set()
        answers = [(task.result()[0].name, [each.id for each in await task]) for task in posted if await task]
        assert await asked == 1
        await written.close()
        return answers

    answers = asyncio.run(all_of_them())
    assert gate.together == [["first"], ["a", "b", "b", "c", "c", "c", "gone"], ["last", "last"]]
    names = {id_: name for id_, name, _ in stored(config)}
    assert len(names) == 10
    assert [(name, len(ids), {names[id_] for id_ in ids}) for name, ids in answers] == [
        ("first", 1, {"first"}), ("a", 1, {"a"}), ("b", 2, {"b"}), ("c", 3, {"c"}), ("last", 2, {"last"}),
    ]  # fmt: skip


def test_more_than_can_wait_is_turned_away(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 10)
    gate = Gate(monkeypatch)

    async def all_of_them() -> None:
        written = writer.Writer(config.journal)
        # More than may wait, but nothing does.
        first = asyncio.create_task(written.events([NewEvent("first", "{}")] * 50))
        await asyncio.to_thread(gate.is_waiting.wait, 30)
        with pytest.raises(writer.OverloadedError) as raised:
            await written.events([NewEvent("second", "{}")])
        assert str(raised.value) == "50 events wait to be written already"
        gate.open.set()
        assert len(await first) == 50
        assert len(await written.events([NewEvent("third", "{}")])) == 1
        await written.close()
        with pytest.raises(writer.OverloadedError):
            await written.events([NewEvent("fourth", "{}")])

    asyncio.run(all_of_them())
    assert len(stored(config)) == 51


def test_a_site_that_ends_writes_what_it_has_taken(config: Config) -> None:
    with client_of(config) as client:
        ids = [client.post("/e/k", json=ONE).json()["ids"][0] for _ in range(10)]
    assert [id_ for id_, _, _ in stored(config)] == ids


def test_what_the_page_shows_is_what_is_answered(browser: TestClient) -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    [(body, shown)] = re.findall(r"^\$ curl \S+ -d '(.*nmae.*)'\n(.*)$", page, re.MULTILINE)
    assert browser.post("/e/dev", content=body).text == shown
    for body in re.findall(r"\$ curl \S+ -d '([^']*)'\n\{\"ids\":\[\"", page):
        assert browser.post("/e/dev", content=body).status_code == 200
