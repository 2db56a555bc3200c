"""`/graph` and `/stats`: what is drawn has its numbers, links and words beside it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from fanout.config import Config
from fanout.web.pages.stats import _scale
from tests.web.past import in_order, make_past, rows

if TYPE_CHECKING:
    from starlette.testclient import TestClient

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def past(config: Config) -> Config:
    make_past(config, NOW)
    return config


def test_the_graph_is_drawn_with_links_to_pages_and_listed(past: Config, browser: TestClient) -> None:
    html = browser.get("/graph").text

    assert html.count('<g class="box function') == 6
    assert 'href="/functions/reserve-stock"' in html
    assert 'href="/events?name=shop%2Forder"' in html
    assert in_order(html, "As a list", "shop/order", "starts", "reserve-stock")
    assert "every 15 minutes, UTC" in html


def test_a_graph_that_is_too_large_is_only_listed(past: Config, browser: TestClient) -> None:
    template = rows(past, "SELECT spec FROM function WHERE id = 'book-courier'")[0][0]
    for number in range(260):
        made = template.replace("book-courier", f"courier-{number}")
        rows(
            past,
            "INSERT INTO function (id, spec, loaded_at, is_present) VALUES (?, ?, 1, 1)",
            f"courier-{number}",
            made,
        )

    html = browser.get("/graph").text

    assert "too many to draw" in html
    assert '<g class="box function"' not in html.partition('id="as-list"')[2]
    assert "courier-259" in html


def test_without_functions_it_says_what_it_will_show(past: Config, browser: TestClient) -> None:
    rows(past, "UPDATE function SET is_present = 0")

    assert "Nothing to draw yet" in browser.get("/graph").text


def test_the_bars_of_the_chart_are_the_runs_of_the_time(past: Config, browser: TestClient) -> None:
    html = browser.get("/stats?since=all").text

    total, failed = rows(past, "SELECT count(*), sum(state = 'failed') FROM run")[0]
    titles = re.findall(r"<title>[^<]*: ([\d,]+) runs?, (\d+) failed</title>", html)
    assert sum(int(runs.replace(",", "")) for runs, _ in titles) == total
    assert sum(int(bad) for _, bad in titles) == failed
    assert in_order(html, "Throughput", "As a table", "Functions", "Errors", "Slowest steps")


def test_errors_lead_to_their_runs(past: Config, browser: TestClient) -> None:
    html = browser.get("/stats?since=all").text

    assert re.search(r'href="/runs\?function=[\w-]+&amp;q=[^"]+"', html)


@pytest.mark.parametrize(
    ("query", "status"), [("since=soon", 400), ("function=nothing", 404), ("since=7d", 200), ("since=1h", 200)]
)
def test_what_is_asked_for_is_checked(query: str, status: int, past: Config, browser: TestClient) -> None:
    assert browser.get(f"/stats?{query}").status_code == status


@pytest.mark.parametrize(
    ("highest", "axis"), [(0, (1, 1)), (1, (1, 1)), (5, (5, 1)), (6, (6, 2)), (11, (15, 5)), (357, (400, 100))]
)
def test_the_axis_has_a_few_round_numbers(highest: int, axis: tuple[int, int]) -> None:
    assert _scale(highest) == axis
