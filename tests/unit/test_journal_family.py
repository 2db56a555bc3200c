"""What a journal remembers of waits for events, of maps and of children. It holds for any journal there will be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanout.errors import JournalError
from fanout.journal.rows import MapRow, WaitRow
from fanout.journal.sqlite import SqliteJournal
from tests.unit.journals import (
    NOW,
    child,
    children,
    dump,
    ended,
    event,
    event_row,
    failure,
    map_row,
    new_run,
    noted,
    step_row,
    wait,
    waiting,
    writes,
)

# Waits.


def test_waits_are_found_by_the_event_the_path_and_the_value(runs: SqliteJournal) -> None:
    waits = [
        wait(1, "a", path="data.user", value="7"),
        wait(1, "b", path="data.user", value="8"),
        wait(2, "a", path="data.user", value="7", condition="async.data.ok", expires_at=NOW + 9),
        wait(2, "", path="data.order", value="7", number=3),
        wait(3, "a"),
        wait(3, "b", event="app/other", path="data.user", value="7"),
    ]
    runs.commit(writes(waits=waits))

    def found(event: str, path: str, value: str) -> list[WaitRow]:
        return sorted(runs.waits(event, path, value))

    assert found("app/paid", "data.user", "7") == [waits[0], waits[2]]
    assert found("app/paid", "data.user", "8") == [waits[1]]
    assert found("app/paid", "data.order", "7") == [waits[3]]
    assert found("app/paid", "", "") == [waits[4]]
    assert found("app/paid", "data.user", "9") == found("app/p", "", "") == []


def test_names_and_paths_of_what_is_waited_for_are_known_each_once(runs: SqliteJournal) -> None:
    rows = [("b", "data.x"), ("a", ""), ("b", ""), ("b", "data.x"), ("ü", "data.y"), ("c", "")]
    runs.commit(
        writes(waits=[wait(1, f"s{at}", event, path=path, value=str(at)) for at, (event, path) in enumerate(rows)])
    )
    assert list(runs.awaited_events()) == ["a", "b", "c", "ü"]
    assert [runs.wait_paths(name) for name in ("a", "b", "ü", "d")] == [[""], ["", "data.x"], ["data.y"], []]


def test_a_wait_is_gone_when_it_is_over(runs: SqliteJournal) -> None:
    runs.commit(writes(waits=[wait(1, "a"), wait(1, "b"), wait(2, "a"), wait(1, "", number=0), wait(1, "", number=1)]))
    runs.commit(writes(heard=[(1, "a"), (3, "a")]))
    assert sorted(runs.waits("app/paid", "", "")) == [
        wait(1, "", number=0), wait(1, "", number=1), wait(1, "b"), wait(2, "a"),
    ]  # fmt: skip


def test_a_wait_that_is_said_again_is_one(runs: SqliteJournal) -> None:
    runs.commit(writes(waits=[wait(1, "a")]))
    runs.commit(writes(waits=[wait(1, "a", path="data.x", value="1")]))
    assert (runs.waits("app/paid", "", ""), runs.waits("app/paid", "data.x", "1")) == (
        [], [wait(1, "a", path="data.x", value="1")],
    )  # fmt: skip


def test_a_wait_counts_only_what_is_accepted_after_it_unless_it_says_after_what(runs: SqliteJournal) -> None:
    def written() -> list[int | None]:
        waits = [wait(1, "a", after=None), wait(1, "b", after=1)]
        runs.commit(writes(waits=waits))
        return [each.after for each in sorted(runs.waits("app/paid", "", ""))]

    assert written() == [1, 1]
    runs.append_events([event(), event()], NOW)
    assert written() == [3, 1]
    runs.commit(writes(events=[event_row(-1), event_row(None)]))
    assert written() == [4, 1]


def test_a_wait_that_is_written_before_any_event_counts_them_all(journal: SqliteJournal) -> None:
    """The run that waits was invoked: its event is one of the engine's own."""
    journal.commit(writes(events=[event_row(-1)], runs=[new_run(1, event=-1)], waits=[wait(1, "a", after=None)]))
    assert [each.after for each in journal.waits("app/paid", "", "")] == [0]


