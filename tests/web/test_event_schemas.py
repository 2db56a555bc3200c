"""Events that don't fit a function, over HTTP and by the form; and what its page says that it needs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fanout.config import Config
from fanout.errors import EventError
from fanout.events import parse
from fanout.journal.sqlite_appender import SqliteAppender
from fanout.model import EventSchema, EventTrigger, FunctionSpec
from fanout.web.writer import Writer
from tests.web.conftest import client_of, config_in
from tests.web.past import in_order, rows

if TYPE_CHECKING:
    from starlette.testclient import TestClient

ORDER = {
    "$ref": "#/$defs/Order",
    "$defs": {
        "Order": {
            "title": "Order",
            "type": "object",
            "properties": {"total": {"type": "integer"}, "password": {"enum": ["a", "b"]}, "note": {"type": "string"}},
            "required": ["total", "password"],
        }
    },
}
FIT = {"name": "shop/order", "data": {"total": 5, "password": "a"}}
UNFIT = {"name": "shop/order", "data": {"total": 5, "password": "hunter2"}}
REFUSAL = 'event `shop/order` does not fit function `place`: `data.password`: it is not one of "a" or "b"'
HINT = "`fanout events schema shop/order` shows what its data has to be"


def know(config: Config, *schemas: EventSchema, id_: str = "place") -> None:
    """As an engine that has loaded the code writes it."""
    if not config.journal.exists():
        config.journal.parent.mkdir(parents=True, exist_ok=True)
        SqliteAppender(config.journal).close()
    spec = FunctionSpec(
        id=id_, name=id_, module="m", qualname="f", file="m.py", line=1, is_async=False,
        triggers=(EventTrigger("shop/order"),), schemas=schemas,
    )  # fmt: skip
    rows(
        config,
        "INSERT OR REPLACE INTO function (id, spec, loaded_at, is_present) VALUES (?, ?, 0, 1)",
        id_, msgspec.json.encode(spec).decode(),
    )  # fmt: skip


def stored(config: Config) -> list[str]:
    return [data for (data,) in rows(config, "SELECT data FROM event WHERE key > 0 ORDER BY key")]


@pytest.fixture
def shop(config: Config) -> Config:
    know(config, EventSchema(None, json.dumps(ORDER)))
    return config


def test_what_does_not_fit_is_refused_with_all_that_came_with_it(shop: Config, browser: TestClient) -> None:
    answer = browser.post("/e/k", json=UNFIT)
    assert answer.status_code == 400
    assert answer.json() == {"ids": [], "status": 400, "error": f"`the request`: {REFUSAL}", "hint": HINT}
    answer = browser.post("/e/k", json=[FIT, UNFIT, {"name": "shop/other"}])
    assert answer.json()["error"] == f"`the request` event 2: {REFUSAL}"
    assert stored(shop) == []
    assert browser.post("/e/k", json=[FIT, {"name": "shop/other", "data": {"total": "5"}}]).status_code == 200
    assert stored(shop) == ['{"total":5,"password":"a"}', '{"total":"5"}']


def test_a_cloud_event_has_to_fit_too(shop: Config, browser: TestClient) -> None:
    sent = {"specversion": "1.0", "type": "shop/order", "source": "/shop", "id": "o-1", "data": {"password": "a"}}
    answer = browser.post("/e/k", json=sent, headers={"content-type": "application/cloudevents+json"})
    assert (answer.status_code, answer.json()["error"]) == (
        400, "`the request`: event `shop/order` does not fit function `place`: `data.total` is missing",
    )  # fmt: skip
    assert stored(shop) == []


def test_the_json_api_refuses_it_alike(shop: Config, browser: TestClient) -> None:
    answer = browser.post("/api/events", json=UNFIT)
    assert (answer.status_code, answer.json()["error"]) == (400, f"`the request`: {REFUSAL}")
    assert stored(shop) == []


def test_a_function_that_is_known_later_is_asked_from_then_on(config: Config, browser: TestClient) -> None:
    assert browser.post("/e/k", json=UNFIT).status_code == 200, "nobody knows what it has to be"
    know(config, EventSchema(None, json.dumps(ORDER)))
    assert browser.post("/e/k", json=UNFIT).status_code == 400
    know(config, EventSchema(None, '{"type": "object"}'))
    assert browser.post("/e/k", json=UNFIT).status_code == 200


def test_of_requests_in_one_commit_only_the_one_that_does_not_fit_is_refused(shop: Config) -> None:
    requests = ([FIT], [UNFIT], [FIT, UNFIT], [FIT, FIT])

    async def all_of_them() -> list[Any]:
        writer = Writer(shop.journal)
        waiting = [writer.events(parse(json.dumps(sent).encode(), "test")) for sent in requests]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await writer.close()
        return answers

    answers = asyncio.run(all_of_them())
    assert [each.message if isinstance(each, EventError) else len(each) for each in answers] == [
        1, f"`the request`: {REFUSAL}", f"`the request` event 2: {REFUSAL}", 2,
    ]  # fmt: skip
    assert len(stored(shop)) == 3


def test_the_form_says_it_at_the_data_and_keeps_what_was_written(shop: Config, browser: TestClient) -> None:
    data = json.dumps(UNFIT["data"])
    answer = browser.post("/send", data={"name": "shop/order", "data": data, "id": "", "delay": ""})
    assert answer.status_code == 422
    assert in_order(
        answer.text, 'aria-describedby="data-error"', "hunter2", 'id="data-error"', "does not fit function", "place",
        "data.password", "it is not one of", "fanout events schema shop/order",
    )  # fmt: skip
    assert answer.text.count("hunter2") == 1, "only in what was written"
    assert stored(shop) == []


def test_no_value_is_told_whoever_may_see_it(config: Config) -> None:
    hidden = config_in(
        config.journal.parents[1], toml='[app]\nid = "test"\nfunctions = ["work"]\n[redact]\nkeys = ["password"]\n'
    )
    know(hidden, EventSchema(None, json.dumps(ORDER)))
    with client_of(hidden) as browser:
        for wrong in ("hunter2", ["hunter2"], {"hunter2": 1}):
            answer = browser.post("/e/k", json={"name": "shop/order", "data": {"total": 5, "password": wrong}})
            assert answer.status_code == 400
            assert "data.password" in answer.text
            assert "hunter2" not in answer.text


def test_a_functions_page_shows_what_it_needs(shop: Config, browser: TestClient) -> None:
    know(shop, EventSchema("shop/order", json.dumps(ORDER)), EventSchema("shop/*", "{}"), id_="both")
    know(shop, id_="any")
    html = browser.get("/functions/place").text
    assert in_order(html, "Event data</dt>", "Order (total, password, note?)", "JSON Schema", "Retries")
    assert in_order(browser.get("/functions/both").text, "shop/order", "Order (total", "shop/*", "one of several")
    assert "Event data" not in browser.get("/functions/any").text
    [shown] = browser.get("/api/functions/place").json()["event_schemas"]
    assert shown == {"event": None, "schema": ORDER}
