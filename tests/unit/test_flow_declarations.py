from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core import flow as decisions
from fanout.errors import LoadError
from fanout.flow import (
    Batch,
    Concurrency,
    Debounce,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    milliseconds,
    rules_of,
)
from fanout.model import (
    MAX_BATCH_SIZE,
    MAX_LIMIT,
    NO_RULES,
    BatchRule,
    ConcurrencyRule,
    DebounceRule,
    FlowRules,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)

SPAN = "write more than nothing, and up to 366 days"
CEL = "write a CEL expression as text, such as `event.data.account`"
ACCOUNT = "event.data.account"
DAY_MS = 24 * 3600 * 1000


def refusal(**settings: Any) -> tuple[str, str | None]:
    with pytest.raises(LoadError) as raised:
        rules_of(**settings)
    return raised.value.message, raised.value.hint


def test_without_settings_there_are_no_rules() -> None:
    assert rules_of() is NO_RULES
    assert rules_of(concurrency=[]) is NO_RULES
    assert rules_of(concurrency=None) is NO_RULES
    assert FlowRules() == NO_RULES


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        ({"concurrency": 5}, FlowRules(concurrency=(ConcurrencyRule(5, None, "fn"),))),
        ({"concurrency": Concurrency(5)}, FlowRules(concurrency=(ConcurrencyRule(5, None, "fn"),))),
        (
            {"concurrency": [2, Concurrency(10, key='"openai"', scope="app")]},
            FlowRules(concurrency=(ConcurrencyRule(2, None, "fn"), ConcurrencyRule(10, '"openai"', "app"))),
        ),
        (
            {"concurrency": (Concurrency(2), Concurrency(1, key=ACCOUNT))},
            FlowRules(concurrency=(ConcurrencyRule(2, None, "fn"), ConcurrencyRule(1, ACCOUNT, "fn"))),
        ),
        (
            {"concurrency": [Concurrency(2), Concurrency(10, scope="app")]},
            FlowRules(concurrency=(ConcurrencyRule(2, None, "fn"), ConcurrencyRule(10, None, "app"))),
        ),
        ({"throttle": Throttle(7, "1s")}, FlowRules(throttle=ThrottleRule(7, 1_000, 1, None))),
        ({"throttle": Throttle(7, 0.5, 3, ACCOUNT)}, FlowRules(throttle=ThrottleRule(7, 500, 3, ACCOUNT))),
        ({"throttle": Throttle(1, "366d")}, FlowRules(throttle=ThrottleRule(1, 366 * DAY_MS, 1, None))),
        ({"throttle": Throttle(2, "366d", 2)}, FlowRules(throttle=ThrottleRule(2, 366 * DAY_MS, 2, None))),
        ({"rate_limit": RateLimit(10, "1h")}, FlowRules(rate_limit=RateLimitRule(10, 3_600_000, None))),
        (
            {"rate_limit": RateLimit(MAX_LIMIT, timedelta(days=366), ACCOUNT)},
            FlowRules(rate_limit=RateLimitRule(1_000_000, 366 * DAY_MS, ACCOUNT)),
        ),
        ({"debounce": Debounce(30)}, FlowRules(debounce=DebounceRule(30_000, None, None))),
        ({"debounce": Debounce("30s", ACCOUNT, "30s")}, FlowRules(debounce=DebounceRule(30_000, ACCOUNT, 30_000))),
        ({"debounce": Debounce(0.0001)}, FlowRules(debounce=DebounceRule(1, None, None))),
        ({"batch": Batch(1, "5s")}, FlowRules(batch=BatchRule(1, 5_000, None, None))),
        (
            {"batch": Batch(MAX_BATCH_SIZE, 5, ACCOUNT, "event.data.total > 5")},
            FlowRules(batch=BatchRule(1_000, 5_000, ACCOUNT, "event.data.total > 5")),
        ),
        ({"priority": Priority("event.data.urgent ? 120 : 0")}, FlowRules(priority="event.data.urgent ? 120 : 0")),
        ({"singleton": Singleton()}, FlowRules(singleton=SingletonRule(None, "skip"))),
        ({"singleton": Singleton(ACCOUNT, "cancel")}, FlowRules(singleton=SingletonRule(ACCOUNT, "cancel"))),
        ({"idempotency": "event.data.order"}, FlowRules(idempotency="event.data.order")),
    ],
)
def test_a_setting_becomes_a_rule_in_milliseconds(settings: dict[str, Any], rules: FlowRules) -> None:
    assert rules_of(**settings) == rules