# Maps.


def test_the_numbers_of_a_map_are_kept_as_they_were_written_last(runs: SqliteJournal) -> None:
    first = map_row(1, "map", taken=3, max_in_flight=7, is_collecting=True)
    runs.commit(writes(maps={(1, "map"): first, (1, "map#2"): map_row(1, "map#2"), (2, "map"): map_row(2)}))
    assert runs.map_row(1, "map") == MapRow(1, "map", "child", 3, 0, False, 7, True)
    runs.commit(writes(maps={(1, "map"): first._replace(taken=5, ended=4, is_exhausted=True)}))
    assert runs.map_row(1, "map") == MapRow(1, "map", "child", 5, 4, True, 7, True)
    assert (runs.map_row(1, "map#2"), runs.map_row(3, "map")) == (map_row(1, "map#2"), None)


def test_no_more_items_can_have_ended_than_were_taken(runs: SqliteJournal, path: Path) -> None:
    before = dump(path)
    with pytest.raises(JournalError):
        runs.commit(writes(routed_to=9, maps={(1, "map"): map_row(1, taken=2, ended=3)}))
    assert dump(path) == before


@pytest.mark.parametrize(
    ("taken", "ended_", "progress"), [(0, 0, (0, 4)), (3, 0, (3, 1)), (4, 0, (4, 0)), (9, 7, (9, 2)), (9, 9, (9, 4))]
)
def test_a_map_that_waits_knows_how_much_room_it_has(
    runs: SqliteJournal, taken: int, ended_: int, progress: tuple[int, int]
) -> None:
    runs.commit(
        writes(
            steps=[waiting(1, "map", "map", None)],
            maps={(1, "map"): map_row(1, taken=taken, ended=ended_, max_in_flight=4)},
        )
    )
    assert runs.step(1, "map").progress == progress
    assert [each.progress for each in runs.steps(1)] == [progress]


def test_an_item_is_known_by_its_key_within_its_map(runs: SqliteJournal) -> None:
    runs.commit(children(child(4, item=0, item_key="ada"), child(5, item=1), child(6, step="map#2", item_key="bob")))
    runs.commit(writes(ended=[ended(4)]))
    known = [
        runs.has_item(*where)
        for where in ((1, "map", "ada"), (1, "map", "bob"), (1, "map#2", "bob"), (2, "map", "ada"), (1, "map", ""))
    ]
    assert known == [True, False, True, False, False]


# Children.


def test_the_live_children_of_a_run_and_of_one_of_its_steps(runs: SqliteJournal) -> None:
    runs.commit(children(*(child(key) for key in (4, 5, 6, 7)), child(8, step="ask"), child(9, parent=4)))
    runs.commit(writes(ended=[ended(5)], cancelled=[("cancelled", None, NOW, 6)], noted=[noted(7)]))
    assert sorted(runs.children(1)) == [4, 7, 8]
    assert [sorted(runs.children(1, step)) for step in ("map", "ask", "other", "")] == [[4, 7], [8], [], []]
    assert [runs.children(run) for run in (4, 9, 99)] == [[9], [], []]


# What a map gives.


def mapped(runs: SqliteJournal, number: int) -> None:
    """A map of so many items, in runs whose keys are not in the order of the items."""
    items = [child(4 + (at * 7) % number, item=at) for at in range(number)]
    runs.commit(children(*sorted(items, key=lambda each: each.key)))
    runs.commit(
        writes(
            steps=[waiting(1, "map", "map", None, started_at=NOW - 9)],
            maps={(1, "map"): map_row(1, taken=number), (1, "map#2"): map_row(1, "map#2")},
        )
    )


