"""What the documentation shows is done: every page's code is executed, its commands are run, and what they print comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import HOMES, parts
from tests.docs.reading import LANGUAGES, Reader
from tests.docs.shell import Shell

READ_ELSEWHERE = {"README.md"}


@pytest.mark.parametrize("name", sorted(set(HOMES) - READ_ELSEWHERE))
def test_what_a_page_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Shell(tmp_path) as shell:
        Reader(HOMES[name], tmp_path, shell).read()


@pytest.mark.parametrize("name", sorted(set(HOMES) - READ_ELSEWHERE))
def test_a_page_says_of_each_block_what_it_is(name: str) -> None:
    assert [str(each) for each in parts(HOMES[name]) if each.language not in LANGUAGES and "file" not in each.said
            and "not run" not in each.said and each.language] == []  # fmt: skip
