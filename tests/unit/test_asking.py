from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanout
from fanout.errors import EventError, ExpressionError, FanoutError, OutputError, UsageError
from fanout.model import Event, FunctionSpec
from fanout.protocol import EventWait, Invoke, SentEvent, Sleep, Start, StepWaits
from fanout.worker import asking
from fanout.worker.execution import Desk, Execution, Reached, now_ms
from fanout.worker.link import Link

DAY_S = 86_400
SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
NOT_A_DURATION = "is not a duration: write seconds, or text like `1h30m`"


@fanout.function(id="charge-card")
def charge(ctx: object) -> int:
    """A function to ask for."""
    return 1


@pytest.fixture
def execution() -> Iterator[Execution]:
    """Of a run that an event with all its fields started."""
    here, there = socket.socketpair()
    with closing(here), closing(there):
        event = ("01E", "app/order", 5, '{"user_id":7,"none":null}', '{"id":"ada"}', "2")
        yield Execution(Start(3, "01R", "f", 0, event), Desk(Link(here, idle_ms=250)), SPEC, None)


def refusal(call: Callable[..., Any], *args: Any) -> tuple[type[FanoutError], str, str | None]:
    with pytest.raises(FanoutError) as raised:
        call(*args)
    return type(raised.value), raised.value.message, raised.value.hint


# Durations.


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.25, 0.25),
        ("250ms", 0.25),
        ("1h30m", 5_400.0),
        ("90", 90.0),
        (timedelta(minutes=2), 120.0),
        (timedelta(0), 0.0),
        (timedelta(days=366), 366.0 * DAY_S),
        ("366d", 366.0 * DAY_S),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(duration: asking.Duration, seconds: float) -> None:
    assert asking.seconds_of("the duration", duration) == seconds


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        (-1, "the duration: -1 is a negative duration"),
        (timedelta(seconds=-1), "the duration is -1 s, and has to be from 0 to 366 days"),
        (True, f"the duration: True {NOT_A_DURATION}"),
        (None, f"the duration: None {NOT_A_DURATION}"),
        ([], f"the duration: [] {NOT_A_DURATION}"),
        ("soon", 'the duration: "soon" is not a duration: write it like `500ms`, `30s` or `1h30m`'),
        (math.nan, "the duration: nan is not a finite duration"),
        (math.inf, "the duration: inf is not a finite duration"),
        ("367d", "the duration is 31,708,800 s, and has to be from 0 to 366 days"),
        (timedelta(days=367), "the duration is 31,708,800 s, and has to be from 0 to 366 days"),
    ],
)
def test_what_is_no_duration_of_a_wait_is_refused(duration: Any, message: str) -> None:
    assert refusal(asking.seconds_of, "the duration", duration) == (UsageError, message, None)


@given(st.floats(0, 366 * DAY_S))
def test_a_wait_is_never_shorter_than_it_says_nor_longer_by_more_than_a_millisecond(duration: float) -> None:
    before = now_ms()
    due_at = asking.after("the duration", duration)
    assert before + duration * 1000 <= due_at <= now_ms() + duration * 1000 + 1


# Times.


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 31, 8, tzinfo=UTC),
        datetime(2026, 1, 31, 9, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 1, 31, 3, tzinfo=timezone(timedelta(hours=-5))),
        "2026-01-31T08:00:00Z",
        "2026-01-31T08:00:00+00:00",
        "2026-01-31 09:00+01:00",
        "20260131T080000Z",
    ],
)
def test_a_time_with_a_zone_is_the_same_moment_everywhere(moment: asking.Moment) -> None:
    assert asking.at("the time", moment) == 1_769_846_400_000


@pytest.fixture
def _in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_in_tokyo")
@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 1, 31, 17), 1_769_846_400_000),  # noqa: DTZ001 - that is what is tested
        ("2026-01-31T17:00", 1_769_846_400_000),
        ("2026-01-31", 1_769_846_400_000 - 17 * 3_600_000),
    ],
)
def test_a_time_without_a_zone_is_that_of_the_machine(moment: asking.Moment, expected: int) -> None:
    assert asking.at("the time", moment) == expected


def test_a_part_of_a_millisecond_is_waited_for_too() -> None:
    assert asking.at("the time", datetime(2026, 1, 31, 8, 0, 0, 500, tzinfo=UTC)) == 1_769_846_400_001


def test_a_past_time_is_no_mistake() -> None:
    assert asking.at("the time", datetime(1, 1, 1, tzinfo=UTC)) == -62_135_596_800_000


