"""Figures of a stretch of time: as they are read, and as they are printed."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from fanout.commands import stats_page
from fanout.journal.statistics import Attempts, Lateness, Percentiles, Statistics
from fanout.model import CronTrigger, RunState
from fanout.views import statistics, words
from tests.unit.filled import NOW, Filled, filled, run_id
from tests.unit.specs import add_tick

MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    """Two hours with an order a minute, of which every tenth fails at once; an old run; a child that fails."""
    with filled(tmp_path) as made:
        made.event(1)
        made.run(1, "old", 1, queued_at=NOW - 48 * HOUR, started_at=NOW - 48 * HOUR, ended_at=NOW - 47 * HOUR)
        for key in range(2, 122):
            at = NOW - 122 * MINUTE + key * MINUTE
            made.event(key, received_at=at)
            state = "completed" if key % 10 else "failed"
            made.run(key, "order", key, state, queued_at=at, started_at=at + key, ended_at=at + key + 100 * key)
            made.step(key, "charge", state, started_at=at, ended_at=at + 10 * key, attempts=2 if key == 3 else 1)
            made.step(key, "charge#2", started_at=at, ended_at=at + 10 * key, position=1)
            made.step(key, "nap", kind="sleep", started_at=at, ended_at=at + HOUR, position=2)
            if not key % 10:
                made.insert("failure", run=key, step="charge", attempt=0, type="CardError", traceback="", at=at,
                            message=f"[red]declined\x1b[2J\n  order {key}")  # fmt: skip
                made.insert("failure", run=key, step="", attempt=0, type="StepError", traceback="", at=at + 1,
                            message=f"step `charge` failed: CardError: [red]declined\x1b[2J\n  order {key}")  # fmt: skip
        made.insert("failure", run=3, step="charge", attempt=0, type="OSError", message="", traceback="", at=NOW)
        add_tick(made, 122, "nightly", CronTrigger("@daily"), NOW - MINUTE, queued_at=NOW, started_at=NOW, crashes=1)
        yield made


def read(journal: Filled, since: int | None, function: str | None = None, slices: int = 24) -> Statistics:
    with journal.reader() as reader:
        return reader.statistics(since, NOW, function, most_slices=slices)


def page(found: Statistics, width: int, function: str | None = None, *, is_all: bool = False) -> str:
    file = io.StringIO()
    out = Console(file=file, width=width, highlight=False, markup=False, emoji=False, force_terminal=True,
                  color_system=None, _environ={})  # fmt: skip
    stats_page.print_page(out, found, function, is_all=is_all)
    return file.getvalue()


def test_figures_of_a_day(journal: Filled) -> None:
    found = read(journal, NOW - 24 * HOUR)
    assert found.counts == {RunState.COMPLETED: 109, RunState.FAILED: 12}
    assert (found.throughput.slice_ms, found.throughput.runs[-3:], found.throughput.failed[-3:]) == (
        HOUR, (0, 60, 61), (0, 6, 6),
    )  # fmt: skip
    [order, nightly] = found.functions
    assert (order.function, order.took, order.queued) == ("order", Percentiles(6_100, 11_500), Percentiles(61, 115))
    assert (order.last_run, order.last_state, nightly.function) == (run_id(121), RunState.COMPLETED, "nightly")
    assert [(step.step, step.number, step.took) for step in found.steps] == [("charge", 240, Percentiles(610, 1_150))]
    assert [(each.type, each.message, each.number, each.last_run) for each in found.errors] == [
        ("CardError", "[red]declined\x1b[2J", 12, run_id(120)), ("OSError", "", 1, run_id(3)),
    ]  # fmt: skip
    assert (found.attempts, found.cron) == (Attempts(13, 1, 1), Lateness(1, Percentiles(MINUTE, MINUTE)))
    assert found.are_all_runs_timed
    assert found.are_all_failures_counted


def test_figures_of_functions_alone_are_the_same(journal: Filled) -> None:
    with journal.reader() as reader:
        assert reader.function_figures_since(NOW - 24 * HOUR) == read(journal, NOW - 24 * HOUR).functions
        assert reader.function_figures_since(0) == read(journal, None).functions


def test_figures_of_one_function_and_of_all_time(journal: Filled) -> None:
    old = read(journal, None, "old")
    assert (old.since, old.counts, old.errors, old.cron.ticks) == (NOW - 48 * HOUR, {RunState.COMPLETED: 1}, (), 0)
    assert sum(read(journal, None).throughput.runs) == 122
    nobody = read(journal, None, "nobody")
    assert (nobody.counts, nobody.functions, nobody.steps) == ({}, (), ())


def test_an_empty_journal(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        found = read(made, None)
    assert (found.since, found.counts, found.throughput.runs) == (NOW, {}, (0,))
    assert page(found, 80, is_all=True) == "0 runs in all\n"


PAGE = """\
121 runs since 2025-10-08 08:53:20, 5 an hour
✓ 109 completed  ✗ 12 failed

runs                            ██  up to 61/h
failed                          ██  up to 6/h
          10-08 08:53  10-09 08:53

function  runs  failed    p50     p95  queued p95
order      120   10.0%  6.1 s  11.5 s      115 ms
nightly      1       -   9 ms    9 ms        0 ms

slowest steps  function  times     p50    p95
charge         order       240  610 ms  1.1 s

errors                          times  last                 function  run
CardError: [red]declined\\x1b[…     12  2025-10-09 08:51:20  order     0000000120
OSError                             1  2025-10-09 08:53:20  order     0000000003

attempts  13 failed, 1 tried again
crashes   1: a worker died of a run
cron      1 tick, began 1 m 0 s late (p50), 1 m 0 s (p95)
"""


def test_the_page_at_80_columns(journal: Filled) -> None:
    assert page(read(journal, NOW - 24 * HOUR), 80) == PAGE


def test_no_line_of_a_table_is_wider_than_the_terminal(journal: Filled) -> None:
    lines = page(read(journal, NOW - 24 * HOUR, slices=22), 50).splitlines()
    assert [line for line in lines[3:-3] if len(line) > 50] == []
    assert "order      120   10.0%  6.1 s  11.5 s      115 ms" in lines


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 9, "-"),
        (9, 9, "100%"),
        (1, 1_000_000, "<0.01%"),
        (1, 1_000, "0.10%"),
        (1, 8, "12.5%"),
        (99_999, 100_000, "99.9%"),
    ],
)
def test_a_share_never_looks_like_nothing_nor_like_all(part: int, whole: int, expected: str) -> None:
    assert words.percent(part, whole) == expected


def test_json_has_stable_keys(journal: Filled) -> None:
    value = statistics.as_json(read(journal, NOW - 24 * HOUR), None)
    assert list(value) == [
        "function", "since", "until", "counts", "throughput", "functions", "steps", "timed_runs", "are_all_runs_timed",
        "errors", "failures", "are_all_failures_counted", "attempts", "cron",
    ]  # fmt: skip
    assert list(value["functions"][0]) == [
        "function", "counts", "took", "queued", "last_at", "last_run", "last_state",
    ]  # fmt: skip
    assert value["steps"] == [
        {"function": "order", "step": "charge", "count": 240, "took": {"p50": 610, "p95": 1_150}}
    ]  # fmt: skip
    assert value["counts"] == {"completed": 109, "failed": 12}
