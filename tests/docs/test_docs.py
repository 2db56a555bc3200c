"""What the documentation shows is done: every page's code is executed, its commands are run, and what they print comes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, parts
from tests.docs.reading import Reader
from tests.docs.shell import Shell

NOT_RUN = {
    ("docs/tutorial.md", "the tests have it installed already"),
    ("docs/coming-from.md", "it needs another library, and a server"),
    ("docs/coming-from.md", "it needs another library, and a broker"),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Shell(tmp_path) as shell:
        Reader(page, tmp_path, shell).read()


def test_what_is_not_run_is_what_can_not_be() -> None:
    left_out = [each for page in PAGES for each in parts(page) if "not run" in each.said]
    assert {(str(each.page.relative_to(ROOT)), each.said["not run"]) for each in left_out} == NOT_RUN
    for each in left_out:
        if each.language == "python":
            ast.parse(each.text)
