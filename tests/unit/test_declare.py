from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from types import FunctionType
from typing import Any

import pytest

import fanout
from fanout.attached import ATTRIBUTE, spec_of
from fanout.declare import MAX_NAME_BYTES, cron, on
from fanout.errors import LoadError
from fanout.model import Backoff, Catchup, ConcurrencyRule, CronTrigger, EventTrigger, FunctionSpec, Overlap

SIGNUP = on("app/user.signup")
PRINTABLE = "has to be text that can be printed, not"
DELAYS = "delays are seconds, from 0 to 366 days"
USE_ON = 'write `trigger=fanout.on("app/user.signup")`'


def send_welcome_email(ctx: object) -> str:
    """A user's function."""
    return f"sent {ctx}"


HERE = f"`{__file__}` line {send_welcome_email.__code__.co_firstlineno}: `send_welcome_email`"


def copy_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function anew, at the same line, without what was attached to it."""
    assert isinstance(fn, FunctionType)
    return FunctionType(fn.__code__, fn.__globals__, fn.__name__)


def declared(*args: Any, **kwargs: Any) -> FunctionSpec:
    spec = spec_of(fanout.function(*args, **kwargs)(copy_of(send_welcome_email)))
    assert spec is not None
    return spec


def refusal(*args: Any, **kwargs: Any) -> tuple[str, str | None]:
    with pytest.raises(LoadError) as raised:
        declared(*args, **kwargs)
    return raised.value.message, raised.value.hint


def test_everything_has_a_default() -> None:
    assert declared() == FunctionSpec(
        id="send-welcome-email",
        name="send-welcome-email",
        module=__name__,
        qualname="send_welcome_email",
        file=__file__,
        line=send_welcome_email.__code__.co_firstlineno,
        is_async=False,
        triggers=(),
        retries=4,
        backoff=None,
    )


def test_everything_can_be_said() -> None:
    spec = declared(
        [SIGNUP, on("app/*")], id="welcome", name="Welcome, éva", retries=0, backoff=Backoff(initial=1, jitter=2)
    )
    assert (spec.id, spec.name, spec.triggers, spec.retries, spec.max_attempts, spec.backoff) == (
        "welcome",
        "Welcome, éva",
        (EventTrigger("app/user.signup"), EventTrigger("app/*")),
        0,
        1,
        Backoff(initial=1, factor=2.0, maximum=7200.0, jitter=2),
    )


def test_underscores_around_a_name_are_not_part_of_the_id() -> None:
    def __private_one_(_: object) -> None: ...

    spec = spec_of(fanout.function()(__private_one_))
    assert spec is not None
    assert (spec.id, spec.name) == ("private-one", "private-one")


def test_the_name_is_the_id_if_only_that_is_given() -> None:
    assert (declared(id="welcome").id, declared(id="welcome").name) == ("welcome", "welcome")


def test_the_function_is_the_same_object_and_does_the_same() -> None:
    original = copy_of(send_welcome_email)
    before = dict(vars(original))
    result = fanout.function(trigger=SIGNUP)(original)
    assert result is original
    assert result("x") == "sent x"
    assert {name: value for name, value in vars(result).items() if name != ATTRIBUTE} == before


def test_an_async_function_is_known_as_one_and_stays_one() -> None:
    @fanout.function(trigger=SIGNUP)
    async def fetch(number: Any) -> int:
        return int(number) + 1

    spec = spec_of(fetch)
    assert spec is not None
    assert (spec.is_async, spec.qualname) == (
        True, "test_an_async_function_is_known_as_one_and_stays_one.<locals>.fetch",
    )  # fmt: skip
    assert asyncio.run(fetch(1)) == 2


def test_the_line_is_that_of_the_first_decorator() -> None:
    line = test_the_line_is_that_of_the_first_decorator.__code__.co_firstlineno + 3

    @fanout.function()
    def one(_: object) -> None: ...

    spec = spec_of(one)
    assert spec is not None
    assert spec.line == line


class Sly:
    def __getattr__(self, name: str) -> object:
        return declared()


@pytest.mark.parametrize("value", [None, 1, "x", send_welcome_email, FunctionSpec, Sly(), fanout, print])
def test_nothing_else_has_a_spec(value: object) -> None:
    assert spec_of(value) is None


# Triggers.


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (None, ()),
        ([], ()),
        (SIGNUP, (SIGNUP,)),
        ([SIGNUP], (SIGNUP,)),
        ((SIGNUP, on("*")), (SIGNUP, EventTrigger("*"))),
        ([on(f"a/{number}") for number in range(10)], tuple(EventTrigger(f"a/{number}") for number in range(10))),
    ],
)
def test_one_trigger_several_or_none(trigger: Any, expected: tuple[EventTrigger, ...]) -> None:
    assert declared(trigger).triggers == expected


@pytest.mark.parametrize("name", ["a", "app/user.signup", "app/*", "*", "app/user.*", "ä/日本", "x" * MAX_NAME_BYTES])
def test_names_that_events_can_have(name: str) -> None:
    assert on(name) == EventTrigger(name)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("", f"an event name {PRINTABLE} ''", None),
        (5, f"an event name {PRINTABLE} 5", None),
        (None, f"an event name {PRINTABLE} None", None),
        ("a\nb", f"an event name {PRINTABLE} 'a\\nb'", None),
        ("\ud800", f"an event name {PRINTABLE} '\\ud800'", None),
        ("é" * 129, "an event name has 258 bytes, at most 256 can be", None),
        ("*/a", "`*/a`: only the tail of an event name can be open", "write it as `app/*`"),
        ("a/*/b", "`a/*/b`: only the tail of an event name can be open", "write it as `app/*`"),
        ("a/**", "`a/**`: only the tail of an event name can be open", "write it as `app/*`"),
    ],
)
def test_names_that_no_event_can_have_are_refused_where_they_are_written(
    name: Any, message: str, hint: str | None
) -> None:
    with pytest.raises(LoadError) as raised:
        on(name)
    line = raised.traceback[0].lineno + 1
    assert (raised.value.message, raised.value.hint) == (f"`{__file__}` line {line}: {message}", hint)


def refused_here(call: Callable[[], object]) -> tuple[str, str | None]:
    """What a trigger says of itself, without the place where it is written: that is here."""
    with pytest.raises(LoadError) as raised:
        call()
    place, _, message = raised.value.message.partition(": ")
    assert place.startswith(f"`{__file__}` line ")
    return message, raised.value.hint


def test_a_trigger_may_have_a_condition() -> None:
    assert on("a", if_="event.data.n > 1") == EventTrigger("a", "event.data.n > 1")
    assert declared(on("a", "true")).triggers == (EventTrigger("a", "true"),)


def test_a_condition_that_is_no_expression_is_refused_where_it_is_written() -> None:
    assert refused_here(lambda: on("a", 5)) == (  # type: ignore[arg-type]
        "`if_` has to be a CEL expression, not 5",
        None,
    )
    message, _ = refused_here(lambda: on("a", "event.data."))
    assert message.startswith("`if_`: ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (cron("0 9 * * mon-fri"), CronTrigger("0 9 * * mon-fri", "UTC", 0)),
        (cron("@daily", "Europe/Berlin"), CronTrigger("@daily", "Europe/Berlin", 0)),
        (cron("H * * * *", jitter="90s"), CronTrigger("H * * * *", "UTC", 90_000)),
        (cron("*/5 * * * * *", jitter=timedelta(milliseconds=20)), CronTrigger("*/5 * * * * *", "UTC", 20)),
    ],
)
def test_schedules(given: CronTrigger, expected: CronTrigger) -> None:
    assert given == expected
    assert declared([SIGNUP, given]).triggers == (SIGNUP, expected)


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "0 0 31 2 *", "@nightly"])
def test_a_schedule_that_can_not_be_is_refused_where_it_is_written(expression: str) -> None:
    message, _ = refused_here(lambda: cron(expression))
    assert message


def test_a_zone_or_a_jitter_that_can_not_be_is_refused_where_it_is_written() -> None:
    assert "Mars/Olympus" in refused_here(lambda: cron("@daily", "Mars/Olympus"))[0]
    assert refused_here(lambda: cron("@daily", jitter=0)) == (
        "`jitter` is 0",
        "write more than nothing, and up to 366 days",
    )


def test_what_becomes_of_ticks_that_are_missed_or_overlap() -> None:
    spec = declared(cron("@daily"))
    assert (spec.catchup, spec.catchup_limit, spec.overlap) == (Catchup.LATEST, 100, Overlap.SKIP)
    spec = declared(cron("@daily"), catchup="all", catchup_limit=10_000, overlap="cancel")
    assert (spec.catchup, spec.catchup_limit, spec.overlap) == (Catchup.ALL, 10_000, Overlap.CANCEL)
    assert [declared(catchup=str(each)).catchup for each in Catchup] == list(Catchup)
    assert [declared(overlap=str(each)).overlap for each in Overlap] == list(Overlap)


def test_a_plain_number_is_a_limit_of_concurrency() -> None:
    assert declared(concurrency=3).flow.concurrency == (ConcurrencyRule(3),)


# Values that can't be: each names the function's file and line.


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"trigger": "app/user.signup"}, "`trigger` is 'app/user.signup'", USE_ON),
        ({"trigger": 5}, "`trigger` is 5", USE_ON),
        ({"trigger": [SIGNUP, "app/x"]}, "`trigger` is 'app/x'", USE_ON),
        ({"trigger": {"name": "app/x"}}, "`trigger` is {'name': 'app/x'}", USE_ON),
        ({"trigger": [SIGNUP] * 11}, "it has 11 triggers, at most 10 can be", None),
        ({"id": ""}, f"an id {PRINTABLE} ''", None),
        ({"id": 5}, f"an id {PRINTABLE} 5", None),
        ({"id": "a\tb"}, f"an id {PRINTABLE} 'a\\tb'", None),
        ({"id": "x" * 257}, "an id has 257 bytes, at most 256 can be", None),
        ({"id": "a b"}, "the id `a b` has a space, `/` or `*` in it", "use letters, digits and dashes"),
        ({"id": "app/b"}, "the id `app/b` has a space, `/` or `*` in it", "use letters, digits and dashes"),
        ({"id": "a*"}, "the id `a*` has a space, `/` or `*` in it", "use letters, digits and dashes"),
        ({"name": 5}, f"a name {PRINTABLE} 5", None),
        ({"name": ""}, f"a name {PRINTABLE} ''", None),
        ({"name": "a\nb"}, f"a name {PRINTABLE} 'a\\nb'", None),
        ({"retries": -1}, "`retries` is -1, not a whole number from 0 to 20", None),
        ({"retries": 21}, "`retries` is 21, not a whole number from 0 to 20", None),
        ({"retries": 2.0}, "`retries` is 2.0, not a whole number from 0 to 20", None),
        ({"retries": True}, "`retries` is True, not a whole number from 0 to 20", None),
        ({"retries": "3"}, "`retries` is '3', not a whole number from 0 to 20", None),
        ({"retries": None}, "`retries` is None, not a whole number from 0 to 20", None),
        ({"concurrency": 0}, "`limit` of `concurrency` is 0, not a whole number from 1 to 1,000,000", None),
        ({"catchup": "some"}, '`catchup` is \'some\', not one of "latest", "none", "all"', None),
        ({"catchup": None}, '`catchup` is None, not one of "latest", "none", "all"', None),
        ({"catchup_limit": 0}, "`catchup_limit` is 0, not a whole number from 1 to 10,000", None),
        ({"catchup_limit": 10_001}, "`catchup_limit` is 10001, not a whole number from 1 to 10,000", None),
        ({"catchup_limit": True}, "`catchup_limit` is True, not a whole number from 1 to 10,000", None),
        ({"overlap": "wait"}, '`overlap` is \'wait\', not one of "skip", "queue", "cancel"', None),
        ({"backoff": []}, "`backoff` is an empty list", "leave it out for the default delays"),
        ({"backoff": [1, -1]}, "`backoff` has the delay -1", DELAYS),
        ({"backoff": [math.nan]}, "`backoff` has the delay nan", DELAYS),
        ({"backoff": [math.inf]}, "`backoff` has the delay inf", DELAYS),
        ({"backoff": [True]}, "`backoff` has the delay True", DELAYS),
        ({"backoff": ["5s"]}, "`backoff` has the delay '5s'", DELAYS),
        ({"backoff": [timedelta(days=367)]}, "`backoff` has the delay 31708800.0", DELAYS),
        ({"backoff": [timedelta(seconds=-1)]}, "`backoff` has the delay -1.0", DELAYS),
        ({"backoff": Backoff(initial=-1)}, "`backoff` has the delay -1", DELAYS),
        ({"backoff": Backoff(factor=math.nan)}, "`backoff` has the delay nan", DELAYS),
        ({"backoff": Backoff(maximum="1h")}, "`backoff` has the delay '1h'", DELAYS),  # type: ignore[arg-type]
        ({"backoff": 5}, "`backoff` is 5", "give a `Backoff`, or a list of delays in seconds"),
        ({"backoff": "5s"}, "`backoff` is '5s'", "give a `Backoff`, or a list of delays in seconds"),
        (
            {"backoff": timedelta(seconds=5)},
            "`backoff` is datetime.timedelta(seconds=5)",
            "give a `Backoff`, or a list of delays in seconds",
        ),
    ],
)
def test_a_value_that_cannot_be_names_the_function_its_file_and_line(
    arguments: dict[str, Any], message: str, hint: str | None
) -> None:
    assert refusal(**arguments) == (f"{HERE}: {message}", hint)


@pytest.mark.parametrize("retries", [0, 1, 20])
def test_retries_within_their_bounds(retries: int) -> None:
    assert (declared(retries=retries).retries, declared(retries=retries).max_attempts) == (retries, retries + 1)


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (None, None),
        ([5], (5,)),
        ((0, 1.5, timedelta(minutes=1)), (0, 1.5, 60.0)),
        ([366 * 24 * 3600], (31_622_400,)),
        (Backoff(), Backoff(15.0, 2.0, 7200.0, 0.0)),
        (Backoff(0, 0, 0, 0), Backoff(0, 0, 0, 0)),
    ],
)
def test_backoffs(backoff: Any, expected: object) -> None:
    assert declared(backoff=backoff).backoff == expected


def test_an_unknown_keyword_is_refused_by_python() -> None:
    with pytest.raises(TypeError):
        declared(retry=3)


# In the wrong place.


def test_missing_parentheses_are_told_with_what_to_write() -> None:
    with pytest.raises(LoadError) as raised:
        fanout.function(send_welcome_email)  # type: ignore[arg-type]
    assert (raised.value.message, raised.value.hint) == (
        HERE.removesuffix("`send_welcome_email`") + "`@fanout.function` needs parentheses",
        'write `@fanout.function(trigger=fanout.on("app/user.signup"))`',
    )


@pytest.mark.parametrize("target", [5, None, Opaque := type("Opaque", (), {}), staticmethod(send_welcome_email)])
def test_only_functions_can_be_declared(target: Any) -> None:
    with pytest.raises(LoadError) as raised:
        fanout.function(trigger=SIGNUP)(target)
    line = raised.traceback[0].lineno + 1
    assert (raised.value.message, raised.value.hint) == (
        f"`{__file__}` line {line}: `@fanout.function` is for functions, not for `{target!r}`",
        "put it directly above a `def` or `async def`",
    )
