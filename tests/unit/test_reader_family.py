"""Families: what events cause, at any depth; when all of it is over; and where an event or run belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from fanout.errors import NotFoundError, UsageError
from fanout.journal.family import Progress, Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from tests.unit.filled import NOW, Filled, event_id, filled, run_id

GO = Watched(1, 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    with filled(tmp_path) as made:
        yield made


@pytest.fixture
def orders(journal: Filled) -> Filled:
    """Event 1 starts runs 1 and 2; run 1 has children 3 (which sent event 3, which started 6), 4 and 5; 2 sent 4.

    Event 2 with its runs 7, and 8 that 7 invoked, has nothing to do with it.
    """
    journal.event(1)
    journal.event(2)
    journal.run(1, "order", 1)
    journal.run(2, "audit", 1)
    journal.child(3, "ship", 1, "ship")
    journal.child(4, "mail", 1, "mails", item=0)
    journal.child(5, "mail", 1, "mails", item=1)
    journal.event(3, "app/shipped", origin=3)
    journal.event(4, "app/nobody", origin=2)
    journal.run(6, "tell", 3)
    journal.run(7, "order", 2)
    journal.child(8, "ship", 7, "ship")
    return journal


def progress(journal: Filled, watched: Watched = GO) -> Progress:
    with journal.reader() as reader:
        return reader.progress(watched)


def keys(journal: Filled, watched: Watched) -> list[int]:
    with journal.reader() as reader:
        return [run.key for run in reader.watched_runs(watched)]


def test_a_family_is_all_that_events_cause_in_the_order_of_its_making(orders: Filled) -> None:
    assert keys(orders, GO) == [1, 2, 3, 4, 5, 6]
    assert keys(orders, Watched(2, 2)) == [7, 8]
    assert keys(orders, Watched(1, 2)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert keys(orders, Watched(5, 5)) == []


def test_a_root_that_another_root_caused_counts_once(orders: Filled) -> None:
    assert keys(orders, Watched(1, 3)) == [1, 2, 3, 4, 5, 6, 7, 8]
    with orders.reader() as reader:
        assert reader.counts(Watched(1, 3)) == {RunState.COMPLETED: 8}


def test_of_replays_only_what_these_cause_is_watched(orders: Filled) -> None:
    orders.run(10, "order", 1, replay_of=1)
    orders.run(11, "audit", 1, replay_of=2)
    orders.run(12, "order", 1, replay_of=1)
    orders.child(13, "ship", 12, "ship")
    request = orders.request("replay", is_handled=True)
    assert keys(orders, Watched(request=request, replayed=(1,), after_run=10)) == [12, 13]
    assert keys(orders, Watched(request=request, replayed=(1, 2), after_run=9)) == [10, 11, 12, 13]


def test_of_an_invocation_the_run_that_was_made_is_watched(orders: Filled) -> None:
    request = orders.request("invoke", is_handled=True, run=7)
    assert keys(orders, Watched(request=request)) == [7, 8]


def test_all_is_over_when_all_are_final(orders: Filled) -> None:
    assert progress(orders) == Progress({RunState.COMPLETED: 6}, is_routed=True)
    assert progress(orders).is_over()


@pytest.mark.parametrize("run", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
def test_it_is_not_over_while_any_is_live(orders: Filled, run: int, state: str) -> None:
    orders.execute("UPDATE run SET state = ?, ended_at = NULL, output = NULL WHERE key = ?", state, run)
    assert not progress(orders).is_over()


def test_while_a_root_is_live_nothing_else_is_looked_at(orders: Filled) -> None:
    orders.execute("UPDATE run SET state = 'waiting', ended_at = NULL, output = NULL WHERE key = 1")
    assert progress(orders) == Progress({RunState.WAITING: 1, RunState.COMPLETED: 1}, is_routed=True)
    with orders.reader() as reader:
        assert reader.counts(GO) == {RunState.WAITING: 1, RunState.COMPLETED: 5}


@pytest.mark.parametrize(("routed_to", "is_over"), [(0, False), (2, False), (3, False), (4, True)])
def test_events_have_to_be_routed_also_those_that_runs_have_sent(
    orders: Filled, routed_to: int, *, is_over: bool
) -> None:
    orders.routed_to(routed_to)
    assert progress(orders).is_over() is is_over
    assert progress(orders, Watched(2, 2)).is_over() is (routed_to >= 2)


def test_the_engines_own_events_need_no_routing(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1, "failed")
    journal.event(-1, "fanout/function.failed", origin=1)
    journal.run(2, "apologize", -1)
    assert progress(journal) == Progress({RunState.FAILED: 1, RunState.COMPLETED: 1}, is_routed=True)


@pytest.mark.parametrize("watched", [Watched(request=1), Watched(request=1, replayed=(1,), after_run=8)])
def test_a_request_has_to_be_handled(orders: Filled, watched: Watched) -> None:
    orders.request("replay", is_handled=False)
    assert progress(orders, watched) == Progress({}, is_routed=False)
    orders.execute("UPDATE request SET handled_at = 1")
    assert progress(orders, watched).is_over()


def test_an_invoked_run_and_what_it_causes_have_to_be_final(orders: Filled) -> None:
    request = Watched(request=orders.request("invoke", is_handled=True, run=7))
    assert progress(orders, request).is_over()
    orders.execute("UPDATE run SET state = 'queued', ended_at = NULL, output = NULL WHERE key = 8")
    assert not progress(orders, request).is_over()


def test_who_caused_whom(orders: Filled) -> None:
    with orders.reader() as reader:
        family = reader.family(GO, limit=100)
    below: dict[str, list[str]] = {}
    rest = list(family.roots)
    members: list[Any] = [*rest]
    while members:
        member = members.pop(0)
        caused = list(family.caused_by(member))
        below[member.id] = [each.id for each in caused]
        members += caused
    assert below == {
        event_id(1): [run_id(1), run_id(2)],
        run_id(1): [run_id(3), run_id(4), run_id(5)],
        run_id(2): [event_id(4)],
        run_id(3): [event_id(3)],
        run_id(4): [],
        run_id(5): [],
        event_id(4): [],
        event_id(3): [run_id(6)],
        run_id(6): [],
    }
    assert family.counts == {RunState.COMPLETED: 6}
    assert not family.is_cut
    assert family.runs_below(family.roots) == 6
    assert {member.id for member in family.path_to(family.runs[6])} == {
        run_id(6), event_id(3), run_id(3), event_id(-3), run_id(1), event_id(1),
    }  # fmt: skip


def test_a_family_that_is_cut_short_still_counts_all(orders: Filled) -> None:
    with orders.reader() as reader:
        family = reader.family(GO, limit=3)
    assert (len(family.runs), family.is_cut, family.counts) == (3, True, {RunState.COMPLETED: 6})


def test_an_event_that_started_nothing_is_a_family(journal: Filled) -> None:
    journal.event(1)
    with journal.reader() as reader:
        family = reader.family(GO, limit=100)
    assert [event.id for event in family.roots] == [event_id(1)]
    assert progress(journal).is_over()


def test_items_of_a_map_are_known_by_number_and_key(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1)
    journal.child(2, "ship", 1, "ship")
    journal.child(3, "mail", 1, "mails", item=0)
    journal.child(4, "mail", 1, "mails", item=1, item_key="ada")
    with journal.reader() as reader:
        family = reader.family(GO, limit=100)
    assert [(run.key, run.item, run.item_key) for run in family.runs.values()] == [
        (1, None, None), (2, None, None), (3, 0, None), (4, 1, "ada"),
    ]  # fmt: skip


def test_an_event_whose_id_was_given_before_is_a_duplicate(journal: Filled) -> None:
    day = 24 * 3_600_000
    for key, id_, at in ((1, "a", 0), (2, "a", day - 1), (3, "a", 2 * day), (4, "b", 2 * day)):
        journal.event(key, id=id_, is_id_given=1, received_at=NOW + at)
    journal.event(5, id=event_id(9))
    journal.event(6, id=event_id(9))
    with journal.reader() as reader:
        family = reader.family(Watched(1, 6), limit=100)
        again, _ = reader.trace(2, None, limit=100)
    assert [key for key, event in family.events.items() if event.is_duplicate] == [2]
    assert [event.is_duplicate for event in again.roots] == [True]


# From anywhere in it.


@pytest.mark.parametrize(
    "id_", [run_id(1), run_id(6), event_id(1), event_id(3), event_id(-3), "0000006", run_id(6).lower()]
)
def test_any_id_leads_to_the_first_event(orders: Filled, id_: str) -> None:
    with orders.reader() as reader:
        family, above = reader.trace(*reader.event_or_run(id_), limit=100)
    assert ([event.id for event in family.roots], sorted(family.runs), above) == ([event_id(1)], [1, 2, 3, 4, 5, 6], 0)


def chain(journal: Filled, links: int) -> None:
    """Each run sends an event that starts the next."""
    for number in range(1, links + 1):
        journal.event(number, origin=number - 1 or None)
        journal.run(number, "again", number)


def test_of_a_long_chain_the_nearest_levels_are_read(journal: Filled) -> None:
    chain(journal, 40)
    with journal.reader() as reader:
        family, above = reader.trace(40, 40, limit=100)
        assert (family.roots[0].key, sorted(family.runs), above) == (28, list(range(28, 41)), 27)
        further, above = reader.trace(28, None, limit=100)
    assert (further.roots[0].key, sorted(further.runs), above) == (16, list(range(16, 41)), 15)


def test_what_was_asked_for_is_there_also_if_the_family_was_cut_short(journal: Filled) -> None:
    chain(journal, 10)
    with journal.reader() as reader:
        family, _ = reader.trace(10, 10, limit=3)
    assert family.is_cut
    assert 10 in family.runs


@pytest.mark.parametrize(
    ("id_", "event"),
    [("order-7", 5), ("order-7 é", 7), ("order-8", 9), ("Order", 8), ("der-8", 9), (event_id(3)[-6:], 3)],
)
def test_an_event_is_found_by_its_senders_id_or_a_part_of_it(journal: Filled, id_: str, event: int) -> None:
    journal.event(3)
    for key, given in ((5, "order-7"), (6, "order-7"), (7, "order-7 é"), (8, "Order-1"), (9, "order-8")):
        journal.event(key, id=given, is_id_given=1)
    journal.run(1, "f", 5)  # The other one with this id was a duplicate.
    with journal.reader() as reader:
        assert reader.event_or_run(id_) == (event, None)


def test_ids_that_are_nothing_or_several_things_are_refused(orders: Filled) -> None:
    with orders.reader() as reader:
        with pytest.raises(NotFoundError, match="there is no event or run `nothing`"):
            reader.event_or_run("nothing")
        for part in ("01", "01R", "01E", "3", ""):
            with pytest.raises(UsageError, match=f"several events or runs have ids that begin or end with `{part}`"):
                reader.event_or_run(part)


# The cost.


class Spy(JournalReader):
    """Notes how SQLite goes about each statement."""

    def __init__(self, path: Path) -> None:
        self.plans: dict[str, list[str]] = {}
        super().__init__(path)

    def _all(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if not sql.startswith("PRAGMA"):
            rows = super()._all(f"EXPLAIN QUERY PLAN {sql}", bindings)
            self.plans[sql] = [str(row[3]) for row in rows]
        return super()._all(sql, bindings)


@pytest.mark.parametrize(
    ("watched", "index"),
    [
        (GO, "SEARCH run USING INDEX run_once (event>? AND event<?)"),
        (Watched(request=1), "SEARCH run USING INTEGER PRIMARY KEY (rowid=?)"),
        (Watched(request=1, replayed=(1, 2), after_run=5), "SEARCH run USING INDEX run_replay (replay_of=? AND rowid>?)"),
    ],
)  # fmt: skip
def test_a_family_is_found_through_indices_alone(orders: Filled, watched: Watched, index: str) -> None:
    orders.request("invoke", is_handled=True, run=1)
    with Spy(orders.path) as reader:
        reader.progress(watched)
        reader.counts(watched)
        reader.watched_runs(watched)
        reader.family(watched, limit=10)
        reader.waiting(watched, limit=3)
        reader.goes_on_at(watched)
        reader.trace(3, 6, limit=10)
    tables = {"run", "event", "step", "failure", "wait", "map", "request"}
    for sql, plan in reader.plans.items():
        scans = [line for line in plan if line.startswith("SCAN") and line.split()[1] in tables]
        assert scans == [], sql
    families = [plan for sql, plan in reader.plans.items() if "family (" in sql]
    assert len(families) >= 4
    for plan in families:
        assert "SEARCH event USING COVERING INDEX event_origin (origin=?)" in plan
        assert any("INDEX run_once (event=?)" in line for line in plan)
    assert any(index in plan for plan in families)


def test_a_journal_of_fifty_thousand_children_is_not_read_while_the_parent_waits(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1, "waiting")
    with JournalReader(journal.path) as reader:
        _steps_of(reader, GO)  # The first time SQLite reads the schema.
        steps_before = _steps_of(reader, GO)
        journal.execute("BEGIN")
        for key in range(2, 2_002):
            journal.child(key, "mail", 1, "mails")
        journal.execute("COMMIT")
        assert _steps_of(reader, GO) == steps_before


def _steps_of(reader: JournalReader, watched: Watched) -> int:
    """How many steps SQLite's virtual machine takes, which unlike time is the same on any machine."""
    return _steps_taken(reader, lambda: reader.progress(watched))


