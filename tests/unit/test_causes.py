"""Failures that steps and runs have passed on, and what lies at their bottom."""

from __future__ import annotations

import pytest

from fanout.core.causes import item_of, root_cause
from fanout.errors import InvokeError, StepError
from fanout.model import Failure


@pytest.mark.parametrize(
    ("type_", "message", "expected"),
    [
        ("ValueError", "no", "ValueError: no"),
        ("ValueError", "step `a` failed: KeyError: x", "ValueError: step `a` failed: KeyError: x"),
        ("StepError", "step `a` failed: ValueError: no", "ValueError: no"),
        ("StepError", "step `a` failed: ValueError", "ValueError"),
        ("StepError", "step `a` failed: shop.Cart.Error: no: really\nnot", "shop.Cart.Error: no: really\nnot"),
        ("StepError", "item 2: step `a` failed: ValueError: no", "ValueError: item 2: no"),
        ("StepError", "item 2: step `a` failed: ValueError", "ValueError: item 2: "),
        ("InvokeError", "step `b` failed: StepError: step `a` failed: ValueError: no", "ValueError: no"),
        (
            "InvokeError",
            "item 2: step `b` failed: StepError: item 3: step `a` failed: ValueError: no",
            "ValueError: item 2: item 3: no",
        ),
        ("InvokeError", "item 2: step `b` failed: ValueError: item 3: no", "ValueError: item 2: item 3: no"),
        ("StepError", "worded otherwise", "StepError: worded otherwise"),
    ],
)
def test_the_root_cause_is_what_no_step_has_passed_on(type_: str, message: str, expected: str) -> None:
    found = root_cause(Failure(type_, message, "a traceback"))
    assert (str(found), found.traceback) == (expected, "a traceback")


@pytest.mark.parametrize("name", ["a", "two words", "` failed", "x: y", "a#2"])
def test_it_is_found_in_what_our_own_errors_say(name: str) -> None:
    step = StepError(name, "no: really", type="shop.Error")
    invoke = InvokeError("outer", f"item 7: {step}", type="StepError")
    for error in (step, invoke):
        found = root_cause(Failure(type(error).__name__, str(error)))
        assert (found.type, found.message.removeprefix("item 7: ")) == ("shop.Error", "no: really")


@pytest.mark.parametrize(
    ("message", "item"), [("item 0: no", 0), ("item 41: item 2: no", 41), ("no item 3: x", None), ("item 3", None)]
)
def test_which_item_failed(message: str, item: int | None) -> None:
    assert item_of(Failure("ValueError", message)) == item
