"""What any process may do to a journal: append events and requests. It holds for any journal there will be."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from fanout.errors import JournalError
from fanout.journal import DUPLICATE_WINDOW_MS
from fanout.journal.appender import AcceptedEvent
from fanout.journal.rows import OpenRequest, StoredEvent
from fanout.journal.sqlite import SqliteJournal
from tests.unit.journals import NOW, dump, event, event_row, one_refused, refused, writes

ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")


# Events, from any process.


def test_events_are_stored_in_their_order_with_all_that_they_say(journal: SqliteJournal) -> None:
    accepted = journal.append_events(
        [event(), event("app/ünï", data='{"a":1.10}', id="given", ts=5, user='{"id":1}', v="2")], NOW
    )
    made = accepted[0].id
    assert ULID.fullmatch(made)
    assert accepted == [AcceptedEvent(1, made, "app/hello", False), AcceptedEvent(2, "given", "app/ünï", False)]
    stored = [
        StoredEvent(1, made, False, "app/hello", NOW, "{}", None, None, NOW),
        StoredEvent(2, "given", True, "app/ünï", 5, '{"a":1.10}', '{"id":1}', "2", NOW),
    ]
    assert journal.unrouted(0, 10) == stored
    assert [journal.event(key) for key in (1, 2)] == stored
    assert stored[1].as_dict() == {
        "id": "given", "name": "app/ünï", "ts": 5, "data": {"a": 1.1}, "user": {"id": 1}, "v": "2",
    }  # fmt: skip
    assert stored[0].as_json() == f'{{"id":"{made}","name":"app/hello","ts":{NOW},"data":{{}}}}'
    assert stored[1].envelope() == ("given", "app/ünï", 5, '{"a":1.10}', '{"id":1}', "2")


def test_no_events_are_no_change(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    assert journal.append_events([], NOW) == []
    assert dump(path) == before


def test_ids_only_grow_although_the_clock_goes_back(journal: SqliteJournal) -> None:
    made = [each.id for now in (NOW, NOW - 5_000, NOW) for each in journal.append_events([event(), event()], now)]
    assert made == sorted(set(made))


def test_keys_grow_from_request_to_request_and_between_processes(journal: SqliteJournal, path: Path) -> None:
    with closing(SqliteJournal(path)) as other:
        keys = [[each.key for each in who.append_events([event(), event()], NOW)] for who in (journal, other, journal)]
    assert keys == [[1, 2], [3, 4], [5, 6]]


def test_of_a_request_with_a_bad_event_nothing_is_stored(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        journal.append_events([event(), event(data=None)], NOW)
    assert dump(path) == before
    assert [each.key for each in journal.append_events([event()], NOW)] == [1]


def test_a_given_id_is_known_again_within_a_request_and_across(journal: SqliteJournal) -> None:
    first = journal.append_events([event(id="a"), event(id="b"), event(id="a"), event()], NOW)
    second = journal.append_events([event(id="b"), event(id="c")], NOW + 1)
    assert [(each.id, each.is_duplicate) for each in first[:3] + second] == [
        ("a", False), ("b", False), ("a", True), ("b", True), ("c", False),
    ]  # fmt: skip
    assert [each.key for each in first + second] == [1, 2, 3, 4, 5, 6]
    assert len(journal.unrouted(0, 10)) == 6


@pytest.mark.parametrize(("later", "is_duplicate"), [(0, True), (-1, True), (1, False)])
def test_an_id_is_remembered_for_24_hours(journal: SqliteJournal, later: int, is_duplicate: bool) -> None:
    assert DUPLICATE_WINDOW_MS == 86_400_000
    journal.append_events([event(id="a")], NOW)
    again = journal.append_events([event(id="a")], NOW + DUPLICATE_WINDOW_MS - 1 + later)
    assert again == [AcceptedEvent(2, "a", "app/hello", is_duplicate)]


def test_unrouted_events_come_in_order_beyond_a_key_and_bounded(journal: SqliteJournal) -> None:
    journal.append_events([event(f"app/{number}") for number in range(7)], NOW)
    assert [each.key for each in journal.unrouted(0, 3)] == [1, 2, 3]
    assert [each.key for each in journal.unrouted(3, 3)] == [4, 5, 6]
    assert [each.name for each in journal.unrouted(6, 3)] == ["app/6"]
    assert journal.unrouted(7, 3) == []


def test_the_engine_s_own_events_have_keys_below_all_others_and_are_never_routed(journal: SqliteJournal) -> None:
    assert journal.first_event_key() == 0
    journal.commit(writes(events=[event_row(-1, "fanout/function.invoked")]))
    assert [each.key for each in journal.append_events([event(), event()], NOW)] == [1, 2]
    journal.commit(writes(events=[event_row(-2, "fanout/function.failed"), event_row(None)]))
    assert [each.key for each in journal.append_events([event()], NOW)] == [4]
    assert [each.key for each in journal.unrouted(0, 9)] == [1, 2, 3, 4]
    assert journal.first_event_key() == -2
    assert [journal.event(key).name for key in (-1, -2, 3)] == [
        "fanout/function.invoked", "fanout/function.failed", "app/sent",
    ]  # fmt: skip


def test_an_event_that_a_step_sends_is_stored_with_the_run_it_came_from(journal: SqliteJournal, path: Path) -> None:
    sent = event_row(None, "app/sent", id="mine", is_id_given=True, ts=5, data='{"a":1}', user="{}", v="2", origin=7)
    journal.commit(writes(events=[sent]))
    assert journal.unrouted(0, 9) == [
        StoredEvent(1, "mine", True, "app/sent", 5, '{"a":1}', "{}", "2", NOW),
    ]
    assert [row["origin"] for row in dump(path)["event"]] == [7]
    assert [each.is_duplicate for each in journal.append_events([event(id="mine"), event()], NOW)] == [True, False]
    assert [row["origin"] for row in dump(path)["event"]] == [7, None, None]


# Requests.


def test_requests_are_open_until_they_are_handled(journal: SqliteJournal, path: Path) -> None:
    body = {"runs": [1, 2], "again": False, "ü": None}
    keys = [journal.append_request(kind, body, NOW) for kind in ("replay", "cancel", "invoke")]
    assert keys == [1, 2, 3]
    assert journal.open_requests(2) == [OpenRequest(1, "replay", body), OpenRequest(2, "cancel", body)]
    journal.commit(writes(handled=[(NOW + 1, None, 1), (NOW + 2, None, 3)]))
    assert journal.open_requests(9) == [OpenRequest(2, "cancel", body)]
    assert [row["handled_at"] for row in dump(path)["request"]] == [NOW + 1, None, NOW + 2]


def test_a_request_is_handled_once(journal: SqliteJournal, path: Path) -> None:
    journal.append_request("cancel", {"runs": []}, NOW)
    journal.commit(writes(handled=[(NOW, None, 1)]))
    before = dump(path)
    assert refused(journal, writes(handled=[(NOW + 1, None, 1)])) == one_refused(path)
    assert dump(path) == before


def test_a_handled_request_says_which_run_was_made_of_it(runs: SqliteJournal, path: Path) -> None:
    runs.append_request("invoke", {"function": "f1", "data": {}}, NOW)
    runs.commit(writes(handled=[(NOW + 1, 3, 1)]))
    assert dump(path)["request"] == [
        {
            "key": 1,
            "kind": "invoke",
            "body": '{"function":"f1","data":{}}',
            "made_at": NOW,
            "handled_at": NOW + 1,
            "run": 3,
            "done": 0,
            "next_at": None,
            "outcome": None,
        }
    ]


def test_a_request_of_an_unknown_kind_is_refused(journal: SqliteJournal, path: Path) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        journal.append_request("explode", {}, NOW)
    assert dump(path) == before


# News.


def test_only_what_others_write_is_news(runs: SqliteJournal, path: Path) -> None:
    assert runs.has_news() is False
    runs.append_events([event()], NOW)
    runs.append_request("cancel", {}, NOW)
    runs.commit(writes(routed_to=2))
    assert runs.has_news() is False
    with closing(SqliteJournal(path)) as other:
        other.unrouted(0, 9)
        assert runs.has_news() is False
        other.append_events([event()], NOW)
        assert [runs.has_news(), runs.has_news()] == [True, False]
        other.append_request("cancel", {}, NOW)
        assert [runs.has_news(), runs.has_news()] == [True, False]
        dump(path)
        assert runs.has_news() is False
        assert other.has_news() is False
