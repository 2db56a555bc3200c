"""What a function may say about the ends of its runs: what cancels them, how long they may take, who hears of a failure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import FunctionType
from typing import Any

import pytest

import fanout
from fanout import CancelOn, Timeouts
from fanout.attached import on_failure_of, spec_of
from fanout.errors import LoadError
from fanout.model import NO_LIMITS, CancelRule, FunctionSpec, TimeLimits

DELETED = CancelOn("app/user.deleted")
PRINTABLE = "has to be text that can be printed, not"
SPANS = "write more than nothing, and up to 366 days"
USE_CANCEL_ON = 'write `cancel_on=[fanout.CancelOn("app/user.deleted")]`'
USE_TIMEOUTS = 'write `timeouts=fanout.Timeouts(step="30s")`'
USE_FUNCTION = "give a `def` or `async def` that takes a context"


def charge_card(ctx: object) -> None:
    """A user's function."""


def refund(ctx: object) -> str:
    """What is run when it has failed."""
    return f"refunded {ctx}"


async def refund_later(ctx: object) -> None:
    """The same, as a task."""


HERE = f"`{__file__}` line {charge_card.__code__.co_firstlineno}: `charge_card`"


def fresh(**arguments: Any) -> Callable[..., Any]:
    """`charge_card` anew, at the same line, declared with these arguments."""
    assert isinstance(charge_card, FunctionType)
    made = FunctionType(charge_card.__code__, charge_card.__globals__, charge_card.__name__)
    return fanout.function(**arguments)(made)


def declared(**arguments: Any) -> FunctionSpec:
    spec = spec_of(fresh(**arguments))
    assert spec is not None
    return spec


def refusal(**arguments: Any) -> tuple[str, str | None]:
    with pytest.raises(LoadError) as raised:
        fresh(**arguments)
    return raised.value.message, raised.value.hint


# Events that cancel.


@pytest.mark.parametrize(
    ("cancel_on", "expected"),
    [
        ((), ()),
        ([], ()),
        (DELETED, (CancelRule("app/user.deleted"),)),
        ([DELETED], (CancelRule("app/user.deleted"),)),
        ((DELETED, CancelOn("b")), (CancelRule("app/user.deleted"), CancelRule("b"))),
        ([CancelOn(f"a/{number}") for number in range(5)], tuple(CancelRule(f"a/{number}") for number in range(5))),
        (CancelOn("a", match="data.user.id"), (CancelRule("a", match="data.user.id"),)),
        (
            CancelOn("a", if_="event.data.id == async.data.id", timeout="1h30m"),
            (CancelRule("a", if_="event.data.id == async.data.id", timeout_ms=5_400_000),),
        ),
        (CancelOn("a", timeout=0.0001), (CancelRule("a", timeout_ms=1),)),
        (CancelOn("a", timeout=timedelta(days=366)), (CancelRule("a", timeout_ms=31_622_400_000),)),
    ],
)
def test_one_event_cancels_several_or_none(cancel_on: Any, expected: tuple[CancelRule, ...]) -> None:
    assert declared(cancel_on=cancel_on).cancel_on == expected


@pytest.mark.parametrize(
    ("cancel_on", "message", "hint"),
    [
        ("app/user.deleted", "`cancel_on` has 'app/user.deleted'", USE_CANCEL_ON),
        (["app/user.deleted"], "`cancel_on` has 'app/user.deleted'", USE_CANCEL_ON),
        ([DELETED, None], "`cancel_on` has None", USE_CANCEL_ON),
        (None, "`cancel_on` has None", USE_CANCEL_ON),
        ({"event": "a"}, "`cancel_on` has {'event': 'a'}", USE_CANCEL_ON),
        ([DELETED] * 6, "`cancel_on` has 6 events, at most 5 can be", None),
        (CancelOn(""), f"the event of `cancel_on` {PRINTABLE} ''", None),
        (CancelOn(5), f"the event of `cancel_on` {PRINTABLE} 5", None),  # type: ignore[arg-type]
        (CancelOn("é" * 129), "the event of `cancel_on` has 258 bytes, at most 256 can be", None),
        (CancelOn("app/*"), "`cancel_on` has the event `app/*`: it has to be one event's whole name", None),
        (
            CancelOn("fanout/function.failed"),
            "`cancel_on` has the event `fanout/function.failed`: those of fanout itself cancel nothing",
            None,
        ),
        (CancelOn("a", match=""), f"`match` of `cancel_on` {PRINTABLE} ''", None),
        (CancelOn("a", match=5), f"`match` of `cancel_on` {PRINTABLE} 5", None),  # type: ignore[arg-type]
        (CancelOn("a", match="x" * 257), "`match` of `cancel_on` has 257 bytes, at most 256 can be", None),
        (CancelOn("a", if_=5), "`if_` of `cancel_on` has to be the text of an expression, not 5", None),  # type: ignore[arg-type]
        (
            CancelOn("a", if_="event.data.id ="),
            "`cancel_on`: `event.data.id =` is not a CEL expression: unexpected `=` (column 15)",
            None,
        ),
        (
            CancelOn("a", if_="run.id == 1"),
            (
                "`cancel_on`: `run.id == 1` is not a CEL expression: "
                "`run.id` is no variable, and no function of such arguments (column 4)"
            ),
            "its variables: `async`, `event`",
        ),
        (
            CancelOn("a", timeout="soon"),
            '`timeout` of `cancel_on`: "soon" is not a duration: write it like `500ms`, `30s` or `1h30m`',
            None,
        ),
        (CancelOn("a", timeout=0), "`timeout` of `cancel_on` is 0", SPANS),
        (CancelOn("a", timeout="367d"), "`timeout` of `cancel_on` is 367d", SPANS),
        (CancelOn("a", timeout=timedelta(seconds=-1)), "`timeout` of `cancel_on` is -1 day, 23:59:59", SPANS),
    ],
)
def test_what_cannot_cancel_is_named_with_the_function_its_file_and_line(
    cancel_on: Any, message: str, hint: str | None
) -> None:
    assert refusal(cancel_on=cancel_on) == (f"{HERE}: {message}", hint)


