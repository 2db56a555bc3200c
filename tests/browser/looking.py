"""What every page has to stand: being looked at by axe, and by somebody with a narrow screen."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Page

SERIOUS = {"serious", "critical"}


def assert_accessible(page: Page) -> None:
    """No issue that axe calls serious or worse, in either theme."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        response: dict[str, Any] = Axe().run(page).response
        found += [
            f"{scheme}: {each['id']}: {each['help']}: {node['target']} {node['html'][:200]}"
            for each in response["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]
    page.emulate_media(color_scheme=None)
    assert found == []


def assert_fits(page: Page, width: int = 400) -> None:
    """Nothing of the page is wider than this; what has to be scrolls by itself."""
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if before is not None:
        page.set_viewport_size(before)
