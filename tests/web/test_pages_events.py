"""`/events` and `/trace`: what is listed, said and escaped, and how one comes from page to page."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from fanout.config import Config
from fanout.views import words
from tests.web.past import in_order, make_past, rows, send

if TYPE_CHECKING:
    from starlette.testclient import TestClient

NASTY = '<script>alert("1")</script>'
NOW = time.time_ns() // 1_000_000


@pytest.fixture
def past(config: Config) -> Config:
    make_past(config, NOW)
    return config


def ids(html: str) -> list[str]:
    return re.findall(r'<tr id="event-(-?\d+)"', html)


def test_pages_of_events_show_each_once_the_newest_first(past: Config, browser: TestClient) -> None:
    href: str | None = "/events"
    seen: list[str] = []
    while href is not None:
        html = browser.get(href).text
        seen += ids(html)
        older = re.search(r'rel="next"[^>]*href="([^"]+)"', html)
        href = older[1].replace("&amp;", "&") if older else None

    own = "fanout/function.invoked"
    wanted = rows(past, "SELECT key FROM event WHERE name <> ? ORDER BY received_at DESC, abs(key) DESC", own)
    assert seen == [str(key) for (key,) in wanted]


def test_events_of_one_moment_are_told_apart_from_page_to_page(config: Config, browser: TestClient) -> None:
    send(config, NOW, *({"name": f"app/event-{number}"} for number in range(120)))

    first = browser.get("/events").text
    second = browser.get(f"/events?until={NOW}&passed=50").text
    third = browser.get(f"/events?until={NOW}&passed=100").text

    assert ids(first) + ids(second) + ids(third) == [str(key) for key in range(120, 0, -1)]
    assert f"until={NOW}&amp;passed=50" in first
    assert f"until={NOW}&amp;passed=100" in second
    assert 'rel="next"' not in third


def test_a_part_of_a_name_finds_events(past: Config, browser: TestClient) -> None:
    html = browser.get("/events?name=order.pa").text

    assert "shop/order.paid" in html
    assert ">shop/order<" not in html.partition("<table")[2]


@pytest.mark.parametrize("query", ["until=x", "until=1&passed=-1", "until=1&passed=99999999", "since=soon"])
def test_an_address_that_means_nothing_is_refused(query: str, past: Config, browser: TestClient) -> None:
    assert browser.get(f"/events?{query}").status_code == 400


def test_an_event_that_nobody_hears_says_so_with_the_nearest_name(past: Config, browser: TestClient) -> None:
    [accepted] = send(past, NOW, {"name": "shop/ordr"})
    rows(past, "UPDATE meta SET value = ? WHERE name = 'routed_to'", accepted.key)

    listed, shown = browser.get("/events?unheard=1").text, browser.get(f"/events/{accepted.id}").text

    assert "nobody listens" in listed
    assert 'did you mean <code class="inline-code">shop/order</code>?' in listed
    assert 'did you mean <code class="inline-code">shop/order</code>?' in shown


def test_an_event_says_what_it_holds_and_what_it_started(past: Config, browser: TestClient) -> None:
    (id_,) = rows(past, "SELECT id FROM event WHERE name = 'shop/order' ORDER BY key LIMIT 1")[0]

    html = browser.get(f"/events/{id_}").text

    assert in_order(html, "shop/order", "reserve-stock", "send-receipt", "update-ledger")
    assert "sent shop/order.paid" in html
    assert f'href="/trace/{id_}"' in html
    assert f'href="/send?again={id_}"' in html
    assert in_order(html, '<span class="k">', "n", '<span class="n">7</span>')


def test_whatever_a_sender_writes_is_only_text(config: Config, browser: TestClient) -> None:
    [accepted] = send(
        config, NOW, {"name": NASTY, "id": f"{NASTY}/1", "data": {NASTY: NASTY}, "user": {"a": NASTY}, "v": NASTY}
    )

    pages = [browser.get(path) for path in ("/events", f"/events/{accepted.id}", f"/trace/{accepted.id}")]

    assert [page.status_code for page in pages] == [200, 200, 200]
    assert not any("<script>alert" in page.text or 'alert("' in page.text for page in pages)
    assert all("alert(" in page.text for page in pages)


def test_an_event_that_is_not_there_is_a_404(past: Config, browser: TestClient) -> None:
    assert browser.get("/events/nothing").status_code == 404
    assert browser.get("/trace/nothing").status_code == 404


def test_a_trace_shows_the_tree_from_the_first_event_down(past: Config, browser: TestClient) -> None:
    (run, key) = rows(past, "SELECT id, key FROM run WHERE function = 'book-courier' ORDER BY key LIMIT 1")[0]

    html = browser.get(f"/trace/{run}").text

    assert in_order(html, "shop/order", "reserve-stock", "shop/order.paid", "ship-order", "book-courier")
    assert in_order(html, f'id="run-{key}"', "is-marked")
    assert not re.search(r'\b(x|width)="-', html)


def test_a_large_family_is_cut_with_its_count(config: Config, browser: TestClient) -> None:
    make_past(config, NOW, runs=6000)
    (event,) = rows(config, "SELECT id FROM event WHERE name = 'shop/order' ORDER BY key LIMIT 1")[0]
    rows(config, "DROP INDEX run_once")  # as if one event had started them all
    rows(config, "UPDATE run SET event = 1 WHERE function = 'send-receipt'")

    html = browser.get(f"/trace/{event}").text

    assert re.search(rf"send-receipt {words.TIMES}1,\d\d\d", html)
    assert html.count("data-row") <= 300
