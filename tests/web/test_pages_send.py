"""`/send`: an event by hand, and what is said when it is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fanout.config import Config
from tests.web.conftest import TOML, client_of, config_in
from tests.web.past import in_order, make_past, rows, send

if TYPE_CHECKING:
    from starlette.testclient import TestClient

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def past(config: Config) -> Config:
    make_past(config, NOW, runs=210)
    return config


def newest(config: Config) -> tuple[object, ...]:
    return rows(config, "SELECT name, data, id, is_id_given, ts FROM event WHERE key > 0 ORDER BY key DESC LIMIT 1")[0]


def count(config: Config) -> int:
    number: int = rows(config, "SELECT count(*) FROM event")[0][0]
    return number


def test_an_event_is_stored_and_its_page_is_next(past: Config, browser: TestClient) -> None:
    answer = browser.post(
        "/send", data={"name": "shop/order", "data": '{\r\n  "total": 1.50\r\n}', "id": "", "delay": ""}
    )

    name, data, id_, is_given, _ = newest(past)
    assert (name, data, is_given) == ("shop/order", '{"total":1.50}', 0)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/events/{id_}?said=sent")
    html = browser.get(answer.headers["location"]).text
    assert in_order(html, "Sent.", "shop/order", "No engine is running")
    assert "would start" not in html or "reserve-stock" in html


def test_an_id_of_ones_own_and_a_delay(past: Config, browser: TestClient) -> None:
    before = time.time_ns() // 1_000_000
    given = {"name": "shop/order", "data": "{}", "id": "order/7 <b>", "delay": "1h"}
    answer = browser.post("/send", data=given)

    *_, id_, is_given, ts = newest(past)
    assert (id_, is_given) == ("order/7 <b>", 1)
    assert isinstance(ts, int)
    assert 0 <= ts - before - 3_600_000 < 60_000
    assert answer.headers["location"] == "/events/order/7%20%3Cb%3E?said=sent"
    assert browser.get(answer.headers["location"]).status_code == 200
    assert browser.post("/send", data=given).headers["location"].endswith("said=duplicate")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "`name` is empty"),
        ("name", "fanout/x", "begins with `fanout/`"),
        ("data", '{"a": 1,\n  "b" 2}', "`data` line 2 column 7: this is not JSON"),
        ("data", "[1]", "has to be an object"),
        ("id", "x" * 300, "at most 256"),
        ("delay", "soon", "`delay soon` is no time"),
        ("delay", "9" * 306 + "d", "is no time"),
        ("delay", "1900-01-01T00:00", "its time"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_the_form_stays(
    field: str, value: str, said: str, past: Config, browser: TestClient
) -> None:
    before = count(past)
    answer = browser.post("/send", data={"name": "shop/order", "data": "{}", "id": "", "delay": "", field: value})

    words = said.split("`")
    shown = "".join(
        f'<code class="inline-code">{word}</code>' if place % 2 else word for place, word in enumerate(words)
    )
    assert answer.status_code == 422
    assert in_order(answer.text, f'aria-describedby="{field}-error"', f'id="{field}-error"', shown)
    assert count(past) == before


def test_what_was_typed_comes_back_as_text(past: Config, browser: TestClient) -> None:
    html = browser.post("/send", data={"name": '"><script>1</script>', "data": "</textarea><script>1</script>"}).text

    assert "<script>1" not in html
    assert "&lt;/textarea&gt;" in html


def test_what_nobody_hears_is_sent_only_when_said_twice(past: Config, browser: TestClient) -> None:
    given = {"name": "shop/ordr", "data": '{"kept": 1}'}
    before = count(past)
    answer = browser.post("/send", data=given)

    assert answer.status_code == 422
    assert in_order(answer.text, "Nobody listens to", "did you mean", "shop/order", "Send it all the same", "kept")
    assert count(past) == before
    assert browser.post("/send", data={**given, "unheard": "1"}).status_code == 303
    assert newest(past)[0] == "shop/ordr"


def test_an_event_can_be_sent_again(past: Config, browser: TestClient) -> None:
    (id_,) = rows(past, "SELECT id FROM event WHERE name = 'shop/order.paid' LIMIT 1")[0]

    html = browser.get(f"/send?again={id_}").text

    assert in_order(html, 'value="shop/order.paid"', "<textarea", "&#34;n&#34;: 7")
    assert browser.get("/send?again=nothing").status_code == 404


def test_the_first_event_needs_no_journal(config: Config, browser: TestClient) -> None:
    assert browser.get("/send").status_code == 200
    assert browser.post("/send", data={"name": "a", "data": ""}).status_code == 303
    assert newest(config)[:2] == ("a", "{}")


def test_whom_it_has_woken_is_said_on_its_page(past: Config, browser: TestClient) -> None:
    (run, id_) = rows(past, "SELECT key, id FROM run WHERE state = 'waiting' LIMIT 1")[0]
    rows(
        past,
        "INSERT INTO step (run, key, kind, branch, state, position, attempts, started_at) VALUES (?, 'paid?', 'wait', '', 'waiting', 5, 1, 1)",
        run,
    )
    rows(
        past,
        "INSERT INTO wait (run, step, number, event, path, value) VALUES (?, 'paid?', 0, 'shop/paid', '', '')",
        run,
    )

    answer = browser.post("/send", data={"name": "shop/paid", "data": "{}"})
    there = answer.headers["location"]
    assert "Woken and cancelled" not in browser.get(there).text

    event = there.removeprefix("/events/").partition("?")[0]
    rows(past, "DELETE FROM wait")
    rows(
        past, "UPDATE step SET state = 'completed', ended_at = 2, output = ? WHERE key = 'paid?'", f'{{"id":"{event}"}}'
    )
    assert in_order(browser.get(there).text, "Woken and cancelled", "woke", "paid?", id_)


def test_hidden_values_are_not_sent_again_unseen(config: Config) -> None:
    hiding = config_in(config.root, toml=TOML + '[redact]\nkeys = ["password"]\n')
    [accepted] = send(hiding, NOW, {"name": "app/login", "data": {"password": "swordfish"}})
    with client_of(hiding) as browser:
        html = browser.get(f"/send?again={accepted.id}").text

    assert "swordfish" not in html
    assert "Some values are hidden here" in html
