"""The pages of runs: what they show of a journal, what they make of odd values, and what their forms ask for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import apsw
import pytest
from starlette.testclient import TestClient

from fanout.config import Config
from fanout.engine.lock import EngineLock
from fanout.journal.logs import logs_path
from fanout.journal.sqlite_logs import SqliteLogs
from fanout.protocol import Logged
from fanout.web.pages import run as run_page
from tests.acceptance.conftest import until
from tests.unit.filled import NOW, Filled, run_id
from tests.unit.specs import add, spec
from tests.web.pages import Html

PERSON = {"Accept": "text/html"}
ODD = "<script>alert(1)</script>\"'&\u202e\x07"
SHOWN = "<script>alert(1)</script>\"'&\\u202e\\x07"


@pytest.fixture
def journal(config: Config) -> Iterator[Filled]:
    config.journal.parent.mkdir(exist_ok=True)
    with closing(Filled(config.journal)) as filled:
        yield filled


def page(browser: TestClient, address: str, status: int = 200) -> Html:
    answer = browser.get(address, headers=PERSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Html(answer.text)


def listed(browser: TestClient, address: str) -> list[int]:
    """The keys of the runs that a list has."""
    return [int(row.attributes["id"].removeprefix("run-01R")) for row in page(browser, address).having("data-row")]


def requests(config: Config) -> list[tuple[str, dict[str, Any]]]:
    """What was asked of the engine."""
    with closing(apsw.Connection(str(config.journal), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = connection.execute("SELECT kind, body FROM request ORDER BY key").fetchall()
    return [(str(kind), json.loads(str(body))) for kind, body in rows]


def fail(journal: Filled, run: int, **values: Any) -> None:
    made = {"step": "", "attempt": 0, "type": "ValueError", "message": "", "traceback": "", "at": NOW + 5}
    journal.insert("failure", run=run, **made | values)


def some_runs(journal: Filled) -> None:
    journal.event(1, "app/a")
    journal.event(2, "app/b")
    journal.run(1, "one", 1)
    journal.run(2, "two", 1, "failed")
    fail(journal, 2, message="the card was declined")
    journal.run(3, "one", 2, "queued")
    journal.run(4, "two", 2, "skipped", reason="rate limit")
    journal.run(5, "three", 2, replay_of=1)


# The list.


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("?state=failed", [2]),
        ("?state=queued", [3]),
        ("?function=one", [3, 1]),
        ("?function=t*", [5, 4, 2]),
        ("?event=app/b", [5, 4, 3]),
        ("?event=app/*&function=two", [4, 2]),
        ("?q=Card", [2]),
        ("?q=nothing+says+this", []),
        ("?since=1h", []),
        ("?since=2000-01-01", [5, 4, 3, 2, 1]),
        ("?before=3", [2, 1]),
        ("?after=3", [5, 4]),
        ("?before=none&state=", [5, 4, 3, 2, 1]),
    ],
)
def test_the_list_has_the_runs_that_the_address_asks_for(
    browser: TestClient, journal: Filled, query: str, keys: list[int]
) -> None:
    some_runs(journal)
    assert listed(browser, f"/runs{query}") == keys


def test_a_row_says_what_became_of_a_run(browser: TestClient, journal: Filled) -> None:
    some_runs(journal)
    rows = {row.attributes["id"]: row for row in page(browser, "/runs").having("data-row")}
    assert [row.attributes["data-state"] for row in rows.values()] == [
        "completed", "skipped", "queued", "failed", "completed",
    ]  # fmt: skip
    failed = rows[f"run-{run_id(2)}"].text
    assert failed.startswith("failed two ValueError: the card was declined app/a 8 ms ")
    assert failed.endswith(run_id(2)[-10:])
    assert rows[f"run-{run_id(4)}"].text.startswith("skipped two rate limit app/b")
    assert "replay" in rows[f"run-{run_id(5)}"].text


@pytest.mark.parametrize("query", ["?state=odd", "?since=yesterday-ish"])
def test_what_can_not_be_asked_is_said_on_the_page(browser: TestClient, journal: Filled, query: str) -> None:
    some_runs(journal)
    found = page(browser, f"/runs{query}")
    assert found.having("data-row") == []
    assert found.one("role", "alert").text


def test_pages_lead_to_all_runs_and_back(browser: TestClient, journal: Filled) -> None:
    journal.event(1)
    journal.event(2, "app/other")
    for key in range(1, 121):
        journal.run(key, "one", 1, replay_of=None if key == 1 else 1)
        journal.run(1000 + key, "two", 2, replay_of=None if key == 1 else 1001)
    here, seen = "/runs?function=one", []
    while True:
        seen.append(listed(browser, here))
        older = page(browser, here).having("rel", "next")
        if not older:
            break
        here = older[0].attributes["href"]
    assert seen == [[*range(120, 70, -1)], [*range(70, 20, -1)], [*range(20, 0, -1)]]
    back = page(browser, here).one("rel", "prev").attributes["href"]
    assert listed(browser, back) == seen[1]
    back = page(browser, back).one("rel", "prev").attributes["href"]
    assert listed(browser, back) == seen[0]
    assert page(browser, back).having("rel", "prev") == []
    assert page(browser, "/runs?function=one").having("rel", "prev") == []


def test_the_filters_stay_in_every_link(browser: TestClient, journal: Filled) -> None:
    some_runs(journal)
    found = page(browser, "/runs?function=two&event=app/a&q=card")
    chips = [each for each in found.tags("a") if each.attributes["href"].startswith("/runs?state=")]
    assert [parse_qs(urlsplit(each.attributes["href"]).query) for each in chips] == [
        {"state": [state], "function": ["two"], "event": ["app/a"], "q": ["card"]}
        for state in ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")
    ]
    bulk = urlsplit(found.one("data-action", "replay-failed").attributes["href"])
    assert (bulk.path, parse_qs(bulk.query)) == (
        "/replay", {"plan": ["1"], "status": ["failed"], "function": ["two"], "event": ["app/a"], "error": ["card"]},
    )  # fmt: skip


def test_a_search_for_an_id_opens_its_run(browser: TestClient, journal: Filled) -> None:
    some_runs(journal)
    answer = browser.get(f"/runs?q={run_id(2)[-10:]}", headers=PERSON)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_id(2)}")


def test_the_root_leads_to_the_runs(browser: TestClient) -> None:
    assert browser.get("/").headers["location"] == "/runs"


def test_a_project_without_a_journal_is_told_what_to_do_first(browser: TestClient, config: Config) -> None:
    found = page(browser, "/runs")
    assert "Nothing has happened yet" in found.one("id", "main").text
    assert f"http://127.0.0.1:{config.port}/e/dev" in found.one("id", "main").text


# One run.


def full_run(journal: Filled, state: str = "failed") -> None:
    journal.event(1, "shop/order", data='{"order":7,"lines":["a",null,1.5]}')
    journal.run(1, "fulfil", 1, state, output='{"paid":true}' if state == "completed" else None)
    journal.step(1, "reserve", output='{"at":"BER"}', position=0)
    journal.step(1, "charge", "failed", output=None, attempts=2, position=1)
    fail(journal, 1, step="charge", attempt=0, message="no answer", traceback=TRACEBACK, at=NOW + 3)
    fail(journal, 1, step="charge", attempt=1, message="declined", traceback=TRACEBACK, at=NOW + 5)
    if state == "failed":
        fail(journal, 1, type="StepError", message="step `charge` failed: ValueError: declined", traceback="")


TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/orders.py", line 7, in charge
    card.charge(total)
  File "/usr/lib/python3.11/site-packages/cards/api.py", line 90, in charge
    raise ValueError(code)
ValueError: declined
"""


