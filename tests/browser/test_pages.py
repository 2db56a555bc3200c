"""Events, traces, functions, the graph, figures; sending, invoking, pausing, and replaying many."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.looking import assert_accessible, assert_fits


def send(site: Site, name: str, **data: Any) -> str:
    """The id of the event."""
    done = site.fanout("send", "--name", name, "--data", json.dumps(data), "--no-wait")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_event_is_sent_and_what_it_causes_appears(page: Page, site: Site) -> None:
    (site.root / "card").touch()
    page.goto(f"{site.url}/send")
    page.get_by_label("Name").fill("shop/order.placed")
    page.get_by_label("Data, a JSON object").fill('{"items": 2,')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Data, a JSON object")).to_have_value('{"items": 2,')
    page.get_by_label("Data, a JSON object").fill('{"items": 2}')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page).to_have_url(re.compile("/events/"))
    expect(page.get_by_role("heading", level=1)).to_have_text("shop/order.placed")
    expect(page.get_by_role("row", name=re.compile("bill.*completed"))).to_be_visible()
    expect(page.get_by_role("region", name="Data of the event")).to_contain_text('"items": 2')
    page.get_by_role("link", name="Trace").click()
    expect(page.locator("[data-row]").filter(has_text="shop/order.paid").first).to_be_visible()
    expect(page.locator("[data-row]").filter(has_text="thank").first).to_be_visible()
    assert_accessible(page)
    assert_fits(page)
    (site.root / "card").unlink()


def test_an_event_that_nobody_listens_to_is_said_to_be_so(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/send")
    page.get_by_label("Name").fill("shop/order.plased")
    page.get_by_label("Data, a JSON object").fill("{}")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody listens")
    page.get_by_role("button", name="Send it all the same").click()
    expect(page.get_by_text("Nobody listens").first).to_be_visible()
    page.goto(f"{site.url}/events?unheard=1")
    row = page.locator("[data-row]").filter(has_text="shop/order.plased").first
    expect(row).to_contain_text("nobody listens")
    expect(row).to_contain_text("shop/order.placed")


def test_events_with_markup_in_their_names_are_text(page: Page, site: Site) -> None:
    name = "<img src=x onerror=alert(1)>"
    event = send(site, name, text="<script>alert(2)</script>")
    page.on("dialog", lambda _dialog: pytest.fail("a script ran"))
    page.goto(f"{site.url}/events")
    expect(page.get_by_role("link", name=name).first).to_be_visible()
    for address in (f"/events/{event}", f"/trace/{event}"):
        page.goto(site.url + address)
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.goto(f"{site.url}/events/{event}")
    expect(page.get_by_role("region", name="Data of the event")).to_contain_text("<script>alert(2)</script>")


def test_a_function_is_invoked_paused_and_resumed(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/functions")
    page.get_by_role("link", name="add", exact=True).click()
    page.get_by_label("Data, a JSON object").fill('{"a": 2, "b": 40}')
    page.get_by_role("button", name="Invoke").click()
    asked = page.locator("#asked")
    expect(asked).to_contain_text("completed")
    asked.get_by_role("link").click()
    expect(page.get_by_role("region", name="Output of the run")).to_have_text("42")
    page.goto(f"{site.url}/functions/thank")
    page.locator("details#pause summary").click()
    page.locator("details#pause").get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused").first).to_be_visible()
    send(site, "shop/order.paid")
    expect(page.locator("tr[data-row]").filter(has_text="queued").first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("tr[data-row]").filter(has_text="completed").first).to_be_visible()


def test_a_schedule_shows_its_next_ticks_and_is_triggered(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/functions/report-weekly")
    expect(page.get_by_text("on Mondays at 09:00, Europe/Berlin").first).to_be_visible()
    assert page.locator("table.ticks tr").count() >= 3
    page.get_by_role("button", name="Trigger now").click()
    expect(page.locator("tr[data-row]").filter(has_text="completed").first).to_be_visible()


def test_many_are_replayed_after_a_look_at_the_plan(page: Page, site: Site) -> None:
    for number in range(3):
        send(site, "shop/order.placed", items=number)
    page.goto(f"{site.url}/runs?function=bill&state=failed")
    expect(page.locator("tr[data-row]").nth(2)).to_be_visible()
    page.get_by_role("link", name=re.compile("Replay failed")).click()
    expect(page.locator(".plan").first).to_contain_text("price")
    (site.root / "card").touch()
    page.get_by_role("button", name=re.compile(r"Replay \d+ runs")).click()
    expect(page).to_have_url(re.compile("request="))
    expect(page.get_by_text(re.compile("completed")).first).to_be_visible()
    assert_accessible(page)
    assert_fits(page)
    page.goto(f"{site.url}/runs?function=bill&state=completed")
    expect(page.locator("tr[data-row]").filter(has_text="replay").nth(2)).to_be_visible()
    (site.root / "card").unlink()
    page.goto(f"{site.url}/replay?function=bill&plan=1")
    expect(page.get_by_text("nothing to replay")).to_be_visible()


def test_the_graph_and_the_figures_lead_on(page: Page, site: Site) -> None:
    send(site, "shop/order.placed")
    page.goto(f"{site.url}/graph")
    page.locator("svg.graph a", has_text="bill").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("bill")
    page.goto(f"{site.url}/stats")
    expect(page.get_by_role("heading", name="Throughput")).to_be_visible()
    page.get_by_role("link", name="RuntimeError").first.click()
    expect(page.locator("tr[data-row]").first).to_contain_text("the card was refused")
    assert page.locator("tr[data-row]:not([data-state=failed])").count() == 0


def test_every_page_is_accessible_and_fits_a_narrow_screen(page: Page, site: Site) -> None:
    event = send(site, "shop/order.placed", slow=True)
    pages = ("/events", f"/events/{event}", "/functions", "/functions/bill", "/functions/report-weekly", "/graph",
             "/stats", "/send", "/replay?function=bill&plan=1", "/api")  # fmt: skip
    for address in pages:
        page.goto(site.url + address)
        assert_accessible(page)
        assert_fits(page)