# Time limits.


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        (None, NO_LIMITS),
        (Timeouts(), NO_LIMITS),
        (Timeouts(start="1m"), TimeLimits(start_ms=60_000)),
        (Timeouts(finish=2.5), TimeLimits(finish_ms=2_500)),
        (Timeouts(step=timedelta(milliseconds=1)), TimeLimits(step_ms=1)),
        (Timeouts(step=1e-9), TimeLimits(step_ms=1)),
        (Timeouts("1d", "366d", "1h"), TimeLimits(86_400_000, 31_622_400_000, 3_600_000)),
    ],
)
def test_time_limits_are_kept_in_milliseconds(timeouts: Timeouts | None, expected: TimeLimits) -> None:
    assert declared(timeouts=timeouts).timeouts == expected


@pytest.mark.parametrize(
    ("timeouts", "message", "hint"),
    [
        ("30s", "`timeouts` is '30s'", USE_TIMEOUTS),
        (30, "`timeouts` is 30", USE_TIMEOUTS),
        ({"step": "30s"}, "`timeouts` is {'step': '30s'}", USE_TIMEOUTS),
        (("1s", "1s", "1s"), "`timeouts` is ('1s', '1s', '1s')", USE_TIMEOUTS),
        (Timeouts(start=0), "`start` of `timeouts` is 0", SPANS),
        (Timeouts(finish="0s"), "`finish` of `timeouts` is 0s", SPANS),
        (Timeouts(step=31_622_401), "`step` of `timeouts` is 31622401", SPANS),
        (Timeouts(step=-1), "`step` of `timeouts`: -1 is a negative duration", None),
        (
            Timeouts(step=True),
            "`step` of `timeouts`: True is not a duration: write seconds, or text like `1h30m`",
            None,
        ),
        (
            Timeouts(finish=[]),  # type: ignore[arg-type]
            "`finish` of `timeouts`: [] is not a duration: write seconds, or text like `1h30m`",
            None,
        ),
        (Timeouts(start=float("inf")), "`start` of `timeouts`: inf is not a finite duration", None),
        (
            Timeouts(start="1x"),
            '`start` of `timeouts`: "1x" is not a duration: write it like `500ms`, `30s` or `1h30m`',
            None,
        ),
    ],
)
def test_what_is_no_time_limit_is_named_with_the_function_its_file_and_line(
    timeouts: Any, message: str, hint: str | None
) -> None:
    assert refusal(timeouts=timeouts) == (f"{HERE}: {message}", hint)


# Who hears of a failure.


def test_without_on_failure_nothing_is_run() -> None:
    fn = fresh()
    assert (declared().on_failure, on_failure_of(fn)) == (None, None)


@pytest.mark.parametrize("handler", [refund, refund_later])
def test_a_handler_becomes_a_function_of_its_own_under_an_id_that_says_whose_it_is(
    handler: Callable[..., Any],
) -> None:
    fn = fresh(id="charge", retries=0, on_failure=handler)
    spec = spec_of(fn)
    assert spec is not None
    assert spec.on_failure == "charge-on-failure"
    assert on_failure_of(fn) == (
        FunctionSpec(
            id="charge-on-failure",
            name="charge-on-failure",
            module=__name__,
            qualname=handler.__name__,
            file=__file__,
            line=handler.__code__.co_firstlineno,
            is_async=handler is refund_later,
        ),
        handler,
    )
    assert spec_of(handler) is None


def test_a_handler_that_is_a_function_already_stays_what_it_is() -> None:
    @fanout.function(id="refunds", retries=9)
    def handler(ctx: object) -> None: ...

    fn = fresh(on_failure=handler)
    spec = spec_of(fn)
    assert spec is not None
    assert (spec.on_failure, on_failure_of(fn)) == ("refunds", (spec_of(handler), handler))


def test_the_function_and_its_handler_do_what_they_did() -> None:
    assert fresh(on_failure=refund)("x") is None
    assert refund("x") == "refunded x"


@pytest.mark.parametrize(
    ("handler", "message", "hint"),
    [
        ("refund", "`on_failure` is 'refund'", USE_FUNCTION),
        (5, "`on_failure` is 5", USE_FUNCTION),
        (print, "`on_failure` is <built-in function print>", USE_FUNCTION),
        (int, "`on_failure` is <class 'int'>", USE_FUNCTION),
    ],
)
def test_what_is_no_handler_is_named_with_the_function_its_file_and_line(
    handler: Any, message: str, hint: str | None
) -> None:
    assert refusal(on_failure=handler) == (f"{HERE}: {message}", hint)


@pytest.mark.parametrize("value", [None, 1, "x", refund, FunctionSpec, fanout, print, type("Sly", (), {})()])
def test_nothing_else_has_a_handler(value: object) -> None:
    assert on_failure_of(value) is None
