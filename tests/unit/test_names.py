from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model import StepState
from fanout.protocol import RecordedStep
from fanout.worker.names import Names, split


def recorded(key: str, branch: str = "") -> RecordedStep:
    return RecordedStep(key, branch, StepState.COMPLETED, 1, "null", None)


def names(*steps: tuple[str, str]) -> Names:
    """The names of an execution whose journal has these steps: (key, branch)."""
    return Names(recorded(*step) for step in steps)


def taken(given: Names, *calls: tuple[str, str]) -> list[str]:
    return [given.take(name, branch) for name, branch in calls]


# One after another.


def test_steps_of_different_names_are_called_by_them() -> None:
    assert taken(names(), ("a", ""), ("b", ""), ("c", "")) == ["a", "b", "c"]


def test_a_repeated_name_counts_up() -> None:
    assert taken(names(), ("a", ""), ("b", ""), ("a", ""), ("a", "")) == ["a", "b", "a#2", "a#3"]


def test_what_is_recorded_is_come_to_in_the_same_order() -> None:
    given = names(("a", ""), ("a#2", ""), ("a#3", ""))
    assert taken(given, *[("a", "")] * 4) == ["a", "a#2", "a#3", "a#4"]
    assert given.unreached() == ()


def test_the_tenth_comes_after_the_ninth_and_not_after_the_first() -> None:
    keys = ["a", *(f"a#{number}" for number in range(2, 13))]
    given = names(*((key, "") for key in sorted(keys)))
    assert taken(given, *[("a", "")] * 12) == keys


def test_the_order_in_which_the_journal_has_them_does_not_matter() -> None:
    given = names(("a#2", ""), ("b", ""), ("a", ""))
    assert taken(given, ("b", ""), ("a", ""), ("a", "")) == ["b", "a", "a#2"]


def test_a_gap_is_not_filled() -> None:
    """The second was recorded and the first was not: it may still be on its way, and has its number."""
    assert taken(names(("a#2", "")), ("a", ""), ("a", "")) == ["a#2", "a#3"]


def test_a_step_that_was_added_before_the_recorded_ones_has_a_name_of_its_own() -> None:
    given = names(("b", ""))
    assert taken(given, ("a", ""), ("b", "")) == ["a", "b"]


# In branches: `code:path`, where the code is that of the function.


@pytest.mark.parametrize("order", [("c:1", "c:2", "c:3"), ("c:3", "c:2", "c:1"), ("c:2", "c:3", "c:1")])
def test_branches_come_to_their_own_whatever_their_order(order: tuple[str, ...]) -> None:
    given = names(("a", "c:3"), ("a#2", "c:1"), ("a#3", "c:2"))
    own = {"c:3": "a", "c:1": "a#2", "c:2": "a#3"}
    assert taken(given, *(("a", branch) for branch in order)) == [own[branch] for branch in order]


def test_a_branch_that_has_nothing_recorded_does_not_get_what_another_has() -> None:
    given = names(("a", "c:2"))
    assert taken(given, ("a", "c:1"), ("a", "c:2"), ("a", "c:3")) == ["a#2", "a", "a#3"]


def test_a_name_repeats_within_a_branch_too() -> None:
    given = names(("a", "c:1"), ("a#2", "c:2"), ("a#3", "c:1"))
    assert taken(given, ("a", "c:2"), ("a", "c:1"), ("a", "c:2"), ("a", "c:1")) == ["a#2", "a", "a#4", "a#3"]


def test_branches_in_branches_are_branches_of_their_own() -> None:
    given = names(("a", "c:1.1"), ("a#2", "c:1"), ("a#3", "c:1.2"))
    assert taken(given, ("a", "c:1.2"), ("a", "c:1"), ("a", "c:1.1"), ("a", "c:1.3")) == ["a#3", "a#2", "a", "a#4"]


# Code that was changed meanwhile.


def test_what_was_moved_into_branches_keeps_its_records_in_order() -> None:
    given = names(("a", ""), ("a#2", ""))
    assert taken(given, ("a", "c:1"), ("a", "c:2"), ("a", "c:3")) == ["a", "a#2", "a#3"]


def test_what_was_moved_out_of_branches_keeps_its_records_in_order() -> None:
    given = names(("a", "c:2"), ("a#2", "c:1"))
    assert taken(given, ("a", ""), ("a", ""), ("a", "")) == ["a", "a#2", "a#3"]


def test_what_was_moved_to_other_branches_keeps_its_records_in_order() -> None:
    given = names(("a", "old:1"), ("a#2", "old:2"), ("b", "old:2"))
    calls = [("b", "new:1"), ("a", "new:3"), ("a", "new:2.1"), ("a", "new:2.2")]
    assert taken(given, *calls) == ["b", "a", "a#2", "a#3"]
    assert given.unreached() == ()


