"""What a page keeps while it is open: its theme, its focus, what was typed; and who may open it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site, make_project, serving
from tests.browser.looking import assert_accessible, assert_fits

TOKEN = "a-token-of-the-tests-only"
LONG = "shop/" + "a-name-that-does-not-end-" * 6
ODD_IDS = ("a/b/c%2F", "100% ?q=1&x=2", "#part<b>", "ünï/漢字", "x" * 200)


def send(site: Site, name: str, *, id_: str | None = None) -> None:
    event = {"name": name, "data": {}} | ({} if id_ is None else {"id": id_})
    path = site.root / "event.json"
    path.write_text(json.dumps(event))
    done = site.fanout("send", "event.json", "--no-wait")
    assert done.returncode == 0, done.stderr


def web_process(site: Site) -> int:
    """The pid of the process in which the pages are made."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in said.splitlines()]
    [pid] = [int(pid) for pid, parent, args in rows if int(parent) == site.process.pid and "fanout.web" in args]
    return pid


def test_the_theme_that_was_chosen_stays(page: Page, site: Site) -> None:
    root = page.locator("html")
    page.goto(f"{site.url}/runs")
    page.get_by_role("button", name="Change the theme").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.keyboard.press("t")
    expect(root).to_have_attribute("data-theme", "dark")
    page.goto(f"{site.url}/stats")
    expect(root).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).colorScheme || getComputedStyle(document.documentElement).colorScheme") == "dark"  # fmt: skip
    page.keyboard.press("t")
    expect(root).not_to_have_attribute("data-theme", re.compile("."))


def test_focus_typed_text_and_open_parts_outlive_what_changes(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/functions/add")
    page.get_by_label("Data, a JSON object").fill('{"a": 1')
    page.locator("details#pause summary").click()
    page.locator("details#pause").get_by_role("button", name="Pause").focus()
    assert site.fanout("invoke", "add", "--data", '{"a": 1, "b": 2}', "--json").returncode == 0
    expect(page.locator("tr[data-row]").first).to_contain_text("completed")
    expect(page.get_by_label("Data, a JSON object")).to_have_value('{"a": 1')
    expect(page.locator("details#pause").get_by_role("button", name="Pause")).to_be_focused()
    page.goto(f"{site.url}/runs")
    page.locator("tr[data-row]").first.wait_for()
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.closest('tr').id")
    assert site.fanout("invoke", "add", "--data", '{"a": 1, "b": 2}', "--json").returncode == 0
    expect(page.locator("tr[data-row]").first).not_to_have_attribute("id", focused)
    assert page.evaluate("document.activeElement.closest('tr').id") == focused


def test_a_page_survives_the_end_of_the_web_process(browser: Browser, site: Site) -> None:
    # Not the page that minds complaints: the browser has one of a stream that ends so.
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/runs")
    page.locator("html[data-live=on]").wait_for()
    page.evaluate("""() => {
        const root = document.documentElement, engine = document.getElementById("engine");
        const write = () => { root.dataset.said = (root.dataset.said ?? "") + engine.innerText.trim() + ";"; };
        new MutationObserver(write).observe(root, { attributeFilter: ["data-live"] });
    }""")
    os.kill(web_process(site), signal.SIGKILL)
    # Kept on the page itself: it is the same one all the time.
    expect(page.locator("html")).to_have_attribute("data-said", re.compile("^reconnecting….*;engine running;$"))
    assert site.fanout("invoke", "add", "--data", '{"a": 20, "b": 2}', "--json").returncode == 0
    expect(page.locator("tr[data-row]").first).to_contain_text("add")
    expect(page.locator("html")).to_have_attribute("data-said", re.compile("reconnecting"))
    context.close()


def test_more_windows_than_a_browser_has_connections(browser: Browser, site: Site) -> None:
    context = browser.new_context()
    pages = [context.new_page() for _ in range(8)]
    for page in pages:
        page.goto(f"{site.url}/runs")
        page.locator("html[data-live=on]").wait_for()
    for left in (pages, pages[1:]):
        # The first has listened for all; when it is closed, another does.
        done = site.fanout("invoke", "add", "--data", '{"a": 1, "b": 2}', "--json")
        run = json.loads(done.stdout)["runs"][0]["id"]
        for page in left:
            expect(page.locator("tr[data-row]").first).to_contain_text(run[-6:])
        pages[0].close()
    context.close()


def test_events_are_found_by_any_id_and_names_of_any_length_fit(page: Page, site: Site) -> None:
    for id_ in ODD_IDS:
        send(site, "shop/odd", id_=id_)
    send(site, LONG)
    page.goto(f"{site.url}/events?name=shop/odd")
    rows = page.locator("a.row-link")
    expect(rows).to_have_count(len(ODD_IDS))
    links = [link.get_attribute("href") for link in rows.all()]
    assert sorted(map(str, links)) == sorted(f"/events/{quote(id_)}" for id_ in ODD_IDS)
    for link in links:
        page.goto(f"{site.url}{link}")
        expect(page.get_by_role("heading", level=1)).to_have_text("shop/odd")
        page.get_by_role("link", name="Trace").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("shop/odd")
    for address in ("/events", f"/events?name={LONG[:20]}", f"/runs?event={LONG}", f"/send?name={LONG}", "/graph"):
        page.goto(site.url + address)
        assert_fits(page)


def test_narrow_and_dark_without_motion(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.emulate_media(reduced_motion="reduce")
    for address in ("/runs", "/functions/bill", "/stats", "/send"):
        page.goto(site.url + address)
        assert_accessible(page)
        assert (
            page.evaluate("document.getAnimations().filter((each) => each.effect.getTiming().duration > 10).length")
            == 0
        )


def test_every_part_of_a_page_is_reached_by_the_keyboard(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/send")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("shop/by.keyboard")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Data, a JSON object")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.fixture(scope="module")
def locked_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = make_project(tmp_path_factory.mktemp("locked"))
    yield from serving(root, FANOUT_TOKEN=TOKEN)


def test_a_token_in_the_address_opens_the_pages_and_leaves_it(browser: Browser, locked_site: Site) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"{locked_site.url}/runs")
    assert answer is not None
    assert answer.status == 401
    page.goto(f"{locked_site.url}/runs?token={TOKEN}")
    expect(page).to_have_url(f"{locked_site.url}/runs")
    [cookie] = context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert "token" not in page.evaluate("document.cookie")
    page.locator("html[data-live=on]").wait_for()
    assert locked_site.fanout("invoke", "add", "--data", '{"a": 1, "b": 2}', "--json").returncode == 0
    expect(page.locator("tr[data-row]").first).to_contain_text("add")
    context.close()


def test_the_first_page_says_what_to_do_first(page: Page, tmp_path: Path) -> None:
    for site in serving(make_project(tmp_path / "new")):
        page.goto(site.url)
        expect(page.get_by_role("heading", level=2).first).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        page.get_by_role("link", name=re.compile("Send")).first.click()
        expect(page.get_by_label("Name")).to_be_visible()