def test_a_time_may_be_up_to_366_days_away() -> None:
    latest = datetime.now(UTC).replace(microsecond=0) + timedelta(days=366)
    assert asking.at("the time", latest) == latest.timestamp() * 1000
    late = latest + timedelta(days=1)
    assert refusal(asking.at, "the time", late) == (
        UsageError,
        f"the time is {late.isoformat()}, more than 366 days from now",
        None,
    )


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        ("soon", "the time is 'soon', not a time such as `2027-01-31T09:00:00+01:00`"),
        ("09:00", "the time is '09:00', not a time such as `2027-01-31T09:00:00+01:00`"),
        ("", "the time is '', not a time such as `2027-01-31T09:00:00+01:00`"),
        (5, "the time has to be a datetime, or text such as `2027-01-31T09:00`, not 5"),
        (None, "the time has to be a datetime, or text such as `2027-01-31T09:00`, not None"),
        (
            date(2027, 1, 31),
            "the time has to be a datetime, or text such as `2027-01-31T09:00`, not datetime.date(2027, 1, 31)",
        ),
        (
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
            "the time is 9999-12-31T23:59:59.999999-12:00, which is no time in UTC",
        ),
        (
            datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
            "the time is 0001-01-01T00:00:00+12:00, which is no time in UTC",
        ),
        (datetime.min, "the time is 0001-01-01T00:00:00, which is no time in UTC"),  # noqa: DTZ901 - as above
    ],
)
def test_what_is_no_time_is_refused(moment: Any, message: str) -> None:
    assert refusal(asking.at, "the time", moment) == (UsageError, message, None)


# Waiting for an event.


def wait(
    execution: Execution, event: Any = "app/paid", timeout: Any = 0, match: Any = None, if_: Any = None
) -> EventWait:
    return asking.event_wait(execution, "paid", event, timeout, match, if_)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (None, None),
        ("data.user_id", ("data.user_id", "7")),
        ("user.id", ("user.id", '"ada"')),
        ("name", ("name", '"app/order"')),
        ("data", ("data", '{"none":null,"user_id":7}')),
        ("data.none", ("data.none", "null")),
        # Nothing has an empty text: this wait ends only when its time is over.
        ("data.missing", ("data.missing", "")),
    ],
)
def test_what_has_to_be_equal_is_looked_up_in_the_event_that_started_the_run(
    execution: Execution, match: str | None, expected: tuple[str, str] | None
) -> None:
    before = now_ms()
    made = wait(execution, timeout="1m", match=match)
    assert made == EventWait("app/paid", made.due_at, expected, None)
    assert before + 60_000 <= made.due_at <= now_ms() + 60_000


