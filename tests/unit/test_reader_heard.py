"""Runs that an event wakes or cancels: whom it may concern before it is sent, and whom it has concerned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.heard import Heard, Hearer
from fanout.model import RunState
from tests.unit.filled import NOW, Filled, event_id, filled, run_id
from tests.unit.test_reader_family import Spy


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Filled]:
    """Four runs wait for `app/paid`: for any, for that of user 7, for that of "x", and to be cancelled."""
    with filled(tmp_path) as made:
        made.event(1)
        for key, step, fields in (
            (1, "pay", {}),
            (2, "pay", {"path": "data.user", "value": "7"}),
            (3, "pay", {"path": "data.user", "value": '"x"'}),
            (4, "", {"path": "data.user", "value": "7"}),
        ):
            made.run(key, f"f{key}", 1, "waiting")
            if step:
                made.step(key, step, "waiting", "wait", due_at=NOW + 60_000)
            made.insert("wait", run=key, step=step, number=0, event="app/paid", **{"path": "", "value": ""} | fields)
        yield made


def paid(data: str = "{}", **fields: Any) -> NewEvent:
    return NewEvent("app/paid", data, **fields)


def hearers(journal: Filled, *events: NewEvent) -> set[Hearer]:
    with journal.reader() as reader:
        return reader.hearers(events)


def heard(journal: Filled, asked: set[Hearer], *keys: int) -> list[Heard]:
    with journal.reader() as reader:
        return reader.heard(asked, [AcceptedEvent(key, event_id(key), "app/paid", False) for key in keys])


def wake(journal: Filled, run: int, by: str) -> None:
    journal.execute("DELETE FROM wait WHERE run = ?", run)
    journal.execute(
        "UPDATE step SET state = 'completed', ended_at = 1, due_at = NULL, output = ? WHERE run = ?",
        f'{{"id":"{by}","name":"app/paid","ts":1,"data":{{}}}}',
        run,
    )


def cancel(journal: Filled, run: int) -> None:
    journal.execute("DELETE FROM wait WHERE run = ?", run)
    journal.execute("UPDATE run SET state = 'cancelled', ended_at = 1 WHERE key = ?", run)


def runs_of(found: set[Hearer]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for each in sorted(found, key=lambda each: each[:2]):
        places.setdefault(each.event, []).append(each.run)
    return places


def test_whom_an_event_may_concern_is_told_by_its_name_and_its_values(journal: Filled) -> None:
    found = hearers(
        journal,
        paid(),
        paid('{"user":7}'),
        paid('{"user":7.0}'),
        paid('{"user":"x"}'),
        paid('{"user":"7"}'),
        NewEvent("app/other", '{"user":7}'),
    )
    assert runs_of(found) == {0: [1], 1: [1, 2, 4], 2: [1, 2, 4], 3: [1, 3], 4: [1]}


def test_other_fields_can_be_compared_as_well(journal: Filled) -> None:
    for number, (path, value) in enumerate([("id", '"a"'), ("ts", "5"), ("user.n", "1"), ("v", '"2"')]):
        journal.insert("wait", run=1, step="pay", number=number + 1, event="app/x", path=path, value=value)
    given = NewEvent("app/x", "{}", id="a", ts=5, user='{"n":1}', v="2")
    assert len(hearers(journal, given)) == 1
    assert {each.run for each in hearers(journal, given)} == {1}
    assert hearers(journal, NewEvent("app/x", "{}")) == set()


def test_a_run_was_woken_if_its_step_has_this_event(journal: Filled) -> None:
    asked = hearers(journal, paid('{"user":7}'))
    journal.event(2, "app/paid")
    assert heard(journal, asked, 2) == []
    wake(journal, 1, event_id(2))
    wake(journal, 2, event_id(99))  # Another one was faster.
    cancel(journal, 4)
    assert heard(journal, asked, 2) == [
        Heard(1, run_id(1), "f1", RunState.WAITING, "pay", event_id(2)),
        Heard(4, run_id(4), "f4", RunState.CANCELLED, "", event_id(2)),
    ]


def test_of_several_events_each_has_its_own(journal: Filled) -> None:
    asked = hearers(journal, paid('{"user":"x"}'), paid('{"user":7}'), paid('{"user":7}'))
    for key in (2, 3, 4):
        journal.event(key, "app/paid")
    wake(journal, 3, event_id(2))
    wake(journal, 2, event_id(3))
    cancel(journal, 4)
    assert [(each.run, each.event_id) for each in heard(journal, asked, 2, 3, 4)] == [
        (2, event_id(3)), (3, event_id(2)), (4, event_id(3)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "is_cancelled"),
    [
        ({"condition": "async.data.user > 6"}, True),
        ({"condition": "async.data.user > event.data.least"}, True),
        ({"condition": "async.data.user > 7"}, False),
        ({"expires_at": NOW}, True),
        ({"expires_at": NOW - 1}, False),
    ],
)
def test_a_run_that_was_cancelled_for_another_reason_does_not_count(
    journal: Filled, fields: dict[str, Any], *, is_cancelled: bool
) -> None:
    journal.execute("""UPDATE event SET data = '{"least":3}'""")
    for column, value in fields.items():
        journal.execute(f"UPDATE wait SET {column} = ? WHERE run = 4", value)
    asked = {each for each in hearers(journal, paid('{"user":7}')) if each.run == 4}
    journal.event(2, "app/paid", data='{"user":7}')
    cancel(journal, 4)
    assert [each.run for each in heard(journal, asked, 2)] == ([4] if is_cancelled else [])


def test_who_waits_and_for_what(journal: Filled) -> None:
    journal.insert("wait", run=4, step="", number=1, event="app/paid", path="", value="")
    journal.insert("wait", run=4, step="", number=2, event="app/gone", path="", value="")
    with journal.reader() as reader:
        assert [reader.awaiting(name) for name in ("app/paid", "app/gone", "app/other")] == [4, 1, 0]
        assert reader.awaited_names() == ["app/gone", "app/paid"]


def test_nobody_is_read_whom_it_does_not_concern(journal: Filled) -> None:
    with Spy(journal.path) as reader:
        asked = reader.hearers([paid('{"user":7}')])
        journal.event(2, "app/paid")
        reader.heard(asked, [AcceptedEvent(2, event_id(2), "app/paid", False)])
        reader.awaiting("app/paid")
        reader.awaited_names()
    plans = [line for plan in reader.plans.values() for line in plan]
    assert [
        line for line in plans if line.startswith("SCAN") and line.split()[1] in ("run", "event", "step", "wait")
    ] == []
    assert "SEARCH wait USING COVERING INDEX wait_event (event=? AND path=? AND value=?)" in {
        line.replace("USING INDEX", "USING COVERING INDEX") for line in plans
    }
    assert "SEARCH step USING PRIMARY KEY (run=? AND key=?)" in plans
