"""`/functions`: how they fare, and what can be asked of one."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from fanout.config import Config
from fanout.model import CronTrigger, FunctionSpec
from tests.web.past import in_order, make_past, requests, rows

if TYPE_CHECKING:
    from starlette.testclient import TestClient

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def past(config: Config) -> Config:
    make_past(config, NOW)
    return config


def add(config: Config, spec: FunctionSpec) -> None:
    row = (spec.id, msgspec.json.encode(spec).decode(), NOW)
    rows(config, "INSERT INTO function (id, spec, loaded_at, is_present) VALUES (?, ?, ?, 1)", *row)


def spec(id_: str, *triggers: CronTrigger) -> FunctionSpec:
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname="f", file="m.py", line=1, is_async=False, triggers=triggers
    )


def test_the_list_says_how_each_function_fares(past: Config, browser: TestClient) -> None:
    rows(past, "INSERT INTO pause VALUES ('ship-order', ?)", NOW)

    html = browser.get("/functions").text

    assert in_order(html, "reconcile", "every 15 minutes, UTC", "reserve-stock", "shop/order", " in 24 h, ", "p50 ")
    (there,) = rows(past, "SELECT count(*) FROM run WHERE function = 'reserve-stock'")[0]
    shown = re.search(r'id="function-reserve-stock".*?>runs </span>(\d+)<', html, re.DOTALL)
    assert shown is not None
    assert 0 < int(shown[1]) <= there  # the first ones are more than a day old
    assert in_order(html, "ship-order", "paused", "update-ledger")
    assert html.count('<svg class="spark"') == 6


def test_a_function_shows_its_triggers_settings_figures_and_runs(past: Config, browser: TestClient) -> None:
    html = browser.get("/functions/reserve-stock").text

    (newest,) = rows(past, "SELECT id FROM run WHERE function = 'reserve-stock' ORDER BY key DESC LIMIT 1")[0]
    assert in_order(
        html, "Runs in 24 h", "Started by", "shop/order", "Settings", "Retries", "Invoke", "Newest runs", newest
    )
    assert "Newest failures" in html
    assert "No engine is running" in html


def test_a_schedule_shows_its_next_ticks_and_what_clock_changes_do(past: Config, browser: TestClient) -> None:
    add(past, spec("nightly", CronTrigger("30 2 * * *", "Europe/Berlin")))

    html = browser.get("/functions/nightly").text

    assert "every day at 02:30, Europe/Berlin" in html
    assert html.count(" 02:30:00 CE") >= 4
    assert "so 02:30 ticks at 03:00" in html


@pytest.mark.parametrize("kind", ["pause", "resume"])
def test_pausing_and_resuming_are_asked_for(kind: str, past: Config, browser: TestClient) -> None:
    answer = browser.post("/functions/ship-order", data={"do": kind})

    assert (answer.status_code, answer.headers["location"]) == (303, f"/functions/ship-order?said={kind}")
    assert requests(past) == [(kind, {"functions": ["ship-order"]})]
    assert "Asked to" in browser.get(answer.headers["location"]).text


def test_invoking_asks_for_a_run_and_then_shows_it(past: Config, browser: TestClient) -> None:
    answer = browser.post("/functions/ship-order", data={"do": "invoke", "data": '{\r\n "n": 1e2}'})

    assert requests(past) == [("invoke", {"function": "ship-order", "data": {"n": 100.0}})]
    assert answer.status_code == 303
    assert "has not come to it yet" in browser.get(answer.headers["location"]).text
    (key, id_) = rows(past, "SELECT key, id FROM run WHERE state = 'completed' LIMIT 1")[0]
    rows(past, "UPDATE request SET handled_at = 1, run = ?", key)
    assert in_order(browser.get(answer.headers["location"]).text, "Asked for:", id_, "completed")


def test_data_that_is_no_json_stays_in_the_form(past: Config, browser: TestClient) -> None:
    answer = browser.post("/functions/ship-order", data={"do": "invoke", "data": '{"n": <b>}'})

    assert answer.status_code == 422
    assert requests(past) == []
    assert in_order(answer.text, "<textarea", "{&#34;n&#34;: &lt;b&gt;}", "line 1 column 7: this is not JSON")


def test_a_tick_is_asked_for_by_its_schedule(past: Config, browser: TestClient) -> None:
    given = {"do": "tick", "cron": "*/15 * * * *", "timezone": "UTC"}
    assert browser.post("/functions/reconcile", data=given).status_code == 303
    assert browser.post("/functions/reconcile", data={**given, "cron": "1 * * * *"}).status_code == 404

    assert requests(past) == [
        ("tick", {"function": "reconcile", "at": None, "cron": "*/15 * * * *", "timezone": "UTC"})
    ]


def test_an_id_with_an_app_and_what_its_author_wrote_are_only_text(past: Config, browser: TestClient) -> None:
    add(past, msgspec.structs.replace(spec("app/<b>x</b>"), name="<i>name</i>", steps=("<u>step</u>",)))

    listed, shown = browser.get("/functions").text, browser.get("/functions/app/%3Cb%3Ex%3C/b%3E").text

    assert not any(tag in listed + shown for tag in ("<b>x", "<i>name", "<u>step"))
    assert "&lt;u&gt;step&lt;/u&gt;" in shown


@pytest.mark.parametrize("data", [{}, {"do": "delete"}])
def test_a_form_that_asks_for_nothing_known_is_refused(data: dict[str, str], past: Config, browser: TestClient) -> None:
    assert browser.post("/functions/ship-order", data=data).status_code == 400
    assert browser.post("/functions/nothing", data=data).status_code == 404
    assert requests(past) == []


def test_a_request_number_that_is_none_is_not_shown(past: Config, browser: TestClient) -> None:
    for said in ("999", "x", "9" * 40):
        html = browser.get(f"/functions/ship-order?request={said}")
        assert html.status_code == 200
        assert 'id="asked"' not in html.text
