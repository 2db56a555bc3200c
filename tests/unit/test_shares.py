from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.core.shares import shares

demands = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 40), min_size=1)
numbers = st.integers(1, 60)


@given(demands, numbers)
def test_every_app_has_one_and_together_they_have_no_more_than_there_are(demand: dict[str, int], most: int) -> None:
    given = shares(demand, most)
    assert given.keys() == demand.keys()
    assert min(given.values()) >= 1
    assert sum(given.values()) <= max(most, len(demand))


@given(demands, numbers)
def test_none_has_more_than_it_can_use_but_its_one(demand: dict[str, int], most: int) -> None:
    assert all(has <= max(1, demand[app]) for app, has in shares(demand, most).items())


@given(demands, numbers)
def test_nothing_is_left_while_one_could_use_more(demand: dict[str, int], most: int) -> None:
    given = shares(demand, most)
    wanted = sum(max(1, each) for each in demand.values())
    assert sum(given.values()) == max(len(demand), min(most, wanted))


@given(demands, numbers)
def test_who_goes_short_has_as_many_as_any_other_or_one_less(demand: dict[str, int], most: int) -> None:
    given = shares(demand, most)
    short = [has for app, has in given.items() if has < demand[app]]
    assert all(has + 1 >= max(given.values()) for has in short)


@given(demands, numbers)
def test_one_more_process_takes_from_nobody(demand: dict[str, int], most: int) -> None:
    fewer, more = shares(demand, most), shares(demand, most + 1)
    assert all(more[app] >= has for app, has in fewer.items())


def test_a_backlog_leaves_the_others_theirs() -> None:
    assert shares({"a": 1_000, "b": 3, "c": 1}, 8) == {"a": 4, "b": 3, "c": 1}
    assert shares({"a": 1_000, "b": 3, "c": 0}, 2) == {"a": 1, "b": 1, "c": 1}
    assert shares({"a": 1_000, "b": 1_000}, 5) == {"a": 3, "b": 2}