def test_an_expression_goes_along_as_it_is_written(execution: Execution) -> None:
    made = wait(execution, if_="async.data.id  == event.data.id")
    assert made == EventWait("app/paid", made.due_at, None, "async.data.id  == event.data.id")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": ""}, "step `paid`: `event` has to be the name of an event, not ''"),
        ({"event": 5}, "step `paid`: `event` has to be the name of an event, not 5"),
        ({"event": None}, "step `paid`: `event` has to be the name of an event, not None"),
        ({"event": "a\ud800"}, "step `paid`: `event` has to be the name of an event, not 'a\\ud800'"),
        ({"event": "app/*"}, "step `paid`: `event` has to be the name of an event, not 'app/*'"),
        ({"event": "fanout/x"}, "step `paid`: events that begin with `fanout/` can't be awaited"),
        ({"match": ""}, "step `paid`: `match` has to be a path such as `data.user_id`, not ''"),
        ({"match": 5}, "step `paid`: `match` has to be a path such as `data.user_id`, not 5"),
        ({"if_": 5}, "step `paid`: `if_` has to be the text of an expression, not 5"),
        ({"timeout": -1}, "step `paid`: `timeout`: -1 is a negative duration"),
        ({"timeout": None}, f"step `paid`: `timeout`: None {NOT_A_DURATION}"),
        ({"timeout": "367d"}, "step `paid`: `timeout` is 31,708,800 s, and has to be from 0 to 366 days"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(execution: Execution, arguments: dict[str, Any], message: str) -> None:
    assert refusal(lambda: wait(execution, **arguments)) == (UsageError, message, None)


def test_what_is_no_expression_is_refused(execution: Execution) -> None:
    assert refusal(lambda: wait(execution, if_="data.id == 1")) == (
        ExpressionError,
        (
            "`data.id == 1` is not a CEL expression: "
            "`data.id` is no variable, and no function of such arguments (column 5)"
        ),
        "its variables: `async`, `event`",
    )


def test_an_event_that_has_come_is_one_again() -> None:
    text = '{"id":"01E","name":"app/paid","ts":7,"data":{"a":[1]},"user":{"id":1},"v":"2"}'
    event = Event(id="01E", name="app/paid", ts=7, data={"a": [1]}, user={"id": 1}, v="2")
    assert asking.awaited_event(text) == event
    assert asking.awaited_event("null") is None


# Sending events.


def test_events_are_sent_with_ids_of_their_own_unless_they_have_one() -> None:
    given = {
        "name": "b",
        "id": "mine",
        "ts": 5,
        "data": {"at": datetime(2026, 1, 2, tzinfo=UTC)},
        "user": {"x": 1},
        "v": "2",
    }
    sent = asking.sent_events("notify", [{"name": "a"}, given, {"name": "a", "data": {}}])
    assert sent == (
        SentEvent(sent[0].id, False, "a", None, "{}", None, None),
        SentEvent("mine", True, "b", 5, '{"at":"2026-01-02T00:00:00Z"}', '{"x":1}', "2"),
        SentEvent(sent[2].id, False, "a", None, "{}", None, None),
    )
    assert ULID.fullmatch(sent[0].id)
    assert sent[0].id < sent[2].id


@pytest.mark.parametrize(
    ("events", "names"),
    [
        ([], []),
        ((), []),
        ({"name": "a"}, ["a"]),
        (({"name": "a"}, {"name": "b"}), ["a", "b"]),
        (({"name": name} for name in "abc"), ["a", "b", "c"]),
    ],
)
def test_one_event_is_sent_or_any_number_of_them(events: Any, names: list[str]) -> None:
    assert [each.name for each in asking.sent_events("notify", events)] == names


@pytest.mark.parametrize(
    ("events", "message", "hint"),
    [
        (
            [{"name": "a"}, {"nam": "b"}],
            "`step notify` event 2: field `nam` is not one that an event has",
            "did you mean `name`?",
        ),
        ({"name": ""}, "`step notify` event 1: field `name` is empty", None),
        (
            {"name": "fanout/function.failed"},
            "`step notify` event 1: field `name` begins with `fanout/`, as only fanout's own events do",
            None,
        ),
        ({"name": "a", "data": 5}, "`step notify` event 1: field `data` has to be an object, not 5", None),
        (
            "abc",
            '`step notify` event 1: the event has to be an object, not "a"',
            'an event is `{"name": "app/hello", "data": {}}`',
        ),
    ],
)
def test_an_event_that_cannot_be_is_named_by_its_number_and_none_is_sent(
    events: Any, message: str, hint: str | None
) -> None:
    assert refusal(asking.sent_events, "notify", events) == (EventError, message, hint)


def test_a_step_may_send_more_events_than_a_request_from_outside() -> None:
    many = [{"name": "a"}] * 50_000
    assert len(asking.sent_events("notify", many)) == 50_000
    assert refusal(asking.sent_events, "notify", [*many, {"name": "b"}]) == (
        EventError,
        "`step notify` has 50,001 events, at most 50,000 can be in one request",
        "split it, and send one part after another",
    )


def test_data_that_is_not_json_is_named_by_its_path() -> None:
    assert refusal(asking.sent_events, "notify", [{"name": "a"}, {"name": "b", "data": {"x": [object()]}}]) == (
        OutputError,
        "step `notify` sends a `object` at `$[1].data.x[0]`, which can't be recorded as JSON",
        "return plain data: numbers, text, lists, dicts, dataclasses, datetimes",
    )


# Asking for another function.


def test_a_function_is_asked_for_by_itself_or_by_its_id() -> None:
    assert asking.invoke("pay", charge, {"card": 1}, None) == Invoke("charge-card", '{"card":1}', None)
    assert asking.invoke("pay", "shop/charge-card", None, None) == Invoke("shop/charge-card", "{}", None)


def test_an_invoked_function_may_have_a_limit() -> None:
    before = now_ms()
    asked = asking.invoke("pay", charge, {}, "1h")
    assert asked.due_at is not None
    assert before + 3_600_000 <= asked.due_at <= now_ms() + 3_600_000


class Order(msgspec.Struct):
    number: int


@pytest.mark.parametrize("data", [{"number": 7}, Order(7)])
def test_whatever_is_an_object_in_json_can_be_an_invoked_functions_data(data: Any) -> None:
    assert asking.invoke("pay", charge, data, None).data == '{"number":7}'


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            (print, None, None),
            "step `pay`: <built-in function print> is no function of fanout",
            "give a function that has `@fanout.function(...)`, or the id of one",
        ),
        (
            ("a\ud800", None, None),
            "step `pay`: 'a\\ud800' is no function of fanout",
            "give a function that has `@fanout.function(...)`, or the id of one",
        ),
        (
            ("", None, None),
            "step `pay`: '' is no function of fanout",
            "give a function that has `@fanout.function(...)`, or the id of one",
        ),
        ((charge, [1], None), "step `pay`: `data` has to be an object, not `[1]`", None),
        ((charge, "x" * 99, None), f'step `pay`: `data` has to be an object, not `"{"x" * 59}`', None),
        (
            (charge, {}, "soon"),
            'step `pay`: `timeout`: "soon" is not a duration: write it like `500ms`, `30s` or `1h30m`',
            None,
        ),
    ],
)
def test_what_cannot_be_invoked_is_refused(
    arguments: tuple[Any, Mapping[str, Any] | None, Any], message: str, hint: str | None
) -> None:
    assert refusal(asking.invoke, "pay", *arguments) == (UsageError, message, hint)


def test_the_message_of_a_wait_says_which_step_of_which_execution_it_is(execution: Execution) -> None:
    before = now_ms()
    message = asking.waits(execution, Reached("nap#2", "c:1.2", 9), Sleep(5))
    assert message == StepWaits(3, "nap#2", "c:1.2", 9, message.started_at, Sleep(5))
    assert before <= message.started_at <= now_ms()
