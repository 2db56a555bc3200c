"""Why a run is where it is: whole sentences."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.core import flow
from fanout.core.places import TICKS
from fanout.engine.lock import EngineLock
from fanout.model import (
    BatchRule,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    FlowRules,
    FunctionSpec,
    Overlap,
    ThrottleRule,
)
from fanout.views import reasons
from fanout.views.queue_reasons import Reason
from tests.unit.filled import NOW, Filled, filled, run_id
from tests.unit.specs import add, spec

LATER = NOW + 3_600_000


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with filled(tmp_path) as made:
        made.event(1)
        yield made
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def engine(journal: Filled) -> Iterator[EngineLock]:
    """Somebody who holds the journal as an engine does."""
    lock = EngineLock(journal.path)
    yield lock
    lock.release()


def why(journal: Filled, key: int = 1) -> Reason:
    with journal.reader() as reader:
        return reasons.reason(reader, reader.run(run_id(key)), NOW)


def line(journal: Filled, key: int = 1) -> str | None:
    with journal.reader() as reader:
        return reasons.line(reader, reader.run(run_id(key)), NOW)


def queued(journal: Filled, number: int, function: str = "f", first: int = 1, **values: Any) -> None:
    for key in range(first, first + number):
        journal.event(key + 100)
        journal.run(key, function, key + 100, "queued", rank=NOW + key, **values)


# Queued.


def test_no_engine_is_running(journal: Filled) -> None:
    queued(journal, 1)
    assert why(journal) == Reason(
        "no-engine", "waits for an engine: none is running", hint="`fanout serve` runs it, or the next `fanout send`"
    )
    assert line(journal) == "waits for an engine: none is running"


@pytest.mark.usefixtures("engine")
class TestQueued:
    def test_the_next_one(self, journal: Filled) -> None:
        queued(journal, 1)
        assert why(journal).words == "is next: it begins as soon as a worker has a free slot"

    def test_one_that_was_started_before(self, journal: Filled) -> None:
        queued(journal, 1, started_at=NOW)
        assert why(journal).words == "is next: it goes on as soon as a worker has a free slot"

    def test_one_that_has_to_be_alone(self, journal: Filled) -> None:
        queued(journal, 1, is_suspect=1)
        assert why(journal).words == "is next: a worker died that it was in, so it waits for one of its own"

    def test_one_behind_others(self, journal: Filled) -> None:
        queued(journal, 4)
        assert (why(journal, 2).words, why(journal, 4).words) == ("is queued behind 1 run", "is queued behind 3 runs")
        assert why(journal, 4).ahead == 3

    def test_a_function_that_is_gone(self, journal: Filled) -> None:
        add(journal, spec("f"), is_present=False)
        queued(journal, 1)
        assert why(journal).words == "waits: the code has no function `f` any more"

    @pytest.mark.parametrize(
        ("old", "now", "words", "hint"),
        [
            (
                spec("billing/f", app="billing"),
                spec("shop/g", app="shop"),
                "waits: the code has no function `billing/f` any more, nor an app `billing`",
                "it goes on when fanout.toml has the app again, by this id; `fanout cancel` ends it",
            ),
            (
                spec("shop/f", app="shop"),
                spec("shop/g", app="shop"),
                "waits: the code has no function `shop/f` any more",
                "it goes on when the code has it again; `fanout cancel` ends it",
            ),
            (
                spec("shop/f", app="shop"),
                spec("f", app="shop"),
                "waits: the code has no function `shop/f` any more",
                "`f` goes by its old id, and this goes on, where fanout.toml has `[[apps]]`, not one `[app]`",
            ),
            (
                spec("f", app="shop"),
                spec("shop/f", app="shop"),
                "waits: the code has no function `f` any more",
                "`shop/f` goes by its old id, and this goes on, where fanout.toml has one `[app]`, not `[[apps]]`",
            ),
        ],
    )
    def test_a_function_whose_app_is_another(
        self, journal: Filled, old: FunctionSpec, now: FunctionSpec, words: str, hint: str
    ) -> None:
        add(journal, old, is_present=False)
        add(journal, now)
        queued(journal, 1, old.id)
        assert why(journal) == Reason("no-function", words, hint=hint)

    def test_an_app_that_could_not_be_loaded(self, journal: Filled) -> None:
        add(journal, spec("other"))
        add(journal, spec("f", app="billing"), loaded_at=NOW - 1)
        queued(journal, 1)
        assert why(journal) == Reason(
            "app", "waits: app `billing` could not be loaded", hint="the engine's output says why"
        )

    def test_a_function_that_is_paused(self, journal: Filled) -> None:
        add(journal, spec("f"))
        journal.insert("pause", function="f", paused_at=NOW)
        queued(journal, 1)
        assert why(journal) == Reason(
            "paused",
            "waits: its function is paused since 2025-10-09 08:53:20",
            hint="`fanout functions resume f` lets it go on",
        )

    def test_a_pause_is_not_for_what_has_begun(self, journal: Filled) -> None:
        add(journal, spec("f"))
        journal.insert("pause", function="f", paused_at=NOW)
        queued(journal, 1, started_at=NOW)
        assert "paused" not in why(journal).words

    def test_a_concurrency_whose_places_are_taken(self, journal: Filled) -> None:
        add(journal, spec("f", flow=FlowRules(concurrency=(ConcurrencyRule(5, "event.data.account"),))))
        mine, other = (flow.partition([flow.key_text(key)], None) for key in ("acct_7", "acct_8"))
        for key in range(11, 16):
            journal.event(key)
            journal.run(key, "f", key, "running", partition=mine)
        journal.event(16)
        journal.run(16, "f", 16, "running", partition=other)
        queued(journal, 2, partition=mine)
        queued(journal, 1, partition=other, first=3)
        holders = tuple(run_id(key) for key in range(11, 16))
        assert why(journal, 2) == Reason(
            "concurrency",
            "waits for 1 of 5 slots of `f` with key `acct_7`: held by 0000000011, 0000000012, 0000000013 and 2 more",
            held_by=holders,
            ahead=1,
        )
        assert why(journal, 3).words == "is next: it begins as soon as a worker has a free slot"

    def test_the_only_place_of_an_app(self, journal: Filled) -> None:
        rules = FlowRules(concurrency=(ConcurrencyRule(9), ConcurrencyRule(1, scope="app")))
        add(journal, spec("f", flow=rules))
        add(journal, spec("g", flow=FlowRules(concurrency=(ConcurrencyRule(3, scope="app"),))))
        journal.run(11, "g", 1, "running", partition=flow.partition(["null"], None))
        queued(journal, 1, partition=flow.partition(["null", "null"], None))
        assert why(journal).words == "waits for the only slot of app `shop`: held by 0000000011"

    def test_the_tick_before(self, journal: Filled) -> None:
        add(journal, spec("f", triggers=(CronTrigger("@hourly"),), overlap=Overlap.QUEUE))
        ticks: dict[str, Any] = {"partition": flow.partition((), None, is_sequence=True), "singleton": TICKS}
        queued(journal, 2, **ticks)
        assert why(journal, 2).words == "is queued behind 1 run"
        journal.run(11, "f", 1, "waiting", started_at=NOW, due_at=LATER, **ticks)
        assert why(journal, 2) == Reason(
            "tick-before",
            "waits for the end of the tick before: 0000000011",
            held_by=(run_id(11),),
            ahead=1,
        )
        queued(journal, 1, first=3)
        assert why(journal, 3).words == "is next: it begins as soon as a worker has a free slot"

    def test_a_throttle(self, journal: Filled) -> None:
        rule = ThrottleRule(6, 60_000, key="event.data.account")
        add(journal, spec("f", flow=FlowRules(throttle=rule)))
        key = flow.key_text("acct_7")
        journal.insert("limit_state", function="f", kind="throttle", key=key, value=flow.throttle(None, NOW, rule).tat)
        queued(journal, 3, partition=flow.partition([], key))
        assert why(journal, 1) == Reason(
            "throttle",
            "is throttled until 2025-10-09 08:53:30 with key `acct_7`",
            until=NOW + 10_000,
            ahead=0,
        )
        assert why(journal, 3).words == (
            "is throttled until about 2025-10-09 08:53:50 with key `acct_7`, behind 2 runs"
        )
        journal.execute("UPDATE run SET started_at = 1 WHERE key = 1")
        assert why(journal, 1).words == "is next: it goes on as soon as a worker has a free slot"

    def test_keys_are_made_printable_and_short(self, journal: Filled) -> None:
        add(journal, spec("f", flow=FlowRules(concurrency=(ConcurrencyRule(1, "event.data.a"),))))
        partition = flow.partition([flow.key_text("\x1b[2J" + "x" * 90)], None)
        journal.run(11, "f", 1, "running", partition=partition)
        queued(journal, 1, partition=partition)
        assert why(journal).words == (
            f"waits for the only slot of `f` with key `\\x1b[2J{'x' * 52}…`: held by 0000000011"
        )


# Waiting.


@pytest.mark.usefixtures("engine")
class TestWaiting:
    def test_an_event_of_the_future(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting", due_at=LATER, started_at=None)
        assert why(journal) == Reason("delayed", "begins at 2025-10-09 09:53:20", until=LATER)
        assert line(journal) is None

    def test_another_attempt(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting", due_at=LATER, attempt=1)
        journal.failure(1, "", "ValueError", "no")
        assert why(journal) == Reason(
            "retry", "tries again at 2025-10-09 09:53:20, attempt 2 of 5: ValueError: no", until=LATER
        )

    def test_a_sleep(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        journal.step(1, "nap", "waiting", "sleep", due_at=LATER)
        assert why(journal) == Reason("sleep", "sleeps until 2025-10-09 09:53:20", until=LATER)

    def test_a_step_that_is_tried_again(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        journal.step(1, "charge", "retrying", attempts=2, due_at=LATER)
        journal.failure(1, "charge", "OSError", "no\x1b[2J", 1)
        assert why(journal).words == (
            "tries step `charge` again at 2025-10-09 09:53:20, attempt 3 of 5: OSError: no\\x1b[2J"
        )

    def test_an_event(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        journal.step(1, "pay", "waiting", "wait", due_at=LATER)
        journal.insert("wait", run=1, step="pay", number=0, event="app/paid", path="data.user_id", value="42")
        assert why(journal) == Reason(
            "event", "waits until 2025-10-09 09:53:20 for the event `app/paid` with data.user_id = 42", until=LATER
        )

    def test_a_child(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        journal.step(1, "ship", "waiting", "invoke")
        journal.child(2, "ship-order", 1, "ship", "waiting")
        assert why(journal) == Reason(
            "child",
            f"waits for `ship-order` {run_id(2)}, waiting",
            held_by=(run_id(2),),
            hint=f"`fanout why {run_id(2)}` says what that waits for",
        )

    def test_the_items_of_a_map(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        journal.step(1, "mails", "waiting", "map")
        journal.insert(
            "map", run=1, step="mails", function="mail", taken=4, ended=1, is_exhausted=0, max_in_flight=9,
            is_collecting=0,
        )  # fmt: skip
        for key, state in enumerate(("completed", "running", "queued", "queued"), 2):
            journal.child(key, "mail", 1, "mails", state, item=key)
        assert why(journal).words == "waits for 3 of 4 items of `mails`, and more are to come"

    def test_several_steps(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting")
        for position, name in enumerate("abcde"):
            journal.step(1, name, "waiting", "sleep", due_at=LATER, position=position)
        assert why(journal).words == (
            "waits for 5 steps: `a` sleeps until 2025-10-09 09:53:20; `b` sleeps until 2025-10-09 09:53:20; "
            "`c` sleeps until 2025-10-09 09:53:20; and 2 more"
        )

    def test_a_batch_that_is_collected(self, journal: Filled) -> None:
        add(journal, spec("f", flow=FlowRules(batch=BatchRule(10, 60_000, "event.data.a"))))
        journal.run(1, "f", 1, "waiting", due_at=LATER, started_at=None, hold='batch:"acct_7"')
        for position in range(3):
            journal.insert("run_event", run=1, position=position, event=1)
        words = "collects events with key `acct_7` until 2025-10-09 09:53:20 (3 of 10 so far)"
        assert why(journal) == Reason("batch", words, until=LATER)
        assert line(journal) == words

    def test_a_debounce(self, journal: Filled) -> None:
        add(journal, spec("f", flow=FlowRules(debounce=DebounceRule(60_000))))
        journal.run(1, "f", 1, "waiting", due_at=LATER, started_at=None, hold="debounce:null")
        words = "is debounced until 2025-10-09 09:53:20: each event begins the wait anew"
        assert (why(journal).words, line(journal)) == (words, words)

    def test_a_rule_that_is_gone_from_the_code(self, journal: Filled) -> None:
        journal.run(1, "f", 1, "waiting", due_at=LATER, started_at=None, hold="batch:null")
        assert why(journal).words == "collects events until 2025-10-09 09:53:20 (0 so far)"


def test_who_waits_goes_on_with_the_next_engine(journal: Filled) -> None:
    journal.run(1, "f", 1, "waiting")
    journal.step(1, "nap", "waiting", "sleep", due_at=LATER)
    assert why(journal).hint == "no engine is running: `fanout serve` carries it on, or the next `fanout send`"


# Running, and over.


@pytest.mark.usefixtures("engine")
def test_a_running_one(journal: Filled) -> None:
    journal.run(1, "f", 1, "running")
    assert why(journal).words == "is running since 2025-10-09 08:53:20"
    journal.step(1, "charge", "running")
    assert why(journal).words == "is running since 2025-10-09 08:53:20, in step `charge` since 2025-10-09 08:53:20"
    assert line(journal) is None


def test_one_whose_engine_is_gone(journal: Filled) -> None:
    journal.run(1, "f", 1, "running")
    assert why(journal).words == "was running when its engine ended, and goes on with the next"


@pytest.mark.parametrize(
    ("state", "values", "failure", "words"),
    [
        ("completed", {}, None, "completed at 2025-10-09 08:53:20, after 8 ms"),
        ("cancelled", {}, None, "was cancelled at 2025-10-09 08:53:20"),
        (
            "skipped",
            {"reason": 'rate limit 10/m on `event.data.user` "acct_7"'},
            None,
            'was skipped at 2025-10-09 08:53:20: rate limit 10/m on `event.data.user` "acct_7"',
        ),
        ("failed", {}, ("ValueError", "no\nreally"), "failed at 2025-10-09 08:53:20: ValueError: no"),
        (
            "failed",
            {"reason": "timed out"},
            ("TimeoutError", "it did not end within 5 s"),
            "failed at 2025-10-09 08:53:20 (timed out): TimeoutError: it did not end within 5 s",
        ),
        (
            "failed",
            {},
            ("StepError", "step `charge` failed: OSError: no"),
            "failed at 2025-10-09 08:53:20: step `charge` failed: OSError: no",
        ),
        ("failed", {"reason": "crashed"}, None, "failed at 2025-10-09 08:53:20 (crashed)"),
    ],
)
def test_one_that_is_over(
    journal: Filled, state: str, values: dict[str, Any], failure: tuple[str, str] | None, words: str
) -> None:
    journal.run(1, "f", 1, state, **values)
    if failure is not None:
        journal.failure(1, "", *failure)
    assert (why(journal).words, line(journal)) == (words, None)


def test_as_json(journal: Filled) -> None:
    assert reasons.as_json(Reason("queue", "is queued behind 2 runs", ahead=2)) == {
        "code": "queue", "words": "is queued behind 2 runs", "until": None, "held_by": [], "ahead": 2,
    }  # fmt: skip