def test_a_run_is_shown_in_full(browser: TestClient, journal: Filled) -> None:
    full_run(journal)
    found = page(browser, f"/runs/{run_id(1)}")
    assert found.tags("h1")[0].text == "fulfil"
    steps = {each.attributes["data-step"]: each for each in found.having("data-step")}
    assert {name: each.attributes["data-state"] for name, each in steps.items()} == {
        "reserve": "completed",
        "charge": "failed",
    }
    charge = steps["charge"].text
    assert "ValueError no answer attempt 1 of 5" in charge
    assert "ValueError declined attempt 2 of 5" in charge
    assert charge.count("/srv/shop/orders.py:7 charge") == 2
    assert charge.count("1 frame of cards") == 2
    regions = {each.attributes["aria-label"]: each.text for each in found.having("role", "region")}
    assert regions["Data of the event"] == '{ "order" : 7 , "lines" : [ "a" , null , 1.5 ] }'
    assert regions["Result of reserve"] == '{ "at" : "BER" }'
    assert found.one("role", "note").text == "ValueError declined"


def test_the_waterfall_is_to_scale(browser: TestClient, journal: Filled) -> None:
    """Of 100 ms: 10 in the queue, a step from 20 to 60 whose first attempt failed at 40 and whose second began at 50."""
    journal.event(1)
    journal.run(1, "one", 1, started_at=NOW + 10, ended_at=NOW + 100)
    journal.step(1, "work", started_at=NOW + 20, ended_at=NOW + 60, attempts=2, attempted_at=NOW + 50)
    fail(journal, 1, step="work", attempt=0, began_at=NOW + 20, at=NOW + 40, message="odd")
    found = page(browser, f"/runs/{run_id(1)}")
    bars = [each for each in found.tags("rect") if "%" in each.attributes.get("x", "")]
    assert [(bar.attributes["class"], bar.attributes["x"], bar.attributes["width"], bar.text) for bar in bars] == [
        ("queued", "0.000%", "10.000%", "in the queue for 10 ms"),
        ("span", "10.000%", "90.000%", "the run: 90 ms"),
        ("failed", "20.000%", "20.000%", "attempt 1 failed after 20 ms: ValueError: odd"),
        ("waiting", "40.000%", "10.000%", "waited 10 ms before attempt 2"),
        ("working", "50.000%", "10.000%", "attempt 2: 10 ms"),
    ]
    table = [each.text for each in found.tags("tr")]
    assert table[1].startswith("work run completed")
    assert table[1].endswith("40 ms 2")


