from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fanout import NonRetriableError
from functions.documents import (
    classify_document,
    extract_entities,
    find,
    pick_sentences,
    summarize_document,
    weigh_words,
)

if TYPE_CHECKING:
    from tests.functions.conftest import Runner

ROOT = Path(__file__).parents[2]
REPORT = {"path": str(ROOT / "functions" / "events" / "report.txt")}
SUMMARY = """\
Revenue for the third quarter was $18.4 million, an increase of 12 percent compared with the same quarter last year.
Sales in North America were flat at $6.1 million, because two large customers moved their orders to the fourth quarter.
For the fourth quarter the forecast is revenue between $19 million and $20 million.
"""
FUNCTIONS: list[Any] = [summarize_document, classify_document, extract_entities]


def written(text: str) -> str:
    Path("document.txt").write_text(text, encoding="utf-8")
    return "document.txt"


def test_the_report_is_summarized_in_its_own_sentences(run: Runner) -> None:
    assert run(summarize_document, REPORT) == {
        "summary": SUMMARY.splitlines(),
        "keywords": ["quarter", "revenue", "year", "orders", "third"],
    }
    assert run.steps == ["weigh-words", "pick-sentences"]


def test_the_report_is_a_report(run: Runner) -> None:
    assert run(classify_document, REPORT) == {
        "label": "report",
        "scores": {"invoice": 0.0, "contract": 0.034, "report": 0.966, "support": 0.0},
    }
    assert run.steps == ["score-labels"]


def test_the_reports_entities_are_found(run: Runner) -> None:
    assert run(extract_entities, REPORT) == {
        "dates": [
            "14 October 2025",
            "8 July 2025",
            "September 1, 2025",
            "2025-12-15",
            "30 September 2025",
            "20 November 2025",
            "2026-03-12",
            "February 5, 2026",
        ],
        "money": [
            "$18.4 million",
            "€7.2 million",
            "€1,150,000",
            "$6.1 million",
            "2,900,000 USD",
            "$11.9 million",
            "$2.3 million",
            "$310,000",
            "$9.7 million",
            "£2.5 million",
            "$19 million",
            "$20 million",
        ],
        "emails": ["investors@northwind.example", "press@northwind.example"],
        "urls": ["https://northwind.example/reports/2025-q3"],
        "names": [
            "Northwind Instruments",
            "Helena Brandt",
            "North America",
            "Marcus Oyelaran",
            "Calder Optics",
            "Tanaka Ceramics",
            "Priya Raman",
            "Tomas Lind",
        ],
    }
    assert run.steps == ["find-dates", "find-money", "find-emails", "find-urls", "find-names"]


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("dates", "On 1 May 2025, May 1, 2025 and 2025-05-01, not 2025-5-1 or 12025-05-01", 3),
        ("money", "$5, €1,000.50, £2 million and 30 EUR, not 40 or EUR alone", 4),
        ("emails", "to a.b+c@d-e.example, or x@y", 1),
        ("urls", "see (https://a.example/b?c=d), http://e.example. not ftp://f.example", 2),
        ("names", "The Berlin Office wrote to Zoë Kravets and\nÉmile\nZola. The Dog barked, Dog alone", 3),
    ],
)
def test_only_whole_entities_are_found(run: Runner, kind: str, text: str, found: int) -> None:
    assert len(find(written(text), kind)) == found


def test_an_entity_is_named_once_and_a_name_begins_after_the_sentences_first_word(run: Runner) -> None:
    assert find(written("The Berlin Office. Our Berlin Office.\n\nBerlin Office"), "names") == ["Berlin Office"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Invoice 7. Subtotal 90, VAT 10, total 100. Payment due in 30 days.", "invoice"),
        ("This agreement is governed by the law of Malta. Either party may end it at the end of the term.", "contract"),
        ("I cannot login, there is an error. Please help!", "support"),
        ("Once upon a time there was a fox.", "unknown"),
    ],
)
def test_the_words_of_a_document_give_its_label(run: Runner, text: str, label: str) -> None:
    assert run(classify_document, {"path": written(text)})["label"] == label


def test_a_summary_keeps_the_order_of_the_text_and_leaves_headlines_out(run: Runner) -> None:
    path = written("Fox fox fox fox\n\nThe fox ran. Rain fell.\nA fox saw the fox! Was it a fox? Snow. Night came.")

    assert pick_sentences(path, weigh_words(path)) == ["The fox ran.", "A fox saw the fox!", "Was it a fox?"]


def test_an_empty_document_has_an_empty_result(run: Runner) -> None:
    data = {"path": written("")}

    assert run(summarize_document, data) == {"summary": [], "keywords": []}
    assert run(classify_document, data)["label"] == "unknown"
    assert run(extract_entities, data) == {"dates": [], "money": [], "emails": [], "urls": [], "names": []}


def test_a_long_document_leaves_small_results(run: Runner) -> None:
    data = {"path": written("".join(f"On 1 May {year} Ann Bee paid ${year}. " for year in range(1000, 9000)))}

    assert all(len(json.dumps(run(function, data))) < 5_000 for function in FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("path", ["missing.txt", "."])
def test_a_file_that_is_not_there_is_named(run: Runner, function: Any, path: str) -> None:
    with pytest.raises(NonRetriableError) as raised:
        run(function, {"path": path})
    assert str(raised.value) == f"there is no file `{path}` in `{Path.cwd()}`"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_file_that_is_not_text_is_named(run: Runner, function: Any) -> None:
    Path("scan.pdf").write_bytes(b"%PDF-1.7 \xff\xfe")

    with pytest.raises(NonRetriableError) as raised:
        run(function, {"path": "scan.pdf"})
    assert str(raised.value) == "`scan.pdf` is not UTF-8 text"


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("data", [{}, {"path": ""}, {"path": 7}])
def test_an_event_without_a_path_fails_at_once(run: Runner, function: Any, data: dict[str, Any]) -> None:
    with pytest.raises(NonRetriableError) as raised:
        run(function, data)
    assert str(raised.value) == f"`data.path` has to be a file's path, not {data.get('path')!r}"
    assert run.steps == []


def test_the_event_in_the_folder_names_the_report(run: Runner) -> None:
    event = json.loads((ROOT / "functions" / "events" / "document.json").read_text())

    assert event == {"name": "document/uploaded", "data": {"path": "functions/events/report.txt"}}
    assert (ROOT / event["data"]["path"]).samefile(REPORT["path"])
