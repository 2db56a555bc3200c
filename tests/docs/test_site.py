"""The pages make a site without a warning, and a browser that opens it asks nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

SETTINGS = ROOT / "docs" / "site" / "mkdocs.yml"


class Loaded(HTMLParser):
    """What a page has a browser load, and its pictures without words for those who can't see them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.without_words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        address = said.get("href" if tag == "link" else "src") or ""
        if tag in ("link", "script", "img", "iframe", "source") and address:
            self.addresses.append(address)
        if tag == "img" and not said.get("alt"):
            self.without_words.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(SETTINGS), "-d", str(folder)],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    built = {str(each.relative_to(site).with_suffix("")) for each in site.rglob("*.html")} - {"404"}
    pages = {str(each.relative_to(ROOT / "docs").with_suffix("")).replace("README", "index") for each in PAGES}
    assert built == pages


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert [each for each in loaded.addresses if "//" in each] == [], page.name
        # The theme would fetch what draws these from a CDN.
        assert 'class="mermaid"' not in page.read_text(), page.name
    for sheet in site.rglob("*.css"):
        assert re.findall(r"@import|url\(['\"]?(?:https?:)?//", sheet.read_text()) == [], sheet.name


def test_every_picture_says_what_it_shows(site: Path) -> None:
    without: list[str] = []
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        without += loaded.without_words
    assert without == []


def test_the_sign_is_that_of_the_dashboard() -> None:
    ours = SETTINGS.parent / "theme" / "assets" / "icon.svg"
    assert ours.read_bytes() == (ROOT / "cli" / "fanout" / "web" / "static" / "icon.svg").read_bytes()
