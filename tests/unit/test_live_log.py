"""From what the engine writes to facts; and what is only counted when it is too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.commands.live.facts import EventSeen, Fact, LeftOut, Printed, RunSeen, StepSeen, Whose
from fanout.commands.live.log import LiveLog, Pace
from fanout.commands.live.names import Names
from fanout.journal.rows import ResolvedStep
from fanout.model import Failure, RunState, StepKind, StepState
from fanout.protocol import Logged
from tests.unit.filled import event_id, filled
from tests.unit.journals import NOW, ended, failure, new_run, retried, step, wait, waiting, writes

FIRST = Whose(1, "RUN1", "f1", 1, 5, event_id(1))
NO = Failure("ValueError", "no", "Traceback")


class Told:
    """A live log over a journal with three events, the second of them sent by a run that it did not see begin."""

    def __init__(self, names: Names, pace: Pace) -> None:
        self.now = NOW
        self.facts: list[Fact] = []
        self.log = LiveLog(names, 0, lambda fact, _now: self.facts.append(fact), pace=pace, clock=lambda: self.now)

    def after(self, milliseconds: int) -> list[Fact]:
        self.now += milliseconds
        self.log.look(self.now)
        told, self.facts = self.facts, []
        return told


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    with filled(tmp_path) as journal:
        for key in (1, 2, 3):
            journal.event(key, origin=9 if key == 2 else None)
        journal.run(9, "sender", 1, id="RUN9")
        with journal.reader() as reader:
            yield Names(reader)


@pytest.fixture
def told(names: Names) -> Told:
    return Told(names, Pace(burst=100, a_second=10))


def logged(text: str, *, run_id: str = "RUN1", source: str = "stdout", logger: str | None = None) -> Logged:
    return Logged(run_id, None, 0, NOW, source, logger, text)


def test_events_are_told_with_their_senders_and_how_many_runs_they_start(told: Told) -> None:
    told.log.committed(writes(routed_to=3, runs=[new_run(1), new_run(2, event=2), new_run(3, event=2)]))
    assert told.after(100) == [
        EventSeen(NOW, 1, event_id(1), "app/go", 1),
        EventSeen(NOW, 2, event_id(2), "app/go", 2, "sender", "RUN9"),
        EventSeen(NOW, 3, event_id(3), "app/go", 0),
        RunSeen(NOW, FIRST, RunState.QUEUED),
        RunSeen(NOW, Whose(2, "RUN2", "f2", 2, 5, event_id(2)), RunState.QUEUED),
        RunSeen(NOW, Whose(3, "RUN3", "f3", 2, 5, event_id(2)), RunState.QUEUED),
    ]


def test_a_run_of_an_event_from_before_has_its_id(told: Told) -> None:
    told.log.committed(writes(routed_to=3))
    told.after(100)
    told.log.committed(writes(runs=[new_run(1, event=2, replay_of=9)]))
    whose = Whose(1, "RUN1", "f1", 2, 5, event_id(2), replay_of="RUN9")
    assert told.after(100) == [RunSeen(NOW, whose, RunState.QUEUED)]


def test_steps_and_ends_with_what_they_failed_of(told: Told) -> None:
    told.log.committed(writes(routed_to=1, runs=[new_run(1)]))
    told.after(100)
    told.log.committed(
        writes(steps=[step(1, "a"), step(1, "b", "retrying", due_at=NOW + 90)], failures=[failure(1, "b")])
    )
    told.log.committed(writes(steps=[waiting(1, "c", "wait")], waits=[wait(1, "c")]))
    told.log.committed(writes(resolved=[ResolvedStep("completed", "1", NOW + 50, 1, "c")]))
    told.log.committed(writes(retried=[retried(1)], failures=[failure(1)]))
    told.log.committed(writes(ended=[ended(1, "failed")], failures=[failure(1)]))
    run, done, again = StepKind.RUN, StepState.COMPLETED, StepState.RETRYING
    assert told.after(100) == [
        StepSeen(NOW + 5, FIRST, "a", run, done, 1, 5),
        StepSeen(NOW + 5, FIRST, "b", run, again, 1, 5, NOW + 90, failure=NO),
        StepSeen(NOW, FIRST, "c", StepKind.WAIT, StepState.WAITING, 1, None, NOW + 100, "app/paid"),
        StepSeen(NOW + 50, FIRST, "c", StepKind.WAIT, done, 1, 50),
        RunSeen(NOW + 5, FIRST, RunState.WAITING, None, 1, None, NOW + 50, NO),
        RunSeen(NOW + 9, FIRST, RunState.FAILED, 8, 1, None, None, NO),
    ]
    assert (told.log.last_run, told.log.last_failed) == (1, 1)


def test_a_run_that_began_before_is_looked_up(told: Told) -> None:
    told.log.committed(writes(ended=[ended(9)]))
    told.log.printed([logged("hello", run_id="RUN9"), logged("who", run_id="GONE")])
    sender = Whose(9, "RUN9", "sender", 0, 5, event_id(1))
    assert told.after(100) == [
        RunSeen(NOW + 9, sender, RunState.COMPLETED, 8),
        Printed(NOW, sender, None, 0, "stdout", None, "hello"),
        Printed(NOW, Whose(0, "GONE", "?", 0), None, 0, "stdout", None, "who"),
    ]


def test_what_is_too_much_is_counted_until_it_is_calm_again(told: Told) -> None:
    many = range(1, 201)
    told.log.committed(writes(routed_to=3, runs=[new_run(key) for key in many]))
    told.log.committed(
        writes(ended=[ended(key, "failed" if key == 7 else "completed") for key in many], failures=[failure(9)])
    )
    told.log.printed([logged("x")] * 5)
    assert told.after(500) == []
    few = told.after(500)
    # One that failed is told of, whatever is left out.
    assert few[0] == RunSeen(NOW + 9, Whose(7, "", "?", 0), RunState.FAILED, 8)
    assert few[1:] == [LeftOut(NOW + 1_000, 3, 200, {RunState.COMPLETED: 199}, 1, 5)]
    told.log.committed(writes(ended=[ended(1)]))
    assert told.after(100) == []
    assert told.after(900) == [LeftOut(NOW + 2_000, 0, 0, {RunState.COMPLETED: 1}, 0, 0)]
    told.log.committed(writes(ended=[ended(9)]))
    assert [type(fact) for fact in told.after(100)] == [RunSeen]


def test_what_is_printed_outside_of_functions_is_told_once(told: Told) -> None:
    told.log.output("paid 12")
    told.log.output("INFO:shop:in EUR")
    told.log.output("loading")
    told.log.output("loading")
    told.log.printed([logged("paid 12"), logged("in EUR", source="info", logger="shop")])
    assert [fact.text for fact in told.after(100) if isinstance(fact, Printed)] == ["paid 12", "in EUR"]
    assert told.after(250) == [Printed(NOW + 350, None, None, 0, "stdout", None, "loading", 2)]
    assert told.after(1_000) == []


def test_the_rest_is_told_at_the_end(told: Told) -> None:
    told.log.committed(writes(ended=[ended(9)]))
    told.log.end(NOW)
    assert [type(fact) for fact in told.facts] == [RunSeen]
