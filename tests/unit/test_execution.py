from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fanout.errors import (
    EventError,
    ExpressionError,
    FanoutError,
    InvokeError,
    NonRetriableError,
    OutputError,
    RetryAfterError,
    StepError,
    UsageError,
)
from fanout.model import Failure, StepKind, StepState
from fanout.protocol import RecordedStep, RunCompleted, RunEvicted, RunFailed, StepRunning
from fanout.worker.branches import Branch, Inside, branch, fingerprint, inside
from fanout.worker.execution import Desk, Execution, Reached, now_ms, step_error
from fanout.worker.retrying import is_retriable
from tests.unit.executions import EVENT, Engine, executed, recorded

# Whether another attempt makes sense.


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(), SystemExit(1), KeyboardInterrupt(), FanoutError("x")])
def test_most_errors_are_tried_again_at_the_usual_time(error: BaseException) -> None:
    assert is_retriable(error) == (True, None)


class DeclinedError(NonRetriableError):
    """A user's own."""


@pytest.mark.parametrize(
    "error",
    [
        NonRetriableError("x"),
        DeclinedError("x"),
        OutputError("x"),
        UsageError("x"),
        EventError("x"),
        ExpressionError("x"),
        StepError("charge", "x", type="ValueError"),
        InvokeError("pay", "x", type="ValueError"),
    ],
)
def test_what_would_end_in_the_same_way_is_not_tried_again(error: BaseException) -> None:
    assert is_retriable(error) == (False, None)


@pytest.mark.parametrize(
    ("retry_after", "wait_ms"),
    [
        (90, 90_000),
        (1.5, 1_500),
        (0, 1_000),
        (-5, 1_000),
        (10**9, 86_400_000),
        (timedelta(minutes=2), 120_000),
        ("5m", 300_000),
        (datetime(2020, 1, 1, tzinfo=UTC), 1_000),
        ("soon", None),
        (None, None),
    ],
)
def test_code_may_say_when_within_a_second_and_a_day(retry_after: Any, wait_ms: int | None) -> None:
    assert is_retriable(RetryAfterError("busy", retry_after)) == (True, wait_ms)


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(ValueError()), (True, None)),
        (group(NonRetriableError("x"), ValueError()), (True, None)),
        (group(NonRetriableError("x"), UsageError("x")), (False, None)),
        (group(RetryAfterError("x", 5), RetryAfterError("y", 9), ValueError()), (True, 9_000)),
        (group(group(NonRetriableError("x")), group(group(RetryAfterError("x", 5)))), (True, 5_000)),
        (group(group(NonRetriableError("x"))), (False, None)),
    ],
)
def test_of_several_errors_one_that_may_pass_is_enough_and_the_longest_wait_counts(
    error: BaseException, expected: tuple[bool, int | None]
) -> None:
    assert is_retriable(error) == expected


# What a failed step raises.


@pytest.mark.parametrize(
    ("kind", "type_"), [(kind, InvokeError if kind in ("invoke", "map") else StepError) for kind in StepKind]
)
def test_a_failed_step_raises_what_was_recorded(kind: StepKind, type_: type[StepError]) -> None:
    error = step_error(recorded("pay#2", StepState.FAILED, kind=kind))
    assert (type(error), str(error)) == (type_, "step `pay#2` failed: shop.CardError: declined")
    assert (error.name, error.type, error.cause_message, error.traceback) == (
        "pay#2", "shop.CardError", "declined", "line 1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "failure", "message", "type_", "item"),
    [
        ("invoke", Failure("StepError", "step `charge` failed: CardError: no"), "CardError: no", "CardError", None),
        ("invoke", Failure("ValueError", "item 3: no"), "ValueError: item 3: no", "ValueError", None),
        ("map", Failure("ValueError", "item 3: no"), "ValueError: item 3: no", "ValueError", 3),
        (
            "map",
            Failure("StepError", "item 3: step `charge` failed: CardError: no"),
            "CardError: item 3: no",
            "CardError",
            3,
        ),
        ("map", Failure("LookupError", "there is none"), "LookupError: there is none", "LookupError", None),
    ],
)
def test_what_was_invoked_says_why_it_failed_and_not_which_steps_have_passed_it_on(
    kind: str, failure: Failure, message: str, type_: str, item: int | None
) -> None:
    error = step_error(RecordedStep("pay", "", StepState.FAILED, 1, None, failure, kind=StepKind(kind)))
    assert isinstance(error, InvokeError)
    assert (str(error), error.type, error.item) == (f"step `pay` failed: {message}", type_, item)


def test_a_failed_step_of_which_nothing_more_is_known_raises_too() -> None:
    error = step_error(RecordedStep("pay", "", StepState.FAILED, 1, None, None))
    assert (str(error), error.type, error.traceback) == ("step `pay` failed: Exception", "Exception", "")


def test_only_a_failed_step_raises_and_the_others_are_remembered(desk: Desk) -> None:
    steps = [recorded(state, state) for state in StepState]
    execution = executed(desk, *steps)
    for step in steps:
        if step.state is StepState.FAILED:
            with pytest.raises(StepError):
                execution.remembered(step.key)
        else:
            assert execution.remembered(step.key) is step
    assert execution.remembered("new") is None


# Which step a call is.


def test_steps_are_numbered_as_they_are_reached(execution: Execution) -> None:
    reached = [execution.reach(name) for name in ("charge", "mail", "charge")]
    assert reached == [Reached("charge", "", 1), Reached("mail", "", 2), Reached("charge#2", "", 3)]


