"""The dashboard in a real browser: the system's Chromium, headless, on the real `fanout serve`."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

COMMAND = str(Path(sys.executable).with_name("fanout"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FENCE_S = 30.0
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
CODE = Path(__file__).with_name("shop.py")
expect.set_options(timeout=FENCE_S * 1000)


class Site(NamedTuple):
    """A project, and the address at which `fanout serve` shows it."""

    root: Path
    url: str
    process: subprocess.Popen[str]

    def fanout(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments], cwd=self.root, capture_output=True, text=True, timeout=FENCE_S, check=False
        )


def make_project(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(CODE, root / "shop.py")
    (root / "fanout.toml").write_text(
        '[app]\nid = "shop"\nfunctions = ["shop"]\n\n[pool]\nprocesses = 2\n\n[web]\nport = 0\n'
    )
    return root


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = make_project(tmp_path_factory.mktemp("browser"))
    yield from serving(root)


def serving(root: Path, **given: str) -> Iterator[Site]:
    """`given`: variables of its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")} | given
    process = subprocess.Popen(
        [COMMAND, "serve"], cwd=root, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Site(root, _address(process), process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=FENCE_S)
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    fence, said = time.monotonic() + FENCE_S, ""
    while time.monotonic() < fence:
        if select.select([process.stderr], [], [], 0.2)[0]:
            line = process.stderr.readline()
            said += line
            if found := re.search(r"http://[\w.:\[\]]+", line):
                return found[0]
            assert line, f"`fanout serve` ended: {said}"
    raise AssertionError(f"no address in: {said}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "Chromium is needed: `apt-get install chromium`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if the browser has complained about anything by its end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(FENCE_S * 1000)
    page = context.new_page()
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # A form that is not right comes back with 422, which the browser finds worth a word.
        if message.type in ("error", "warning") and "status of 422" not in message.text:
            complaints.append(f"{message.type}: {message.text}")

    def on_response(response: Response) -> None:
        if response.status >= 500:
            complaints.append(f"{response.status} {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("response", on_response)
    yield page
    context.close()
    assert complaints == []
