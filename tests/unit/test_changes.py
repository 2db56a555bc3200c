"""What is said of functions that have changed."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.core.changes import Change, changes
from fanout.model import (
    Backoff,
    BatchRule,
    CancelRule,
    ConcurrencyRule,
    CronTrigger,
    EventSchema,
    EventTrigger,
    FlowRules,
    Overlap,
    SingletonRule,
    ThrottleRule,
    TimeLimits,
)
from tests.unit.specs import spec

ON, MORE = EventTrigger("a"), EventTrigger("b", "event.data.x > 1")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"retries": 3}, {"retries": 5}, ["retries 3 to 5"]),
        ({"triggers": (ON,)}, {"triggers": (MORE,)}, ["on a to b if event.data.x > 1"]),
        ({"triggers": (ON,)}, {"triggers": (ON, MORE)}, ["on b if event.data.x > 1"]),
        ({"triggers": (ON, MORE)}, {"triggers": (ON,)}, ["no more on b if event.data.x > 1"]),
        (
            {"triggers": (CronTrigger("0 * * * *"),)},
            {"triggers": (CronTrigger("5 * * * *", "Europe/Berlin"),)},
            ["cron 0 * * * * to 5 * * * * Europe/Berlin"],
        ),
        ({}, {"flow": FlowRules(concurrency=(ConcurrencyRule(5, "event.data.u"),))}, ["concurrency 5 on event.data.u"]),
        (
            {"flow": FlowRules(concurrency=(ConcurrencyRule(5),))},
            {"flow": FlowRules(concurrency=(ConcurrencyRule(2),))},
            ["concurrency 5 to 2"],
        ),
        ({}, {"flow": FlowRules(throttle=ThrottleRule(10, 60_000, 3))}, ["throttle 10/m burst 3"]),
        ({"flow": FlowRules(batch=BatchRule(100, 5_000))}, {}, ["no batch any more"]),
        ({}, {"flow": FlowRules(batch=BatchRule(100, 5_000))}, ["batch 100 within 5s"]),
        ({}, {"flow": FlowRules(singleton=SingletonRule())}, ["singleton 1 at a time"]),
        (
            {"timeouts": TimeLimits(step_ms=1_000)},
            {"timeouts": TimeLimits(step_ms=90_000)},
            ["step timeout 1s to 1m30s"],
        ),
        ({}, {"backoff": Backoff(1.0)}, ["backoff 1s times 2 up to 2h"]),
        ({"backoff": (1.0, 5.0)}, {"backoff": (1.0,)}, ["backoff 1s and 5s to 1s"]),
        ({}, {"cancel_on": (CancelRule("stop", "data.id"),)}, ["cancelled by stop with the same data.id"]),
        ({}, {"overlap": Overlap.QUEUE, "is_async": True}, ["async now", "overlap skip to queue"]),
        ({"on_failure": "rescue"}, {"name": "Other"}, ["name f to Other", "no on failure any more"]),
        ({}, {"schemas": (EventSchema(None, "{}"),)}, ["event schema"]),
        ({"schemas": (EventSchema(None, "{}"),)}, {"schemas": (EventSchema("f", "{}"),)}, ["other event schema"]),
        ({"schemas": (EventSchema(None, "{}"),)}, {}, ["no event schema any more"]),
        ({"line": 7, "file": "a.py"}, {"line": 9, "file": "b.py", "steps": ("one",)}, []),
    ],
)
def test_settings_are_said_as_before_and_after(before: dict[str, Any], after: dict[str, Any], words: list[str]) -> None:
    found = changes({"f": spec("f", **before)}, {"f": spec("f", **after)})
    assert found == ((Change("~", "f", tuple(words)),) if words else ())


def test_new_ones_come_first_and_those_that_are_gone_last() -> None:
    before = {"a": spec("a", retries=1), "b": spec("b"), "d": spec("d", triggers=(CronTrigger("0 * * * *"),))}
    after = {"a": spec("a", retries=2), "b": spec("b"), "c": spec("c"), "e": spec("e")}
    assert [str(each) for each in changes(before, after)] == [
        "+ c", "+ e", "~ a (retries 1 to 2)", "- d (cron 0 * * * * stops)",
    ]  # fmt: skip


def test_text_of_the_users_own_stays_on_a_part_of_a_line() -> None:
    long = EventTrigger("a", "event.data.text ==\n'" + "x" * 100 + "'")
    ((change),) = changes({"f": spec("f")}, {"f": spec("f", triggers=(long,))})
    assert change.words == ("on a if event.data.text == 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...",)
