"""The list of runs, and the page of one, as somebody uses them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Page, expect

from tests.acceptance.conftest import until
from tests.browser.conftest import Site
from tests.browser.looking import assert_accessible, assert_fits


def place_order(site: Site, **data: Any) -> None:
    """Its runs are there, and are at work."""
    done = site.fanout("send", "--name", "shop/order.placed", "--data", json.dumps(data), "--no-wait", "--json")
    assert done.returncode == 0, done.stderr
    (event,) = json.loads(done.stdout)["events"]

    def is_routed() -> bool:
        with urlopen(f"{site.url}/api/events/{event['id']}") as answer:
            return bool(json.load(answer)["is_routed"])

    until(is_routed, "its runs are there")


def open_run(page: Page, site: Site, function: str) -> None:
    """The newest run of it."""
    page.goto(f"{site.url}/runs?function={function}")
    page.locator("a.row-link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(function)
    page.wait_for_load_state()  # Its keys work from then on.


def test_a_run_appears_without_a_reload_and_its_state_goes_on(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/runs")
    page.evaluate("window.isTheSamePage = true")
    place_order(site, user="ada")
    row = page.locator("tr[data-row]").filter(has_text="bill").first
    expect(row).to_have_attribute("data-state", "failed")
    expect(row).to_contain_text("<script>alert(1)</script>")
    expect(page.locator("tr[data-row]").filter(has_text="pack").first).to_have_attribute("data-state", "completed")
    assert page.evaluate("window.isTheSamePage") is True


def test_filters_search_and_keys(page: Page, site: Site) -> None:
    place_order(site, user="ada")
    page.goto(f"{site.url}/runs")
    page.get_by_role("link", name=re.compile("^failed")).click()
    expect(page.locator("tr[data-row]").first).to_contain_text("bill")
    assert page.locator("tr[data-row]:not([data-state=failed])").count() == 0
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("no such thing was ever said")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No such runs")).to_be_visible()
    page.goto(f"{site.url}/runs")
    page.get_by_label("Function", exact=True).select_option("pack")
    expect(page).to_have_url(re.compile("function=pack"))
    expect(page.locator("tr[data-row]").first).to_contain_text("pack")
    page.wait_for_load_state()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("pack")
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page).to_have_url(f"{site.url}/events")


def test_a_failed_run_is_explained_and_replayed_from_its_page(page: Page, site: Site) -> None:
    place_order(site, user="ada", items=3)
    open_run(page, site, "bill")
    expect(page.locator("details.step")).to_have_count(2)
    step = page.locator("details.step[data-step=charge]")
    step.locator("> summary").click()
    expect(step).to_contain_text("the card was refused")
    expect(step).to_contain_text("shop.py")
    expect(page.get_by_role("region", name="Data of the event")).to_contain_text('"items": 3')
    (site.root / "card").touch()
    page.keyboard.press("r")
    page.get_by_role("button", name="Replay", exact=True).press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("bill")
    expect(page.locator(".run-head")).to_have_attribute("data-state", "completed")
    expect(page.get_by_role("region", name="Output of the run")).to_contain_text("10 EUR")
    (site.root / "card").unlink()


def test_again_from_a_step_after_a_look_at_the_plan(page: Page, site: Site) -> None:
    (site.root / "card").touch()
    place_order(site, user="ada")
    open_run(page, site, "bill")
    expect(page.locator(".run-head")).to_have_attribute("data-state", "completed")
    step = page.locator("details.step[data-step=charge]")
    step.locator("> summary").click()
    step.get_by_role("link", name="Run again from here").click()
    plan = page.locator("[data-plan]")
    expect(plan).to_contain_text("price")
    expect(plan).to_contain_text("charge")
    page.get_by_role("button", name="Run it again from here").click()
    expect(page.locator(".run-head")).to_have_attribute("data-state", "completed")
    expect(page.get_by_text("Replay of")).to_be_visible()
    (site.root / "card").unlink()


def test_a_waiting_run_says_why_shows_its_log_as_it_comes_and_is_cancelled(page: Page, site: Site) -> None:
    place_order(site, slow=True)
    open_run(page, site, "wait-for-review")
    expect(page.locator(".run-head")).to_have_attribute("data-state", "waiting")
    expect(page.get_by_text("shop/reviewed").first).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("look 2")
    page.keyboard.press("c")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".run-head")).to_have_attribute("data-state", "cancelled")


def test_what_functions_print_is_shown_as_text(page: Page, site: Site) -> None:
    place_order(site, user="</pre><script>alert(2)</script>")
    open_run(page, site, "pack")
    expect(page.get_by_role("log")).to_contain_text("<b>three boxes</b>")
    expect(page.get_by_role("region", name="Data of the event")).to_contain_text("</pre><script>alert(2)</script>")


def test_the_pages_are_accessible_and_fit_a_narrow_screen(page: Page, site: Site) -> None:
    place_order(site, slow=True)
    for address in ("/runs", "/runs?function=nobody"):
        page.goto(site.url + address)
        assert_accessible(page)
        assert_fits(page)
    for function in ("bill", "wait-for-review"):
        open_run(page, site, function)
        for step in page.locator("details.step").all():
            step.locator("> summary").click()
        assert_accessible(page)
        assert_fits(page)


def test_it_works_without_scripts(site: Site, browser: Any) -> None:
    place_order(site, slow=True)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    open_run(page, site, "wait-for-review")
    page.locator("details#cancel summary").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("wait-for-review")

    def is_cancelled() -> bool:
        page.reload()
        return bool(page.locator(".run-head").get_attribute("data-state") == "cancelled")

    until(is_cancelled, "the engine has come to it")
    context.close()
