"""`/replay`: the plan, what is asked for, and how far it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fanout.config import Config
from fanout.views.words import count
from tests.web.past import in_order, make_past, requests, rows

if TYPE_CHECKING:
    from starlette.testclient import TestClient

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def past(config: Config) -> Config:
    make_past(config, NOW)
    return config


def failed(config: Config, function: str = "%") -> list[int]:
    sql = "SELECT key FROM run WHERE state = 'failed' AND function LIKE ? ORDER BY key"
    return [key for (key,) in rows(config, sql, function)]


def test_the_plan_comes_first_and_asks_for_nothing(past: Config, browser: TestClient) -> None:
    html = browser.get("/replay?plan=1").text

    number = len(failed(past))
    assert in_order(
        html, "The plan", count(number, "run"), "kept", "load", "run again", "store", f"Replay {count(number, 'run')}"
    )
    assert requests(past) == []


def test_from_the_start_keeps_nothing(past: Config, browser: TestClient) -> None:
    html = browser.get("/replay?plan=1&mode=from_start").text

    assert "kept</b>" not in html
    assert in_order(html, "run again", "load", "store")


def test_what_is_meant_is_asked_for(past: Config, browser: TestClient) -> None:
    keys = failed(past, "reserve-stock")
    given = {
        "status": "failed", "function": "reserve-stock", "mode": "from_step", "step": "store", "rate": "10/s",
        "again": "1", "planned": str(len(keys)),
    }  # fmt: skip

    answer = browser.post("/replay", data=given)

    body = {"runs": keys, "again": True, "from_start": False, "from_step": "store", "set": {}, "interval_ms": 100.0}
    assert requests(past) == [("replay", body)]
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/replay?request=1&planned={len(keys)}&function=reserve-stock"
    html = browser.get(answer.headers["location"]).text
    assert in_order(html, f"Asked for {count(len(keys), 'run')}", "No engine is running")


def test_the_outcome_is_counted_by_state(past: Config, browser: TestClient) -> None:
    keys = failed(past)
    there = browser.post("/replay", data={"planned": str(len(keys))}).headers["location"]
    columns = "id, function, event, event_name, rank, state, max_attempts, queued_at, started_at, ended_at, replay_of"
    sql = f"INSERT INTO run ({columns}) SELECT 'NEW', function, event, event_name, rank, 'completed', 5, ?, ?, ?, key FROM run WHERE key = ?"
    rows(past, sql, NOW, NOW, NOW, keys[0])
    rows(past, "UPDATE request SET handled_at = 1")

    html = browser.get(there).text

    assert in_order(html, "Replayed", "1 run so far", "completed", ">1<", f"{count(len(keys) - 1, 'run')} left out")


def test_if_other_runs_are_meant_by_now_the_new_plan_comes_first(past: Config, browser: TestClient) -> None:
    answer = browser.post("/replay", data={"planned": "3"})

    assert answer.status_code == 422
    assert "Meanwhile other runs are meant" in answer.text
    assert requests(past) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rate=fast", "is no rate"),
        ("rate=1/9999999999999w", "is no rate"),
        ("limit=0", "is no number of runs"),
        ("since=soon", "is no time"),
        ("status=running", "be replayed"),
        ("mode=from_step", "from which step?"),
        ("mode=from_step&step=stoer", "did you mean"),
    ],
)
def test_what_is_wrong_is_said_above_the_form(query: str, said: str, past: Config, browser: TestClient) -> None:
    answer = browser.get(f"/replay?plan=1&{query}")

    assert answer.status_code == 422
    assert in_order(answer.text, 'role="alert"', said)
    assert "The plan</h2>" not in answer.text


def test_nothing_to_replay_is_said_with_the_nearest_function(past: Config, browser: TestClient) -> None:
    html = browser.get("/replay?plan=1&function=reserve-stok").text

    assert in_order(html, "There is nothing to replay", "reserve-stock")


def test_an_outcome_that_nobody_asked_for_is_refused(past: Config, browser: TestClient) -> None:
    assert browser.get("/replay?request=77").status_code == 400
    assert browser.get("/replay?request=x&planned=y").status_code == 400