def test_a_step_in_a_branch_is_known_by_the_code_and_the_path(execution: Execution) -> None:
    here = Branch(execution)
    branch.set(here)
    one, two = here.fork(), here.fork()
    code = fingerprint(executed.__code__)
    reached = [execution.reach("a")]
    for there in (two, one.fork(), two):
        branch.set(there)
        reached.append(execution.reach("a"))
    assert reached == [
        Reached("a", "", 1), Reached("a#2", f"{code}:2", 2), Reached("a#3", f"{code}:1.1", 3), Reached("a#4", f"{code}:2", 4),
    ]  # fmt: skip


def test_a_thread_of_the_users_own_and_one_of_another_execution_are_in_no_branch(
    desk: Desk, execution: Execution
) -> None:
    branch.set(None)
    assert execution.reach("a") == Reached("a", "", 1)
    other = Branch(executed(desk), "1")
    branch.set(other)
    assert execution.reach("a") == Reached("a#2", "", 2)


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("name", ["a", "charge card", "#", "a#b", "a#", "日本", "x" * 256, Name("a")])
def test_names_that_a_step_can_have(execution: Execution, name: str) -> None:
    key = execution.reach(name).key
    assert (key, type(key)) == (name, str)


@pytest.mark.parametrize("name", [None, 5, b"a", "", "a\nb", "\0", "x" * 257, "\ud800"])
def test_names_that_no_step_can_have(execution: Execution, name: Any) -> None:
    with pytest.raises(UsageError) as raised:
        execution.reach(name)
    assert str(raised.value) == f"a step's name has to be text of 1 to 256 printable characters, not {name!r}"


def test_a_name_that_looks_like_a_repeated_one_is_refused(execution: Execution) -> None:
    with pytest.raises(UsageError) as raised:
        execution.reach("charge#2")
    assert (raised.value.message, raised.value.hint) == (
        "the step name `charge#2` ends in `#` and a number",
        "repeated names are told apart so; leave it out",
    )


def test_a_step_inside_a_step_is_refused_but_not_inside_one_of_another_run(execution: Execution) -> None:
    inside.set(Inside(3, "outer"))
    for call, what in (
        (lambda: execution.reach("inner"), "step `inner`"),
        (lambda: execution.refuse_inside("`parallel`"), "`parallel`"),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert (raised.value.message, raised.value.hint) == (
            f"{what} is inside step `outer`",
            "call it after that step has returned; a step's own code is one piece of work",
        )
    inside.set(Inside(4, "outer"))
    assert execution.reach("inner") == Reached("inner", "", 1)


# How it ends.


def test_a_result_says_which_recorded_steps_were_not_reached(desk: Desk) -> None:
    execution = executed(desk, recorded("a"), recorded("a#2"), recorded("b"))
    execution.reach("a")
    assert execution.completed({"x": [1]}) == RunCompleted(3, '{"x":[1]}', ("a#2", "b"))


def test_a_result_that_is_not_json_is_a_failure_for_good(execution: Execution) -> None:
    message = "function `f` returned a `object` at `$.x`, which can't be recorded as JSON"
    assert execution.completed({"x": object()}) == RunFailed(3, Failure("OutputError", message), False, None)


def test_what_was_raised_is_the_failure_with_what_it_says_about_another_attempt(execution: Execution) -> None:
    ended = execution.raised(RetryAfterError("busy", 5))
    assert isinstance(ended, RunFailed)
    assert (ended.failure.type, ended.failure.message, ended.is_retriable, ended.retry_after_ms) == (
        "fanout.errors.RetryAfterError".rpartition(".")[2], "busy", True, 5_000,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [StepKind.RUN, StepKind.INVOKE])
def test_a_failed_step_that_nobody_caught_is_the_failure_with_the_traceback_of_its_cause(
    execution: Execution, kind: StepKind
) -> None:
    error = step_error(recorded("pay", StepState.FAILED, kind=kind))
    failure = Failure(type(error).__name__, "step `pay` failed: shop.CardError: declined", "line 1")
    assert execution.raised(error) == RunFailed(3, failure, False, None)


def test_one_that_has_left_has_no_result_whatever_the_function_then_does(execution: Execution) -> None:
    execution.has_left = True
    assert [execution.completed(1), execution.completed(object()), execution.raised(ValueError())] == [
        RunEvicted(3)
    ] * 3


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (EVENT, {"id": "01E", "name": "app/order", "ts": 5, "data": {"user_id": 7}}),
        (
            ("01E", "a", 5, "{}", '{"id":1}', "2"),
            {"id": "01E", "name": "a", "ts": 5, "data": {}, "user": {"id": 1}, "v": "2"},
        ),
    ],
)
def test_the_event_that_started_it_is_plain_data(desk: Desk, event: Any, said: dict[str, Any]) -> None:
    assert executed(desk, event=event).event() == said


# Steps that go on for a while.


def test_a_step_that_has_been_going_for_a_while_is_reported_once(desk: Desk, engine: Engine) -> None:
    old, new = StepRunning(3, "old", "", 1, now_ms() - 60_000), StepRunning(3, "new", "", 2, now_ms() + 60_000)
    desk.going.update({(3, "old"): old, (3, "new"): new})
    heard = []
    for _ in range(2):
        desk.report_going(250)
        heard.append(engine.heard(desk))
    assert heard == [[old], []]
    assert desk.going == {(3, "new"): new}