def everything_but(*names: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "concurrency": Concurrency(5, key=ACCOUNT),
        "throttle": Throttle(7, "1s", key=ACCOUNT),
        "rate_limit": RateLimit(10, "1h", key=ACCOUNT),
        "debounce": Debounce("30s", key=ACCOUNT),
        "batch": Batch(10, "5s", key=ACCOUNT),
        "priority": Priority("event.data.urgent ? 120 : 0"),
        "singleton": Singleton(key=ACCOUNT),
        "idempotency": "event.data.order",
    }
    return {name: value for name, value in settings.items() if name not in names}


@pytest.mark.parametrize("left_out", [("batch",), ("debounce", "idempotency")])
def test_whatever_means_something_goes_together(left_out: tuple[str, ...]) -> None:
    settings = everything_but(*left_out)
    rules = rules_of(**settings)
    assert {name for name in FlowRules.__struct_fields__ if getattr(rules, name)} == set(settings)


def test_rules_survive_the_way_to_the_engine() -> None:
    for rules in (NO_RULES, rules_of(**everything_but("batch")), rules_of(**everything_but("debounce", "idempotency"))):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(rules), type=FlowRules) == rules
    assert msgspec.json.encode(NO_RULES) == b"{}"


# What can't be.


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"concurrency": True}, "`concurrency` has True", "write `concurrency=fanout.Concurrency(5)`, or just the 5"),
        ({"concurrency": "5"}, "`concurrency` has '5'", "write `concurrency=fanout.Concurrency(5)`, or just the 5"),
        ({"concurrency": [1, 2, 3]}, "`concurrency` has 3 limits, at most 2 can be", None),
        ({"throttle": 5}, "`throttle` is 5", 'write `throttle=fanout.Throttle(10, "1m")`'),
        (
            {"throttle": RateLimit(1, 1)},
            "`throttle` is RateLimit(limit=1, period=1, key=None)",
            'write `throttle=fanout.Throttle(10, "1m")`',
        ),
        ({"rate_limit": (1, 1)}, "`rate_limit` is (1, 1)", 'write `rate_limit=fanout.RateLimit(10, "1m")`'),
        ({"debounce": "30s"}, "`debounce` is '30s'", 'write `debounce=fanout.Debounce("30s")`'),
        ({"batch": 100}, "`batch` is 100", 'write `batch=fanout.Batch(100, "5s")`'),
        (
            {"priority": "120"},
            "`priority` is '120'",
            'write `priority=fanout.Priority("event.data.urgent ? 120 : 0")`',
        ),
        ({"singleton": True}, "`singleton` is True", 'write `singleton=fanout.Singleton(key="event.data.account")`'),
        ({"idempotency": 5}, "`idempotency` is 5", CEL),
        ({"throttle": False}, "`throttle` is False", 'write `throttle=fanout.Throttle(10, "1m")`'),
    ],
)
def test_a_value_of_another_kind_is_refused(settings: dict[str, Any], message: str, hint: str | None) -> None:
    assert refusal(**settings) == (message, hint)


@pytest.mark.parametrize("number", [0, -1, MAX_LIMIT + 1, 1.0, "1", True, None])
@pytest.mark.parametrize(
    ("setting", "kind", "rest"),
    [("concurrency", Concurrency, ()), ("throttle", Throttle, (1,)), ("rate_limit", RateLimit, (1,))],
)
def test_a_limit_is_a_whole_number(setting: str, kind: Any, rest: tuple[int, ...], number: Any) -> None:
    message = f"`limit` of `{setting}` is {number!r}, not a whole number from 1 to 1,000,000"
    assert refusal(**{setting: kind(number, *rest)}) == (message, None)


@pytest.mark.parametrize("number", [0, -1, 1_001, 1.0, True, None])
def test_a_batch_has_1_to_1000_events(number: Any) -> None:
    message = f"`max_size` of `batch` is {number!r}, not a whole number from 1 to 1,000"
    assert refusal(batch=Batch(number, "5s")) == (message, None)


