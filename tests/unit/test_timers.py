from __future__ import annotations

import pytest

from fanout.engine.timers import Timers
from fanout.journal.sqlite import SqliteJournal
from tests.unit.journals import NOW, ended, new_run, waiting, writes


@pytest.fixture
def timers(runs: SqliteJournal) -> Timers:
    """Of a journal with a run that is due and a step that is due later."""
    due = new_run(4, state="waiting", due_at=NOW + 10)
    runs.commit(writes(runs=[due], steps=[waiting(1, "nap", due_at=NOW + 20)]))
    return Timers(runs)


def test_nothing_is_due_where_nothing_waits(journal: SqliteJournal) -> None:
    timers = Timers(journal)
    assert (timers.earliest, timers.are_due(2**62)) == (None, False)


def test_what_the_journal_has_is_known_from_the_beginning(timers: Timers) -> None:
    assert timers.earliest == NOW + 10
    assert [timers.are_due(now) for now in (NOW + 9, NOW + 10, NOW + 11)] == [False, True, True]


def test_the_earliest_of_what_is_added_counts_and_no_time_is_none(timers: Timers) -> None:
    seen = []
    for due_at in (NOW + 15, None, NOW + 5, NOW + 7):
        timers.add(due_at)
        seen.append(timers.earliest)
    assert seen == [NOW + 10, NOW + 10, NOW + 5, NOW + 5]


def test_something_is_added_where_nothing_waited(journal: SqliteJournal) -> None:
    timers = Timers(journal)
    timers.add(NOW)
    assert (timers.earliest, timers.are_due(NOW)) == (NOW, True)


def test_the_journal_is_looked_at_again_when_what_was_due_is_written(timers: Timers, runs: SqliteJournal) -> None:
    timers.fire()
    runs.commit(writes(due=[(NOW, "", 4)]))
    timers.look()
    assert timers.earliest == NOW + 20
    timers.fire()
    runs.commit(writes(ended=[ended(1)], abandoned=[(NOW, 1)]))
    timers.look()
    assert timers.earliest is None


def test_it_is_not_looked_at_when_nothing_was_due(timers: Timers, runs: SqliteJournal) -> None:
    """What is cancelled before its time leaves a time at which nothing is due; that costs one look, later."""
    runs.commit(writes(due=[(NOW, "", 4)]))
    timers.look()
    assert timers.earliest == NOW + 10
    timers.fire()
    timers.look()
    assert timers.earliest == NOW + 20
    timers.add(NOW + 5)
    timers.look()
    assert timers.earliest == NOW + 5


def test_who_asks_is_told_of_nothing_that_is_over(timers: Timers, runs: SqliteJournal) -> None:
    timers.add(NOW + 5)
    assert timers.ask() == NOW + 10
    runs.commit(writes(due=[(NOW, "", 4)]))
    assert (timers.ask(), timers.earliest) == (NOW + 20, NOW + 20)
    runs.commit(writes(ended=[ended(1)], abandoned=[(NOW, 1)]))
    assert timers.ask() is None
