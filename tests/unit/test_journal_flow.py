"""What a journal keeps of flow control, schedules and functions."""

from __future__ import annotations

from pathlib import Path

from fanout.journal.rows import Carried, Hold, LetGo
from fanout.journal.sqlite import SqliteJournal
from tests.unit.journals import NOW, dump, ended, event, new_run, queued_run, refused, wait, writes


def test_an_empty_journal_has_nothing(journal: SqliteJournal) -> None:
    assert (journal.functions(), journal.paused(), journal.limit_value("f", "throttle", "k")) == ([], [], None)
    assert (journal.hold("f", "batch:k"), journal.singletons("f", "k"), journal.events_of(1)) == (None, [], [])
    assert (journal.through("f", "* * * * * UTC"), journal.tick_run("f", NOW)) == (None, None)
    assert list(journal.partitions()) == []


def test_partitions_come_each_once_in_order_and_beyond_any_of_them(journal: SqliteJournal) -> None:
    journal.append_events([event()] * 5, NOW)
    places = [("g", ""), ("f", "b"), ("f", "a"), ("f", "b"), ("h", "")]
    journal.commit(
        writes(runs=[new_run(key, function=f, partition=p, event=key) for key, (f, p) in enumerate(places, 1)])
    )
    journal.commit(writes(ended=[ended(5)]))
    assert list(journal.partitions()) == [("f", "a"), ("f", "b"), ("g", "")]
    assert list(journal.partitions(("f", "a"))) == [("f", "b"), ("g", "")]
    assert list(journal.partitions(("f", "aa"))) == [("f", "b"), ("g", "")]
    assert list(journal.partitions(("g", ""))) == []


def test_what_becomes_ready_has_its_rank_and_partition_and_is_held_no_longer(runs: SqliteJournal, path: Path) -> None:
    held = new_run(4, function="f", state="waiting", due_at=NOW + 9, hold="batch:k", partition="old")
    runs.commit(writes(runs=[held]))
    assert runs.hold("f", "batch:k") is not None
    runs.commit(writes(due=[(NOW - 7, "new", 4)]))
    (row,) = (row for row in dump(path)["run"] if row["key"] == 4)
    assert (row["state"], row["due_at"], row["hold"]) == ("queued", None, None)
    assert runs.hold("f", "batch:k") is None
    assert runs.queued("f", "new", (0, 0), 9) == [queued_run(4, function="f", partition="new", rank=NOW - 7)]
    assert runs.queued("f", "old", (0, 0), 9) == []


def test_functions_are_those_that_the_code_has_and_what_it_had_stays_known(journal: SqliteJournal, path: Path) -> None:
    journal.commit(writes(functions=[("a", '{"a":1}', NOW), ("b", '{"b":1}', NOW)]))
    assert sorted(journal.functions()) == ['{"a":1}', '{"b":1}']
    # What could not be loaded has no new time.
    journal.commit(writes(functions=[("a", '{"a":2}', NOW + 5), ("c", '{"c":1}', NOW + 5)]))
    assert sorted(journal.functions()) == ['{"a":2}', '{"c":1}']
    journal.commit(writes(functions=[("a", '{"a":2}', None), ("b", '{"b":2}', NOW + 9)]))
    assert [(row["id"], row["spec"], row["is_present"], row["loaded_at"]) for row in dump(path)["function"]] == [
        ("a", '{"a":2}', 1, NOW + 5),
        ("b", '{"b":2}', 1, NOW + 9),
        ("c", '{"c":1}', 0, NOW + 5),
    ]


def test_pauses_are_kept_until_they_are_taken_back(journal: SqliteJournal, path: Path) -> None:
    journal.commit(writes(paused=[("a", NOW), ("b", NOW)]))
    journal.commit(writes(paused=[("a", NOW + 5)]))
    assert sorted(journal.paused()) == ["a", "b"]
    assert len(dump(path)["pause"]) == 2
    journal.commit(writes(unpaused=[("a",), ("nobody",)]))
    assert journal.paused() == ["b"]


def test_the_value_of_a_limit_is_the_last_one(journal: SqliteJournal) -> None:
    journal.commit(writes(limits={("f", "throttle", "k"): 5, ("f", "throttle", ""): 6, ("f", "idempotency", "k"): 7}))
    journal.commit(writes(limits={("f", "throttle", "k"): 2**62}))
    places = [("f", "throttle", "k"), ("f", "throttle", ""), ("f", "idempotency", "k"), ("g", "throttle", "k")]
    assert [journal.limit_value(*place) for place in places] == [2**62, 6, 7, None]


def test_a_run_that_is_held_is_found_by_its_name_with_what_it_has(journal: SqliteJournal, path: Path) -> None:
    journal.append_events([event(ts=NOW - 3), event(ts=NOW - 2), event(ts=NOW - 1)], NOW)
    held = new_run(1, function="f", state="waiting", due_at=NOW + 10, hold="batch:k")
    journal.commit(writes(runs=[held], collected=[(1, 1, 1, False)]))
    assert journal.hold("f", "batch:k") == Hold(1, NOW, 1, NOW - 3, 1, NOW + 10, is_echo=False)
    assert (journal.hold("g", "batch:k"), journal.hold("f", "batch:j")) == (None, None)
    journal.commit(writes(collected=[(1, 2, 3, False)], held=[(None, NOW + 20, True, 1)]))
    assert journal.hold("f", "batch:k") == Hold(1, NOW, 1, NOW - 3, 2, NOW + 20, is_echo=True)
    assert [each.key for each in journal.events_of(1)] == [1, 3]
    assert (journal.latest_ts(1), journal.latest_ts(2)) == (NOW - 1, 0)
    journal.commit(writes(held=[(2, NOW + 30, False, 1)]))
    assert journal.hold("f", "batch:k") == Hold(1, NOW, 2, NOW - 2, 2, NOW + 30, is_echo=False)
    assert [(row["event"], row["due_at"]) for row in dump(path)["run"]] == [(2, NOW + 30)]