@pytest.mark.parametrize(
    ("burst", "message", "hint"),
    [
        (0, "`burst` of `throttle` is 0, not a whole number from 1 to 1,000,000", None),
        (None, "`burst` of `throttle` is None, not a whole number from 1 to 1,000,000", None),
        (
            8_785,
            "`burst` of `throttle` is 8785: it would take 366 days of rest to have it again",
            "choose one that comes again within 366 days",
        ),
        (
            1_000_000,
            "`burst` of `throttle` is 1000000: it would take 41,666 days of rest to have it again",
            "choose one that comes again within 366 days",
        ),
    ],
)
def test_a_burst_has_to_come_again(burst: Any, message: str, hint: str | None) -> None:
    assert rules_of(throttle=Throttle(1, "1h", 8_784)).throttle == ThrottleRule(1, 3_600_000, 8_784)
    assert refusal(throttle=Throttle(1, "1h", burst)) == (message, hint)


@pytest.mark.parametrize(
    ("span", "message", "hint"),
    [
        (0, " is 0", SPAN),
        ("0s", " is 0s", SPAN),
        (timedelta(0), " is 0:00:00", SPAN),
        (timedelta(seconds=-1), " is -1 day, 23:59:59", SPAN),
        ("367d", " is 367d", SPAN),
        (366 * 86_400 + 0.001, " is 31622400.001", SPAN),
        (-1, ": -1 is a negative duration", None),
        ("soon", ': "soon" is not a duration: write it like `500ms`, `30s` or `1h30m`', None),
        (None, ": None is not a duration: write seconds, or text like `1h30m`", None),
        (True, ": True is not a duration: write seconds, or text like `1h30m`", None),
        (float("inf"), ": inf is not a finite duration", None),
    ],
)
@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("`period` of `throttle`", lambda span: {"throttle": Throttle(1, span)}),
        ("`period` of `rate_limit`", lambda span: {"rate_limit": RateLimit(1, span)}),
        ("`period` of `debounce`", lambda span: {"debounce": Debounce(span)}),
        ("`timeout` of `batch`", lambda span: {"batch": Batch(1, span)}),
    ],
)
def test_a_time_is_more_than_nothing_and_at_most_a_year(
    what: str, make: Any, span: Any, message: str, hint: str | None
) -> None:
    assert refusal(**make(span)) == (what + message, hint)


def test_the_bound_of_a_debounce_is_a_time_too() -> None:
    assert refusal(debounce=Debounce(1, timeout=0)) == ("`timeout` of `debounce` is 0", SPAN)
    assert refusal(debounce=Debounce("1m", timeout="30s")) == (
        "`timeout` of `debounce` is 30s, less than its `period`, which would never be waited for",
        "make `timeout` the longer one: it bounds how often the wait begins anew",
    )


@given(st.integers(1, 366 * DAY_MS))
def test_any_number_of_milliseconds_is_kept(number: int) -> None:
    assert milliseconds("it", timedelta(milliseconds=number)) == number
    assert milliseconds("it", f"{number}ms") == number
    assert milliseconds("it", number / 1000) == number


EXPRESSIONS = [
    ("`key` of `concurrency`", lambda source: {"concurrency": Concurrency(1, source)}),
    ("`key` of `throttle`", lambda source: {"throttle": Throttle(1, 1, 1, source)}),
    ("`key` of `rate_limit`", lambda source: {"rate_limit": RateLimit(1, 1, source)}),
    ("`key` of `debounce`", lambda source: {"debounce": Debounce(1, source)}),
    ("`key` of `batch`", lambda source: {"batch": Batch(1, 1, source)}),
    ("`if_` of `batch`", lambda source: {"batch": Batch(1, 1, None, source)}),
    ("`run` of `priority`", lambda source: {"priority": Priority(source)}),
    ("`key` of `singleton`", lambda source: {"singleton": Singleton(source)}),
    ("`idempotency`", lambda source: {"idempotency": source}),
]


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("", ": `` is not a CEL expression: unexpected end (column 1)", None),
        ("event.", ": `event.` is not a CEL expression: unexpected `.` (column 7)", None),
        ("1 +", ": `1 +` is not a CEL expression: unexpected end (column 4)", None),
        (
            "account",
            ": `account` is not a CEL expression: `account` is no variable, and no function of such arguments (column 1)",
            "its variables: `event`",
        ),
        (5, " is 5", CEL),
        (["event.id"], " is ['event.id']", CEL),
    ],
)
@pytest.mark.parametrize(("what", "make"), EXPRESSIONS)
def test_an_expression_is_checked_at_load(what: str, make: Any, source: Any, message: str, hint: str | None) -> None:
    assert refusal(**make(source)) == (what + message, hint)