def test_values_from_outside_are_text_and_nothing_else(browser: TestClient, journal: Filled) -> None:
    journal.event(1, ODD, data=json.dumps({ODD: ODD}))
    journal.run(1, ODD, 1, "failed", reason=ODD)
    journal.step(1, ODD, "failed", output=None)
    fail(journal, 1, step=ODD, type=ODD, message=ODD, traceback=f'  File "{ODD}", line 1, in {ODD}\n    {ODD}\n{ODD}')
    fail(journal, 1, type=ODD, message=ODD, traceback=ODD)
    with SqliteLogs(logs_path(journal.path)) as logs:
        logs.write([Logged(run_id=run_id(1), step=ODD, attempt=0, at=NOW, source=ODD, logger=ODD, text=ODD)])
    for address in ("/runs", f"/runs/{run_id(1)}", f"/runs/{run_id(1)}/replay", "/runs?" + "&".join(
        f"{name}=%3Cscript%3Ealert(1)%3C/script%3E%22'" for name in ("q", "function", "event", "since", "state")
    )):  # fmt: skip
        found = page(browser, address)
        scripts = [each for each in found.tags("script") if not each.attributes["src"].startswith("/static/")]
        assert scripts == [], address
        assert found.having("style") == [], address
        assert [each for each in found.elements if any(name.startswith("on") for name in each.attributes)] == []
    assert page(browser, f"/runs/{run_id(1)}").tags("h1")[0].text == SHOWN


def test_a_page_of_many_steps_stays_light(browser: TestClient, journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "one", 1)
    for number in range(600):
        journal.step(1, f"step-{number}", output=f'"{"x" * 1000}"', position=number)
    found = page(browser, f"/runs/{run_id(1)}")
    assert [each.attributes["data-step"] for each in found.having("data-step")] == [f"step-{n}" for n in range(500)]
    results = [each for each in found.having("role", "region") if each.attributes["aria-label"].startswith("Result")]
    assert len(results) == run_page.MOST_RESULTS // 1002
    assert "The first 500 of 600 steps" in found.one("id", "main").text


def test_a_log_is_shown_from_its_end(browser: TestClient, journal: Filled) -> None:
    full_run(journal)
    with SqliteLogs(logs_path(journal.path)) as logs:
        logs.write([
            Logged(run_id=run_id(1), step="charge", attempt=1, at=NOW + n, source="stdout", logger=None, text=f"line {n}")
            for n in range(1, 231)
        ])  # fmt: skip
    found = page(browser, f"/runs/{run_id(1)}")
    lines = [each for each in found.having("id") if each.attributes["id"].startswith("line-")]
    assert [each.attributes["id"] for each in lines] == [f"line-{n}" for n in range(31, 231)]
    assert lines[-1].text.endswith("charge, attempt 2 line 230")
    assert "Show 30 earlier" in found.one("id", "log").text
    found = page(browser, f"/runs/{run_id(1)}?log=more")
    assert len([each for each in found.having("id") if each.attributes["id"].startswith("line-")]) == 230