def item_of(path: Path) -> dict[int, int]:
    return {row["key"]: row["item"] for row in dump(path)["run"] if row["parent"] == 1}


def test_a_map_that_is_over_has_what_its_children_returned_in_the_order_of_the_items(
    runs: SqliteJournal, path: Path
) -> None:
    mapped(runs, 5)
    items = item_of(path)
    assert [items[key] for key in sorted(items)] != sorted(items.values())
    before = step_row(path, 1, "map")
    runs.commit(writes(ended=[ended(key)._replace(output=f'{{"item":{item}}}') for key, item in items.items()]))
    runs.commit(writes(gathered=[(NOW + 50, 1, "map")]))
    output = '[{"item":0},{"item":1},{"item":2},{"item":3},{"item":4}]'
    assert step_row(path, 1, "map") == before | {"state": "completed", "output": output, "ended_at": NOW + 50}
    assert [row["step"] for row in dump(path)["map"]] == ["map#2"]
    assert runs.step(1, "map").progress is None


def test_the_last_child_s_end_and_what_the_map_gives_are_one_commit(runs: SqliteJournal, path: Path) -> None:
    mapped(runs, 2)
    runs.commit(writes(ended=[ended(4)]))
    runs.commit(writes(ended=[ended(5)], gathered=[(NOW + 50, 1, "map")], resumed=[], heard=[(1, "other")]))
    assert step_row(path, 1, "map")["output"] == '["out","out"]'


def test_a_map_of_nothing_gives_an_empty_list(runs: SqliteJournal, path: Path) -> None:
    mapped(runs, 0)
    runs.commit(writes(gathered=[(NOW, 1, "map")]))
    assert step_row(path, 1, "map")["output"] == "[]"


def test_what_failed_is_null_among_the_results_and_told_by_its_number(runs: SqliteJournal, path: Path) -> None:
    mapped(runs, 5)
    key_of = {item: key for key, item in item_of(path).items()}
    first, second = failure(key_of[1], message="first"), failure(key_of[1], "", 1, message='last "one"')
    runs.commit(
        writes(
            ended=[
                ended(key_of[0]),
                ended(key_of[1], "failed"),
                ended(key_of[2])._replace(output="null"),
                ended(key_of[4], "failed"),
            ],
            cancelled=[("cancelled", None, NOW, key_of[3])],
            # Only that of the body says why a run failed; one of a step it may have survived.
            failures=[failure(key_of[0], "mail"), first, second, failure(key_of[1], "mail", message="of a step")],
        )
    )
    runs.commit(writes(gathered=[(NOW, 1, "map")]))
    assert json.loads(step_row(path, 1, "map")["output"]) == {
        "results": ["out", None, None, None, None],
        "errors": {
            "1": {"type": "ValueError", "message": 'last "one"', "traceback": "Traceback"},
            "3": {"type": "Cancelled", "message": "the run was cancelled", "traceback": ""},
            "4": {"type": "Failed", "message": "the run was failed", "traceback": ""},
        },
    }


def test_children_of_another_map_are_not_gathered(runs: SqliteJournal, path: Path) -> None:
    mapped(runs, 2)
    runs.commit(children(child(20, step="map#2", item=0), child(21, parent=2, item=0), child(22, step="ask")))
    runs.commit(writes(ended=[ended(key) for key in (4, 5, 20, 21, 22)]))
    runs.commit(writes(gathered=[(NOW, 1, "map")]))
    assert step_row(path, 1, "map")["output"] == '["out","out"]'


def test_numbers_keep_every_digit_on_their_way_through_a_map(runs: SqliteJournal, path: Path) -> None:
    mapped(runs, 2)
    runs.commit(writes(ended=[ended(4)._replace(output="1.10"), ended(5)._replace(output="123456789012345678901")]))
    runs.commit(writes(gathered=[(NOW, 1, "map")]))
    assert step_row(path, 1, "map")["output"] == "[1.10,123456789012345678901]"
