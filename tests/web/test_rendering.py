"""What every page says of times and values, and the scale of a run's chart."""

from __future__ import annotations

import pytest

from fanout.model import Run, RunState
from fanout.views import words
from fanout.web.pages import rendering
from fanout.web.pages.run_chart import chart, overview
from tests.unit.filled import NOW


@pytest.mark.parametrize(
    ("before_ms", "said"),
    [
        (0, "now"),
        (1_999, "now"),
        (2_000, "2 s ago"),
        (59_999, "59 s ago"),
        (60_000, "1 min ago"),
        (3_599_999, "59 min ago"),
        (3_600_000, "1 h ago"),
        (86_400_000, "1 d ago"),
        (-1_000, "now"),
        (-100_000, "in 2 min"),
        (-259_100_000, "in 3 d"),
    ],
)
def test_how_long_ago_it_was(monkeypatch: pytest.MonkeyPatch, before_ms: int, said: str) -> None:
    monkeypatch.setattr(words, "now", lambda: NOW)
    assert rendering.ago(NOW - before_ms) == said


def test_json_is_laid_out_in_colour_and_escaped() -> None:
    laid = rendering.laid_out('{"a\\"<":[1,-2.5e3,true,null,"<b>:"],"c":{}}')
    assert laid.html == (
        "{\n"
        '  <span class="k">&#34;a\\&#34;&lt;&#34;</span>: [\n'
        '    <span class="n">1</span>,\n'
        '    <span class="n">-2.5e3</span>,\n'
        '    <span class="c">true</span>,\n'
        '    <span class="c">null</span>,\n'
        '    <span class="s">&#34;&lt;b&gt;:&#34;</span>\n'
        "  ],\n"
        '  <span class="k">&#34;c&#34;</span>: {}\n'
        "}"
    )
    assert not laid.is_cut


def test_of_a_very_long_value_only_the_beginning_is_shown() -> None:
    laid = rendering.laid_out(f'["{"x" * 200_000}"]')
    assert laid.is_cut
    assert (laid.shown, laid.size) == ("100.0 KB", "200.0 KB")
    assert len(laid.html.striptags()) <= rendering.MOST_SHOWN


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("try `a <b>` now", 'try <code class="inline-code">a &lt;b&gt;</code> now'),
        ("`a` and `b`", '<code class="inline-code">a</code> and <code class="inline-code">b</code>'),
        ("one ` only <", "one ` only &lt;"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_names_in_our_own_words_stand_out(text: str, html: str) -> None:
    assert rendering.coded(text) == html


@pytest.mark.parametrize(
    ("took_ms", "labels"),
    [
        (1, ["0"]),
        (9, ["0", "2 ms", "4 ms", "6 ms", "8 ms"]),
        (4_100, ["0", "1 s", "2 s", "3 s"]),
        (60_000, ["0", "20 s", "40 s"]),
        (3_600_000 * 3, ["0", "1 h", "2 h"]),
        (86_400_000 * 30, ["0", "6 d", "12 d", "18 d", "24 d"]),
    ],
)
def test_the_scale_is_in_units_that_people_count_in(took_ms: int, labels: list[str]) -> None:
    run = run_of(took_ms)
    assert [mark.label for mark in chart(run, ()).marks] == labels


def test_a_bar_in_a_list_is_wider_by_as_much_for_each_tenfold_of_time() -> None:
    widths = [overview(run_of(10**power)) for power in range(7)]
    assert widths == ["3.0%", "15.3%", "30.5%", "45.8%", "61.0%", "76.3%", "91.5%"]
    assert overview(run_of(10**9)) == "100.0%"


def run_of(took_ms: int) -> Run:
    return Run(
        key=1, id="01", function="f", event_id="e", event_name="app/go", state=RunState.COMPLETED, reason=None,
        attempts=1, max_attempts=5, queued_at=NOW, due_at=None, started_at=NOW, ended_at=NOW + took_ms,
    )  # fmt: skip
