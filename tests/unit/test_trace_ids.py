"""Ids of traces: computed from ours, as W3C Trace Context wants them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.trace_ids import (
    Origin,
    Remote,
    attempt_span,
    event_span,
    origin_of,
    parse,
    run_span,
    traceparent,
    with_parent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{SPAN}-01"
REMOTE = Remote(int(TRACE, 16), int(SPAN, 16), True)


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (SENT, True),
        (f" {SENT} ", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_what_a_header_says(text: str, is_sampled: bool) -> None:
    assert parse(text) == REMOTE._replace(is_sampled=is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        None, 7, "", "nonsense", SENT[:-1], SENT + "0", SENT + "-more", SENT.upper(),
        f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01.more", SENT.replace("4", "\u0664"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_as_good_as_nothing(text: object) -> None:
    assert parse(text) is None


def test_ids_are_the_same_for_the_same_and_others_for_others() -> None:
    spans = [
        run_span("R"), event_span("R", 1), event_span("R", 2), attempt_span("R", None, 0), attempt_span("R", None, 1),
        attempt_span("R", "pay", 0), attempt_span("R", "pay", 1), attempt_span("R", "pay#2", 0),
        attempt_span("S", "pay", 0),
    ]  # fmt: skip
    assert len(set(spans)) == len(spans)
    assert all(0 < span < 2**64 for span in spans)
    assert attempt_span("R", "pay", 1) == spans[6]
    assert origin_of("E", 1, None) != origin_of("E", 2, None) != origin_of("F", 2, None)


def test_they_are_never_others_than_they_were() -> None:
    """What one process has exported, a newer one is to find again: a second copy, on purpose."""
    origin = origin_of("01M7ZDWVA6CW5D5GDCNMKCTGRA", 1_795_277_385_700, None)
    assert (
        traceparent(origin, attempt_span("01M7ZDXVZ46TY91GA10QFTK4W5", "charge", 0))
        == "00-4e1d1ec3584e28b28a5d3ca27b08c5d1-ea56418ad2822d3d-01"
    )


def test_another_process_computes_the_same() -> None:
    code = "from fanout.core.trace_ids import *; print(origin_of('E', 1, None).trace, attempt_span('R', 'pay', 0))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert done.stdout.split() == [str(origin_of("E", 1, None).trace), str(attempt_span("R", "pay", 0))]


def test_an_event_has_the_trace_that_it_came_with() -> None:
    user = json.dumps({"id": 7, "traceparent": SENT, "tracestate": "a=b"})
    assert origin_of("E", 1, user) == Origin(REMOTE.trace, REMOTE.span, True, "a=b")
    for state in (7, "x" * 513, "a\nb", "\u00fc=1"):
        assert origin_of("E", 1, json.dumps({"traceparent": SENT, "tracestate": state})).state == ""


@pytest.mark.parametrize(
    "user", [None, "{}", '{"traceparent":"nonsense"}', '{"traceparent":null}', '{"a":"traceparent"}']
)
def test_or_one_of_its_own(user: str | None) -> None:
    origin = origin_of("E", 1, user)
    assert (origin.sender, origin.is_sampled, origin.state) == (None, True, "")
    assert origin.trace == origin_of("E", 1, None).trace


def test_an_event_is_given_a_parent_unless_it_has_one() -> None:
    assert json.loads(with_parent(None, SENT)) == {"traceparent": SENT}
    assert json.loads(with_parent('{"id":7,"tracestate":"old"}', SENT, "a=b")) == {
        "id": 7,
        "traceparent": SENT,
        "tracestate": "a=b",
    }
    assert json.loads(with_parent('{"traceparent":"nonsense"}', SENT)) == {"traceparent": SENT}
    given_one = json.dumps({"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert with_parent(given_one, SENT, "a=b") == given_one


@given(st.text(), st.integers(), st.text(), st.text(), st.integers(0, 20))
def test_whatever_ids_are_the_header_is_one(event: str, ts: int, run: str, step: str, number: int) -> None:
    origin = origin_of(event, ts, None)
    text = traceparent(origin, attempt_span(run, step, number))
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", text)
    assert parse(text) == Remote(origin.trace, attempt_span(run, step, number), True)


def test_large_texts_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            text = json.dumps({"n": number, "x": "x" * 100_000, "traceparent": SENT})
            assert origin_of("id", 0, text).trace == REMOTE.trace
            assert origin_of("id", 0, json.dumps({"n": number, "x": "x" * 100_000})).sender is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