def test_a_part_of_an_id_leads_to_the_run_and_no_id_to_words(browser: TestClient, journal: Filled) -> None:
    full_run(journal)
    assert browser.get(f"/runs/{run_id(1)[-10:]}").headers["location"] == f"/runs/{run_id(1)}"
    found = page(browser, "/runs/nope", 404)
    assert "there is no run `nope`" in found.one("id", "main").text


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "completed", "failed", "cancelled", "skipped"])
def test_every_state_has_what_can_be_done_with_it(browser: TestClient, journal: Filled, state: str) -> None:
    journal.event(1)
    journal.run(1, "one", 1, state, due_at=NOW if state == "waiting" else None)
    found = page(browser, f"/runs/{run_id(1)}")
    is_live = state in ("queued", "running", "waiting")
    assert [each.attributes["data-action"] for each in found.having("data-action")] == (
        ["cancel"] if is_live else ["replay-from-start", "replay"]
    )
    assert len(found.having("data-growing")) == is_live


# What is asked of the engine.


def test_cancelling_asks_for_it_once_and_not_of_a_run_that_is_over(
    browser: TestClient, journal: Filled, config: Config
) -> None:
    journal.event(1)
    journal.run(1, "one", 1, "queued")
    journal.run(2, "two", 1)
    answer = browser.post(f"/runs/{run_id(1)}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_id(1)}?said=asked")
    assert browser.post(f"/runs/{run_id(2)}/cancel").headers["location"] == f"/runs/{run_id(2)}?said=over"
    assert requests(config) == [("cancel", {"runs": [1]})]
    assert "comes when an engine runs" in page(browser, f"/runs/{run_id(1)}?said=asked").one("id", "flash").text
    assert page(browser, f"/runs/{run_id(1)}?said=odd").having("id", "flash") == []


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ({}, {}),
        ({"from_start": "1"}, {"from_start": True}),
        ({"from_step": "charge"}, {"from_step": "charge"}),
        ({"again": "1"}, {"again": True}),
    ],
)
def test_each_way_to_replay(
    browser: TestClient, journal: Filled, config: Config, form: dict[str, str], asked: dict[str, Any]
) -> None:
    full_run(journal)
    answer = browser.post(f"/runs/{run_id(1)}/replay", data=form)
    assert answer.headers["location"] == f"/runs/{run_id(1)}?said=asked"
    body = {"runs": [1], "again": False, "from_start": False, "from_step": None, "set": {}, "interval_ms": None}
    assert requests(config) == [("replay", {**body, **asked})]


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"from_step": "odd"}, 404, "none of the runs has a step `odd`"),
        ({"from_step": "charge", "from_start": "1"}, 400, "not both"),
    ],
)
def test_a_replay_that_can_not_be_is_refused(
    browser: TestClient, journal: Filled, config: Config, form: dict[str, str], status: int, said: str
) -> None:
    full_run(journal)
    answer = browser.post(f"/runs/{run_id(1)}/replay", data=form, headers=PERSON)
    assert answer.status_code == status
    assert said in Html(answer.text).one("id", "main").text
    assert requests(config) == []


def test_a_rerun_from_a_step_shows_the_plan_first(browser: TestClient, journal: Filled) -> None:
    full_run(journal)
    add(journal, spec("fulfil", steps=("reserve", "charge", "tell")))
    links = page(browser, f"/runs/{run_id(1)}").having("data-action", "rerun")
    found = page(browser, links[1].attributes["href"])
    plan = found.one("data-plan").text
    assert "reused reserve the recorded result counts" in plan
    assert "run charge recorded, and done again" in plan
    assert "new tell in today's code" in plan
    assert {each.attributes["name"]: each.attributes["value"] for each in found.having("type", "hidden")} == {
        "from_step": "charge"
    }


def test_a_replay_that_an_engine_has_made_is_where_one_gets(
    browser: TestClient, journal: Filled, config: Config
) -> None:
    full_run(journal)
    answers: list[str] = []
    lock = EngineLock(config.journal)

    def ask() -> None:
        answers.append(browser.post(f"/runs/{run_id(1)}/replay").headers["location"])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        until(lambda: bool(requests(config)), "the request is there")
        journal.run(2, "fulfil", 1, "queued", replay_of=1)
        journal.execute("UPDATE request SET handled_at = ?", NOW)
    finally:
        asking.join(30)
        lock.release()
    assert answers == [f"/runs/{run_id(2)}?said=replayed"]
    assert "This is the replay" in page(browser, answers[0]).one("id", "flash").text