def test_what_a_branch_has_itself_goes_before_what_was_moved() -> None:
    given = names(("a", ""), ("a#2", "c:1"))
    assert taken(given, ("a", "c:1"), ("a", "c:1")) == ["a#2", "a"]
    given = names(("a", "c:1"), ("a#2", ""))
    assert taken(given, ("a", ""), ("a", "")) == ["a#2", "a"]
    given = names(("a", "old:1"), ("a#2", "new:1"))
    assert taken(given, ("a", "new:1"), ("a", "new:1")) == ["a#2", "a"]


def test_within_the_same_code_nothing_moves_from_one_branch_to_another() -> None:
    given = names(("a", "c:1"))
    assert taken(given, ("a", "c:2")) == ["a#2"]
    assert given.unreached() == ("a",)


def test_what_no_call_has_come_to_is_unreached() -> None:
    given = names(("a", ""), ("a#2", ""), ("b", "c:1"), ("c", ""))
    assert sorted(given.unreached()) == ["a", "a#2", "b", "c"]
    taken(given, ("a", ""), ("c", ""), ("new", ""))
    assert sorted(given.unreached()) == ["a#2", "b"]


# Keys.


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a", ("a", 1)),
        ("a#2", ("a", 2)),
        ("a#10", ("a", 10)),
        ("a#b", ("a#b", 1)),
        ("a#b#3", ("a#b", 3)),
        ("#", ("#", 1)),
        ("issue #7b", ("issue #7b", 1)),
        ("ä b#2", ("ä b", 2)),
    ],
)
def test_a_key_is_a_name_and_how_often_it_was_called(key: str, expected: tuple[str, int]) -> None:
    assert split(key) == expected


# Any program of branches, in any order.

Calls = list[str]
Where = tuple[str, str, int]
"""A call: its name, its branch, and how many calls that branch made before."""

calls = st.lists(st.sampled_from("ab"), max_size=3)
programs = st.lists(st.lists(calls, min_size=1, max_size=4), max_size=4)
"""Parts one after another; each is calls outside of branches, or several branches at the same time."""


def execute(program: list[list[Calls]], known: dict[Where, str], chance: st.DataObject) -> bool:
    """Execute it with what is `known`, which grows. False if a worker's death cut it off.

    A call that death finds executing stops its branch, while the others go on.
    """
    given = names(*((key, branch) for (_, branch, _), key in known.items()))
    before = frozenset(known.values())
    forks, made, keys = count(1), Counter[str](), set[str]()
    for part in program:
        left = {"": list(part[0])} if len(part) == 1 else {f"c:{next(forks)}": list(each) for each in part}
        is_cut_off = False
        while ready := [branch for branch, calls in left.items() if calls]:
            branch = chance.draw(st.sampled_from(ready))
            where = left[branch].pop(0), branch, made[branch]
            made[branch] += 1
            key = given.take(where[0], branch)
            assert key not in keys, "two calls are one step"
            keys.add(key)
            if where in known:
                assert key == known[where], "a call did not get its own record back"
            else:
                assert key not in before, "a call got another's record"
                if chance.draw(st.integers(0, 3)):
                    known[where] = key
                else:
                    is_cut_off = True
                    left[branch].clear()
        if is_cut_off:
            return False
    assert given.unreached() == ()
    return True


@given(programs, st.data())
def test_every_call_gets_its_own_record_back_in_any_order_of_the_branches(
    program: list[list[Calls]], chance: st.DataObject
) -> None:
    known: dict[Where, str] = {}
    for _ in range(4):
        execute(program, known, chance)


@given(programs, programs, st.data())
def test_no_record_is_given_to_two_calls_however_the_code_was_changed(
    old: list[list[Calls]], new: list[list[Calls]], chance: st.DataObject
) -> None:
    known: dict[Where, str] = {}
    execute(old, known, chance)
    given = names(*((key, branch.replace("c", "old")) for (_, branch, _), key in known.items()))
    wanted = [(name, f"new:{number}") for part in new for number, calls in enumerate(part) for name in calls]
    keys = taken(given, *wanted)
    assert len(set(keys)) == len(keys)
    assert [split(key)[0] for key in keys] == [name for name, _ in wanted]
    # Whatever was recorded by a name is used up before anything new is.
    for name in "ab":
        recorded_keys = {key for key in known.values() if split(key)[0] == name}
        called = [key for key in keys if split(key)[0] == name]
        assert set(called[: len(recorded_keys)]) <= recorded_keys
    assert set(given.unreached()) == set(known.values()) - set(keys)
