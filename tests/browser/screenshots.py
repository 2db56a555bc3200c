"""Makes the pictures of the dashboard in the documentation, of a shop that has been busy for a day.

python -m tests.browser.screenshots docs
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.history import make
from tests.browser.conftest import CHROMIUM, FLAGS, Site, serving

RUNS = 6_000
WIDTH, HEIGHT = 1280, 800
ORDERS: tuple[dict[str, Any], ...] = (
    {"number": 1041, "customer": "Ada", "items": ["a cup", "a plate"], "to": ["Berlin", "Oslo"]},
    {"number": 1042, "customer": "Grace", "items": ["a lamp"], "fails": 9},
    {"number": 1043, "customer": "Alan", "items": ["a chair"], "to": ["Rome"], "fails": 1},
    {"number": 1044, "customer": "Edsger", "items": ["a table", "a rug"], "to": ["Lisbon", "the moon", "Paris"], "fails": 2},
    {"number": 1045, "customer": "Barbara", "items": ["a bowl"], "to": ["Vienna"]},
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-lcd-text"])
        for site in serving(_shop(Path(place) / "shop")):
            _take(browser, site, folder)
        browser.close()


def _shop(root: Path) -> Path:
    (root / ".fanout").mkdir(parents=True, mode=0o700)
    shutil.copy(Path(__file__).with_name("orders.py"), root / "orders.py")
    (root / "fanout.toml").write_text('[app]\nid = "shop"\nfunctions = ["orders"]\n\n[web]\nport = 0\n')
    make(root / ".fanout" / "journal.db", runs=RUNS, days=1)
    return root


def _take(browser: Browser, site: Site, folder: Path) -> None:
    _wait_for_quiet(site)
    for order in ORDERS:
        assert site.fanout("send", "--name", "shop/order", "--data", json.dumps(order), "--no-wait").returncode == 0
    run = _run(site, "ship-order", ORDERS[3]["number"])
    first = _run(site, "reserve-stock", ORDERS[3]["number"])
    # The newest is still at work when its picture is taken.
    assert site.fanout("send", "--name", "shop/order", "--data", json.dumps(ORDERS[0]), "--no-wait").returncode == 0
    for name, address, scheme in (
        ("runs-dark", "/runs", "dark"),
        ("run-light", f"/runs/{first}", "light"),
        ("trace", f"/trace/{run}", "dark"),
        ("graph", "/graph", "light"),
        ("stats", "/stats", "dark"),
    ):
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light" if scheme == "light" else "dark"
        )
        page = context.new_page()
        page.goto(site.url + address)
        expect(page.locator("html[data-live=on]")).to_be_attached()
        (folder / f"dashboard-{name}.png").write_bytes(page.screenshot())
        context.close()


def _wait_for_quiet(site: Site) -> None:
    """Until what the past has left over is done."""
    while any(_runs(site, "--status", state) for state in ("queued", "running")):
        time.sleep(0.2)


def _run(site: Site, function: str, number: int) -> str:
    """The run of it for this order, once it has ended."""
    while True:
        for run in _runs(site, "--function", function, "--status", "completed"):
            event = site.fanout("events", "show", run["event_id"], "--json").stdout
            if json.loads(event)["data"].get("number") == number:
                return str(run["id"])
        time.sleep(0.2)


def _runs(site: Site, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(site.fanout("runs", "--json", "--limit", "8", *arguments).stdout)["runs"]
    return found


if __name__ == "__main__":
    main()