def test_events_that_were_replaced_are_known_by_their_ids_and_are_not_the_runs_own(journal: SqliteJournal) -> None:
    journal.append_events([event(id="old"), event(id="new"), event(id="other")], NOW)
    held = new_run(1, function="f", state="waiting", due_at=NOW + 10, hold="debounce:k", event=2)
    journal.commit(writes(runs=[held], collected=[(1, 1, 1, True)]))
    assert [journal.functions_with_id(id_, NOW - 1) for id_ in ("old", "new", "other")] == [{"f"}, {"f"}, set()]
    assert journal.functions_with_id("old", NOW) == set()
    assert (journal.events_of(1), journal.latest_ts(1)) == ([], 0)
    journal.commit(writes(cancelled=[("cancelled", None, NOW, 1)]))
    journal.commit(writes(runs=[new_run(2, function="f", event=2, replay_of=1)], carried=[Carried(2, 1)]))
    assert journal.functions_with_id("old", NOW - 1) == {"f"}
    assert journal.queued("f", "", (0, 0), 9)[0].is_fresh


def test_a_run_with_several_events_is_not_fresh(runs: SqliteJournal) -> None:
    runs.commit(writes(collected=[(1, 1, 1, False)]))
    assert [runs.queued(f"f{key}", "", (0, 0), 9)[0].is_fresh for key in (1, 2)] == [False, True]


def test_what_cancels_a_run_that_is_held_changes_with_its_event(journal: SqliteJournal, path: Path) -> None:
    journal.append_events([event()] * 2, NOW)
    held = new_run(1, function="f", state="waiting", due_at=NOW + 10, hold="debounce:k")
    old, new = (wait(1, "", number=number, value=str(number)) for number in (1, 2))
    journal.commit(writes(runs=[held], waits=[old]))
    journal.commit(writes(held=[(None, NOW + 20, False, 1)]))
    assert [row["value"] for row in dump(path)["wait"]] == ["1"]
    journal.commit(writes(held=[(2, NOW + 20, False, 1)], waits=[new]))
    assert [row["value"] for row in dump(path)["wait"]] == ["2"]


def test_a_run_that_is_let_go_has_its_keys_and_may_wait_for_a_time(journal: SqliteJournal, path: Path) -> None:
    journal.append_events([event()], NOW)
    journal.commit(writes(runs=[new_run(1, function="f", state="waiting", due_at=NOW + 10, hold="batch:k")]))
    let_go = LetGo("keys", "single", NOW + 20, NOW + 30, 1)
    journal.commit(writes(let_go=[let_go]))
    assert journal.hold("f", "batch:k") is None
    (row,) = dump(path)["run"]
    assert (row["state"], row["partition"], row["singleton"], row["due_at"], row["deadline_at"]) == (
        "waiting", "keys", "single", NOW + 20, NOW + 30,
    )  # fmt: skip
    refused(journal, writes(let_go=[let_go]))


def test_a_run_that_is_held_no_longer_can_not_be_held_for_longer(journal: SqliteJournal, path: Path) -> None:
    journal.append_events([event()], NOW)
    journal.commit(writes(runs=[new_run(1, state="waiting", due_at=NOW + 10, hold="debounce:k")]))
    journal.commit(writes(cancelled=[("cancelled", None, NOW, 1)]))
    before = dump(path)
    refused(journal, writes(held=[(None, NOW + 99, False, 1)]))
    assert dump(path) == before
    assert journal.hold("f1", "debounce:k") is None


def test_singletons_are_the_live_runs_with_the_key(journal: SqliteJournal) -> None:
    journal.append_events([event()] * 5, NOW)
    journal.commit(
        writes(
            runs=[
                new_run(1, function="f", singleton="k"),
                new_run(2, event=2, function="f", singleton="k", state="waiting", due_at=NOW + 5),
                new_run(3, event=3, function="f", singleton="j"),
                new_run(4, function="g", singleton="k"),
                new_run(5, event=5, function="f"),
            ]
        )
    )
    assert sorted(journal.singletons("f", "k")) == [1, 2]
    journal.commit(writes(ended=[ended(1)], cancelled=[("cancelled", None, NOW, 2)]))
    assert journal.singletons("f", "k") == []


def test_a_schedule_is_known_up_to_where_it_was_dealt_with_and_each_tick_by_its_run(
    journal: SqliteJournal, path: Path
) -> None:
    journal.append_events([event()], NOW)
    journal.commit(
        writes(
            runs=[new_run(1, function="f")], ticks=[("f", NOW, 1)],
            schedules={("f", "* * * * * UTC"): NOW, ("f", "@daily UTC"): NOW - 5},
        )
    )  # fmt: skip
    journal.commit(writes(schedules={("f", "* * * * * UTC"): NOW + 60}))
    assert [journal.through("f", cron) for cron in ("* * * * * UTC", "@daily UTC", "@daily Mars")] == [
        NOW + 60,
        NOW - 5,
        None,
    ]
    assert [journal.tick_run("f", NOW), journal.tick_run("f", NOW + 1), journal.tick_run("g", NOW)] == [1, None, None]
    assert len(dump(path)["tick"]) == 1