def _steps_taken(reader: JournalReader, look: Callable[[], Progress]) -> int:
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    connection: apsw.Connection = reader._connection
    connection.set_progress_handler(count, 1)
    try:
        look()
    finally:
        connection.set_progress_handler(None)
    return steps


# Who waits.


def test_those_that_wait_are_counted_without_parents_that_wait_for_them(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1, "waiting")
    journal.step(1, "mails", "waiting", "map")
    journal.child(2, "mail", 1, "mails", "waiting")
    journal.step(2, "nap", "waiting", "sleep", due_at=NOW + 9_000)
    journal.child(3, "mail", 1, "mails", "waiting", due_at=NOW + 5_000)
    journal.child(4, "mail", 1, "mails", "waiting")
    journal.step(4, "answer", "waiting", "wait")
    journal.child(5, "mail", 1, "mails", "completed")
    journal.child(6, "mail", 1, "mails", "queued")
    with journal.reader() as reader:
        assert [(number, [run.key for run in runs]) for number, runs in [reader.waiting(GO, limit=2)]] == [(3, [3, 2])]
        assert [run.key for run in reader.waiting(GO, limit=9)[1]] == [3, 2, 4]


# When it goes on.


def test_what_runs_or_is_to_be_routed_goes_on_now(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1, "waiting", due_at=NOW)
    journal.child(2, "mail", 1, "mails", "queued")
    with journal.reader() as reader:
        assert reader.goes_on_at(GO) == 0
    journal.execute("UPDATE run SET state = 'waiting' WHERE key = 2")
    with journal.reader() as reader:
        assert reader.goes_on_at(GO) == NOW
    journal.event(2, "app/sent", origin=2)
    journal.routed_to(1)
    with journal.reader() as reader:
        assert reader.goes_on_at(GO) == 0


