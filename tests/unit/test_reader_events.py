"""Events as the reader lists them: where they came from, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.errors import NotFoundError, UsageError
from fanout.journal.received import EventFilter, Origin, Source
from fanout.journal.sqlite_keys import first_key
from fanout.model import CronTrigger, RunState
from tests.unit.filled import NOW, Filled, event_id, filled, run_id
from tests.unit.specs import add_tick

COMPLETED, FAILED = RunState.COMPLETED, RunState.FAILED
ANY = EventFilter()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    """Seven events, a second apart, of which the last is not routed yet."""
    with filled(tmp_path) as made:
        made.event(1, "app/order")
        made.run(1, "order", 1)
        made.run(2, "audit", 1, "failed")
        made.event(2, "app/shipped", origin=1, received_at=NOW + 1_000)
        made.event(3, "app/given", id="order-7", is_id_given=1, received_at=NOW + 2_000)
        made.event(4, "app/given", id="order-7", is_id_given=1, received_at=NOW + 3_000)
        made.event(5, "[x]?*", received_at=NOW + 4_000)
        made.child(3, "ship", 1, "ship")
        made.run(4, "batch", 3, queued_at=NOW + 2_000)
        for position, event in enumerate((3, 4)):
            made.insert("run_event", run=4, position=position, event=event)
        add_tick(made, 6, "nightly", CronTrigger("@daily"), NOW - 60_000)
        made.event(-7, "fanout/function.failed", origin=2, received_at=NOW + 1_500)
        made.event(-8, "fanout/function.invoked", received_at=NOW + 1_600)
        made.event(6, "app/new", received_at=NOW + 5_000)
        made.routed_to(5)
        yield made


def names(journal: Filled, wanted: EventFilter = ANY, limit: int = 20) -> list[str]:
    with journal.reader() as reader:
        return [event.name for event in reader.events(wanted, limit)]


def test_the_newest_come_first_and_invocations_not_at_all(journal: Filled) -> None:
    with journal.reader() as reader:
        found = reader.events(EventFilter(), 20)
    assert [(event.name, event.source, event.origin, event.is_routed, dict(event.counts)) for event in found] == [
        ("app/new", Source.SENT, None, False, {}),
        ("[x]?*", Source.SENT, None, True, {}),
        ("app/given", Source.DUPLICATE, None, True, {COMPLETED: 1}),
        ("app/given", Source.SENT, None, True, {COMPLETED: 1}),
        ("fanout/function.failed", Source.ENGINE, Origin(run_id(2), "audit"), True, {}),
        ("app/shipped", Source.STEP, Origin(run_id(1), "order"), True, {}),
        ("fanout/scheduled.timer", Source.CRON, None, True, {COMPLETED: 1}),
        ("app/order", Source.SENT, None, True, {COMPLETED: 1, FAILED: 1}),
    ]
    assert found[-1].functions == ("audit", "order")


def test_no_more_than_asked_for(journal: Filled) -> None:
    assert names(journal, limit=2) == ["app/new", "[x]?*"]


def test_by_name(journal: Filled) -> None:
    assert names(journal, EventFilter("app/order")) == ["app/order"]
    assert names(journal, EventFilter("app/*", is_unheard=True)) == ["app/new", "app/shipped"]
    assert names(journal, EventFilter("[x]?*")) == ["[x]?*"]
    assert names(journal, EventFilter("[a]pp/order")) == []
    assert names(journal, EventFilter("???/order")) == []


def test_invocations_are_listed_if_they_are_asked_for(journal: Filled) -> None:
    with journal.reader() as reader:
        found = reader.events(EventFilter("fanout/function.invoked"), 20)
    assert [(event.source, event.origin) for event in found] == [
        (Source.INVOKE, None), (Source.INVOKE, Origin(run_id(1), "order")),
    ]  # fmt: skip


def test_by_time(journal: Filled) -> None:
    since = EventFilter(since=NOW + 1_000, until=NOW + 2_000)
    assert names(journal, since) == ["app/given", "fanout/function.failed", "app/shipped"]
    assert names(journal, EventFilter(until=NOW - 1)) == []
    assert names(journal, EventFilter(since=NOW + 5_001)) == []


def test_those_that_started_nothing(journal: Filled) -> None:
    assert names(journal, EventFilter(is_unheard=True)) == [
        "app/new", "[x]?*", "fanout/function.failed", "app/shipped",
    ]  # fmt: skip


def test_one_event_with_what_its_runs_have_caused(journal: Filled) -> None:
    with journal.reader() as reader:
        found = reader.event(event_id(1)[-6:])
    assert [(each.run.function, dict(each.sent), dict(each.invoked)) for each in found.runs] == [
        ("order", {"app/shipped": 1}, {"ship": 1}),
        ("audit", {"fanout/function.failed": 1}, {}),
    ]
    assert (found.listed.name, found.data, found.user, found.runs_in_all) == ("app/order", "{}", None, 2)


def test_an_event_of_a_batch_has_the_batchs_run(journal: Filled) -> None:
    with journal.reader() as reader:
        assert [each.run.function for each in reader.event("order-7").runs] == ["batch"]


def test_an_event_that_is_not_there_or_not_the_only_one(journal: Filled) -> None:
    with journal.reader() as reader:
        with pytest.raises(NotFoundError, match="there is no event `nothing`"):
            reader.event("nothing")
        with pytest.raises(UsageError, match="several events have ids that begin or end with `01E`"):
            reader.event("01E")
        with pytest.raises(NotFoundError):
            reader.event(run_id(1))


@pytest.mark.parametrize(("at", "expected"), [(NOW - 1, 1), (NOW + 1, 2), (NOW + 4_000, 5), (NOW + 6_000, 7)])
def test_keys_by_time(journal: Filled, at: int, expected: int) -> None:
    with journal.reader() as reader:
        assert first_key(reader._all, "event", at) == expected


def test_keys_by_time_where_there_are_none(tmp_path: Path) -> None:
    with filled(tmp_path) as made, made.reader() as reader:
        assert [first_key(reader._all, each, NOW) for each in ("run", "event", "own event", "failure")] == [1] * 4