def test_a_priority_has_to_say_something() -> None:
    assert refusal(priority=Priority(None)) == ("`run` of `priority` is None", CEL)  # type: ignore[arg-type]


def test_a_choice_is_one_of_its_words() -> None:
    assert refusal(concurrency=Concurrency(1, scope="env")) == (  # type: ignore[arg-type]
        "`scope` of `concurrency` is 'env', not `fn` or `app`", None,
    )  # fmt: skip
    assert refusal(singleton=Singleton(mode="replace")) == (  # type: ignore[arg-type]
        "`mode` of `singleton` is 'replace', not `skip` or `cancel`", None,
    )  # fmt: skip


# What can't go together.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Concurrency(5), 3),
        (Concurrency(5, ACCOUNT), Concurrency(5, ACCOUNT)),
        (Concurrency(5, scope="app"), Concurrency(3, scope="app")),
    ],
)
def test_of_two_limits_on_the_same_only_one_would_count(one: Any, other: Any) -> None:
    assert refusal(concurrency=[one, other]) == (
        "`concurrency` has two limits with the same key and scope: the larger can never be reached",
        "keep the smaller one",
    )


@pytest.mark.parametrize("key", [None, ACCOUNT])
def test_a_batch_is_not_judged_as_one_event(key: str | None) -> None:
    batch = Batch(10, "5s", key)
    assert refusal(batch=batch, debounce=Debounce("5s")) == (
        "`batch` and `debounce` can't go together: one keeps every event, the other only the newest",
        "leave one of them out",
    )
    assert refusal(batch=batch, idempotency="event.data.order") == (
        "`batch` and `idempotency` can't go together: each event of a batch has a key, and the run has one",
        "leave `idempotency` out; an event whose `id` has come before counts only once as it is",
    )


KEYED: list[tuple[str, Any]] = [
    ("concurrency", lambda key: Concurrency(1, key)),
    ("concurrency", lambda key: [5, Concurrency(1, key, "app")]),
    ("throttle", lambda key: Throttle(1, 1, 1, key)),
    ("rate_limit", lambda key: RateLimit(1, 1, key)),
    ("singleton", Singleton),
]


@pytest.mark.parametrize(("name", "make"), KEYED)
def test_the_events_of_a_batch_have_to_share_a_key(name: str, make: Any) -> None:
    assert refusal(batch=Batch(10, "5s"), **{name: make(ACCOUNT)}) == (
        f"`{name}` has a key and `batch` has none: the events of a batch may then have different keys",
        "give `batch` a key too, such as `key='event.data.account'`",
    )


@pytest.mark.parametrize(("batch_key", "key"), [(None, None), (None, '"openai"'), (ACCOUNT, ACCOUNT), (ACCOUNT, "5")])
@pytest.mark.parametrize(("name", "make"), KEYED[:1] + KEYED[2:])
def test_a_key_that_they_share_goes_with_a_batch(name: str, make: Any, batch_key: str | None, key: str | None) -> None:
    rules = rules_of(batch=Batch(10, "5s", batch_key), **{name: make(key)})
    assert rules.batch == BatchRule(10, 5_000, batch_key)
    assert getattr(rules, name)


def test_a_batch_key_may_be_finer_than_that_of_a_limit() -> None:
    batch = Batch(10, "5s", "[event.data.account, event.data.user]")
    assert rules_of(batch=batch, concurrency=Concurrency(1, ACCOUNT)).concurrency == (ConcurrencyRule(1, ACCOUNT),)


# What the parts promise each other.


def test_a_declared_rate_has_room_in_what_is_kept_of_it() -> None:
    rule = rules_of(throttle=Throttle(MAX_LIMIT, "366d", MAX_LIMIT)).throttle
    assert rule is not None
    tat = None
    for _ in range(10):
        verdict = decisions.throttle(tat, 8_000_000_000_000, rule)
        tat = verdict.tat
        assert (verdict.is_allowed, tat < 2**63) == (True, True)


def test_without_an_expression_no_cel_is_loaded() -> None:
    code = (
        "import sys; from fanout.flow import *; "
        "rules_of(concurrency=5, throttle=Throttle(1, 1), batch=Batch(5, 5), singleton=Singleton()); "
        "print([name for name in sys.modules if 'cel' in name or name == 'fanout.core.expressions'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"
