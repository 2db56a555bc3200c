"""Functions run here alone, with the real engine, but without processes, or time that passes."""

from pathlib import Path

import pytest
from fanout.testing import run

from functions.documents import find_facts, index_document, index_section

TEXT = "# One\na b c\n\n# Two\nask me@example.com before 2026-01-31\n"


@pytest.fixture
def document(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "document.txt"
    path.write_text(TEXT, encoding="utf-8")
    return {"path": str(path)}


def test_each_section_is_a_run_of_its_own(document: dict[str, str]) -> None:
    result = run(index_document, data=document, functions=[index_section])

    assert result.output == {"One": 3, "Two": 4}


def test_the_index_waits_for_its_sections() -> None:
    sections = {"index-section": lambda data: {"title": data["title"], "words": 7}}
    result = run(index_document, data={"path": "any"}, steps={"find-titles": ["One", "Two"]}, functions=sections)

    assert result.output == {"One": 7, "Two": 7}


def test_facts_are_found(document: dict[str, str]) -> None:
    assert run(find_facts, data=document).output == {"emails": ["me@example.com"], "dates": ["2026-01-31"]}


def test_a_file_that_is_not_there_is_not_tried_again() -> None:
    result = run(find_facts, data={"path": "nowhere.txt"})

    assert result.state == "failed"
    assert {step.attempts for step in result.steps.values()} == {1}