@pytest.mark.parametrize(
    ("run", "steps", "at"),
    [
        ({}, [], None),
        ({"due_at": NOW + 5}, [], NOW + 5),
        ({}, [NOW + 9, NOW + 7, None], NOW + 7),
        ({"deadline_at": NOW + 6}, [NOW + 9], NOW + 6),
    ],
)
def test_what_waits_goes_on_at_the_first_of_its_times(
    journal: Filled, run: dict[str, Any], steps: list[int | None], at: int | None
) -> None:
    journal.event(1)
    journal.run(1, "order", 1, "waiting")
    journal.step(1, "mails", "waiting", "map")
    journal.run(9, "other", 1, "completed")
    journal.child(2, "mail", 1, "mails", "waiting", **run)
    for number, due_at in enumerate(steps):
        journal.step(2, f"nap {number}", "waiting", "sleep", due_at=due_at)
    with journal.reader() as reader:
        assert reader.goes_on_at(GO) == at


# Whoever looks again and again.


def test_following_says_the_same_as_progress_while_runs_end_in_any_order(journal: Filled) -> None:
    for event in range(1, 6):
        journal.event(event)
        journal.run(2 * event, "order", event, "queued")
        journal.run(2 * event + 1, "audit", event, "queued")
    watched = Watched(1, 5)
    with journal.reader() as reader:
        look = reader.following(watched)
        for run in (3, 2, 7, 6, 5, 4, 11, 8, 10):
            journal.execute("UPDATE run SET state = 'completed', ended_at = 5 WHERE key = ?", run)
            assert look() == reader.progress(watched)
            assert not look().is_over()
        journal.execute("UPDATE run SET state = 'failed', ended_at = 5 WHERE key = 9")
        assert look() == reader.progress(watched)
        assert look().is_over()
        assert look().counts == {RunState.COMPLETED: 9, RunState.FAILED: 1}


def test_following_goes_on_to_what_the_runs_have_caused(orders: Filled) -> None:
    with orders.reader() as reader:
        look = reader.following(GO)
        assert look() == reader.progress(GO)
        orders.execute("UPDATE run SET state = 'running', ended_at = NULL WHERE key = 6")
        assert not look().is_over()
        orders.execute("UPDATE run SET state = 'completed', ended_at = 5 WHERE key = 6")
        assert look().is_over()


def test_what_is_over_is_not_counted_again(journal: Filled) -> None:
    journal.execute("BEGIN")
    for event in range(1, 1_001):
        journal.event(event)
        journal.run(event, "order", event, "completed" if event < 1_000 else "queued")
    journal.execute("COMMIT")
    with JournalReader(journal.path) as reader:
        look = reader.following(Watched(1, 1_000))
        first, second = (_steps_taken(reader, look) for _ in range(2))
        assert look().counts == {RunState.COMPLETED: 999, RunState.QUEUED: 1}
    assert second < first / 20
