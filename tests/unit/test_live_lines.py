"""The live log's lines: facts in, whole outputs out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from fanout.commands.live.facts import EventSeen, Fact, LeftOut, Printed, RunSeen, StepSeen, Whose
from fanout.commands.live.lines import HOLD_MS, LONG_MS, STEPS_MS, Lines
from fanout.model import Failure, RunState, StepKind, StepState

NOW = int(time.time()) // 86_400 * 86_400_000 + 43_200_000
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/srv/shop/work.py", line 24, in mail\n    raise OSError("no")\n'
)
REFUSED = Failure("OSError", "refused by the server that takes mails, which is a long way from here", TRACEBACK)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("fanout.views.words.time.localtime", lambda at=NOW / 1000: time.gmtime(at))


def run(key: int = 1, function: str = "mail", **more: Any) -> Whose:
    return Whose(key, f"01R{key:023}", function, 7, 5, f"01E{7:023}")._replace(**more)


def event(runs: int = 1, **more: Any) -> EventSeen:
    return EventSeen(NOW, 7, f"01E{7:023}", "app/go", runs)._replace(**more)


def step(name: str = "charge", state: StepState = StepState.COMPLETED, **more: Any) -> StepSeen:
    return StepSeen(NOW + 5, run(), name, StepKind.RUN, state, 1, 12)._replace(**more)


def ended(state: RunState = RunState.COMPLETED, **more: Any) -> RunSeen:
    return RunSeen(NOW + 20, run(), state, 31)._replace(**more)


def shown(facts: Sequence[Fact], *, width: int | None = None, at: int = NOW + 5_000, failed: bool = False) -> str:
    lines = Lines(width=width, has_colour=False, is_failed_only=failed)
    lines.fit(["mail", "process-order"])
    for fact in facts:
        lines.add(fact, NOW)
    return "".join(f"{line}\n" for line in lines.flush(at))


def test_what_an_event_causes_quickly_stands_under_it() -> None:
    other = run(2, "process-order")
    assert shown([
        event(2), step("reserve"), step(took_ms=0), ended(),
        Printed(NOW + 21, other, "pay", 0, "stdout", None, "paid 12"),
        Printed(NOW + 21, other, None, 0, "warning", "shop", "two\nlines"),
        ended(RunState.FAILED, run=other, failure=Failure("KeyError", "'x'")),
    ]) == (
        "12:00:00 ┌ app/go  0000000007\n"
        "12:00:00 │ mail          0000000001  ✓ done in 31 ms  reserve 12 ms, charge\n"
        "12:00:00 │ process-order 0000000002  │ paid 12\n"
        "12:00:00 │ process-order 0000000002  │ warning: two\n"
        "12:00:00 │ process-order 0000000002  │ warning: lines\n"
        "12:00:00 │ process-order 0000000002  ✗ failed after 31 ms  KeyError: 'x'\n"
    )  # fmt: skip


def test_a_retry_has_its_reason_and_its_next_time_at_all_widths() -> None:
    retry = step("send", StepState.RETRYING, due_at=NOW + 1_005, failure=REFUSED)
    assert shown([event(), retry]) == (
        "12:00:00 ┌ app/go  0000000007\n"
        "12:00:00 │ mail          0000000001  ↻ send failed: OSError: refused by the server that takes mails, which is a "
        "long way from here  /srv/shop/work.py:24  attempt 2 of 5 at 12:00:01, in 1.0 s\n"
    )
    assert shown([event(), retry], width=80) == (
        "12:00:00 ┌ app/go  000007\n"
        "12:00:00 │ mail          000001  ↻ send failed: OSError: refused by the server\n"
        "                                 that takes mails, which is a long way from here\n"
        "                                 /srv/shop/work.py:24\n"
        "                                 attempt 2 of 5 at 12:00:01, in 1.0 s\n"
    )
    assert shown([event(), retry], width=50) == (
        "┌ app/go  000007\n"
        "│ mail         000001 ↻ send failed:\n"
        "    OSError: refused by the server that takes\n"
        "    mails, which is a long way from here\n"
        "    /srv/shop/work.py:24\n"
        "    attempt 2 of 5 at 12:00:01, in 1.0 s\n"
    )


@pytest.mark.parametrize("width", [20, 24, 40, 59, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    facts: list[Fact] = [
        event(sender="process-order", sender_id="01R"), step("s" * 100), ended(RunState.FAILED, failure=REFUSED),
        Printed(NOW, run(), None, 0, "stdout", None, "日本語" * 40), Printed(NOW, run(), None, 0, "stdout", None, "x" * 300),
    ]  # fmt: skip
    from rich.cells import cell_len

    said = shown(facts, width=width)
    assert [line for line in said.splitlines() if cell_len(line) > width] == []
    assert said.count("日") == 40
    assert said.count("x") == 300


def test_waits_say_what_for_and_until_when() -> None:
    due = NOW + 60_000
    assert shown([
        step("nap", StepState.WAITING, kind=StepKind.SLEEP, due_at=due),
        step("paid", StepState.WAITING, kind=StepKind.WAIT, due_at=due, awaited="app/paid"),
        step("ship", StepState.WAITING, kind=StepKind.INVOKE, awaited="ship-order"),
        step("mails", StepState.WAITING, kind=StepKind.MAP, awaited="mail"),
        ended(RunState.WAITING, due_at=due),
        ended(RunState.WAITING, due_at=due, reason="collects events (batch)"),
        ended(RunState.SKIPPED, reason="rate limit 5/m"),
        ended(RunState.CANCELLED),
        ended(RunState.QUEUED, failure=Failure("Crashed", "worker 1 was killed by SIGSEGV")),
    ]) == (
        "12:00:00   mail          0000000001  ↻ nap: sleeps until 12:01:00\n"
        "12:00:00   mail          0000000001  ↻ paid: waits for app/paid until 12:01:00\n"
        "12:00:00   mail          0000000001  ↻ ship: waits for ship-order\n"
        "12:00:00   mail          0000000001  ↻ mails: maps items with mail\n"
        "12:00:00   mail          0000000001  ↻ waits until 12:01:00\n"
        "12:00:00   mail          0000000001  ↻ collects events (batch) until 12:01:00\n"
        "12:00:00   mail          0000000001  - skipped  rate limit 5/m\n"
        "12:00:00   mail          0000000001  ⊘ cancelled\n"
        "12:00:00   mail          0000000001  · Crashed: worker 1 was killed by SIGSEGV  begins again where it was\n"
    )  # fmt: skip


def test_a_step_that_failed_for_good_is_not_explained_twice() -> None:
    why = Failure("StepError", "step `send` failed: OSError: refused")
    assert shown([
        step("send", StepState.FAILED, attempts=3, failure=Failure("OSError", "refused")),
        ended(RunState.FAILED, failure=why),
    ]) == (
        "12:00:00   mail          0000000001  ✗ send failed after 3 attempts: OSError: refused\n"
        "12:00:00   mail          0000000001  ✗ failed after 31 ms\n"
    )  # fmt: skip
    assert shown([ended(RunState.FAILED, failure=why)]) == (
        "12:00:00   mail          0000000001  ✗ failed after 31 ms  StepError: step `send` failed: OSError: refused\n"
    )


def test_lines_are_held_back_for_a_moment_only() -> None:
    lines = Lines(width=None, has_colour=False)
    lines.add(event(), NOW)
    lines.add(step(), NOW)
    assert lines.flush(NOW + 5 + STEPS_MS - 1) == []
    lines.add(RunSeen(NOW + 6, run(), RunState.RUNNING), NOW)
    assert lines.flush(NOW + HOLD_MS) == [
        "12:00:00 ┌ app/go  0000000007",
        "12:00:00 │ mail     0000000001  ✓ charge 12 ms",
    ]
    assert lines.flush(NOW + 6 + LONG_MS) == ["12:00:00 │ mail     0000000001  » running"]
    lines.add(event(0, key=8, name="app/nobody"), NOW)
    assert lines.flush(NOW + 1_100) == ["12:00:00 ┌ app/nobody  0000000007  starts nothing"]
    # Under another event, a line says which one it belongs to.
    lines.add(ended(run=run(replay_of=f"01R{3:023}", invoked_by="parent")), NOW)
    assert lines.flush(NOW + 1_200) == [
        "12:00:00   mail     0000000001  ✓ done in 31 ms  for parent  replay of 0000000003  ← app/go"
    ]


def test_events_stay_in_their_order() -> None:
    lines = Lines(width=None, has_colour=False)
    lines.add(event(), NOW)
    lines.add(event(0, key=8), NOW)
    assert lines.flush(NOW + HOLD_MS - 1) == []
    assert len(lines.flush(NOW + HOLD_MS)) == 2


def test_what_is_left_out_is_counted() -> None:
    runs = {RunState.FAILED: 3, RunState.COMPLETED: 1_240}
    assert shown([LeftOut(NOW, 1_243, 1_243, runs, 3, 1)]) == (
        "12:00:00   … 1,243 more events; 1,243 more runs: 1,240 completed, 3 failed; 3 failed attempts; "
        "1 more line printed, which `fanout logs` has\n"
    )
    assert shown([LeftOut(NOW, 0, 5, {RunState.COMPLETED: 5}, 0, 0)]) == "12:00:00   … 5 more runs completed\n"


def test_only_what_fails_with_the_event_that_it_belongs_to() -> None:
    fine, bad = event(1, key=7), event(1, key=8, name="app/bad")
    failed = ended(RunState.FAILED, run=run(2, event=8), failure=Failure("KeyError", "'x'"))
    assert shown([fine, ended(), bad, Printed(NOW, run(2, event=8), None, 0, "stdout", None, "no"), failed], failed=True) == (
        "12:00:00 ┌ app/bad  0000000007\n"
        "12:00:00 │ mail          0000000002  ✗ failed after 31 ms  KeyError: 'x'\n"
    )  # fmt: skip


def test_nothing_that_comes_from_outside_reaches_the_terminal_as_it_is() -> None:
    evil = "\x1b]0;title\x07\x1b[2J\r\u202e"
    facts: list[Fact] = [
        event(name=evil, id=evil, sender=evil, sender_id=evil), step(evil), step(evil, StepState.WAITING, awaited=evil),
        ended(RunState.FAILED, run=run(function=evil), reason=evil, failure=Failure(evil, evil, f'  File "{evil}", line 1, in f\n')),
        Printed(NOW, run(), evil, 0, evil, evil, evil), Printed(NOW, None, None, 0, "stdout", None, evil),
    ]  # fmt: skip
    for width in (50, 100, None):
        said = shown(facts, width=width)
        assert said.replace("\n", "").isprintable()


def test_a_function_has_the_same_colour_always_and_without_colour_there_is_none() -> None:
    lines = Lines(width=None, has_colour=True)
    lines.add(ended(), NOW)
    assert lines.flush(NOW) == [
        "\x1b[2m12:00:00\x1b[0m \x1b[2m \x1b[0m \x1b[38;5;73mmail    \x1b[0m \x1b[2m0000000001\x1b[0m  \x1b[32m✓\x1b[0m \x1b[32mdone in 31 ms\x1b[0m"
    ]
