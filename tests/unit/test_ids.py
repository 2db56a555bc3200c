from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.ids import UlidFactory, encode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MAX_MS = 2**48 - 1


def decode(text: str) -> int:
    number = 0
    for character in text:
        number = number * 32 + ALPHABET.index(character)
    return number


def test_the_published_example_of_its_time() -> None:
    """github.com/ulid/spec: 01ARYZ6S41 is 1469918176385."""
    assert UlidFactory()(1_469_918_176_385)[:10] == "01ARYZ6S41"


def test_the_largest_and_the_smallest_number() -> None:
    assert encode(0) == "0" * 26
    assert encode(2**128 - 1) == "7" + "Z" * 25


@given(st.integers(0, 2**128 - 1))
def test_26_characters_of_the_alphabet_give_the_number_back(number: int) -> None:
    text = encode(number)
    assert len(text) == 26
    assert set(text) <= set(ALPHABET)
    assert decode(text) == number


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_text_sorts_as_the_numbers_do(one: int, other: int) -> None:
    assert (encode(one) < encode(other)) == (one < other)


def test_ids_of_one_millisecond_grow_and_stay_in_it() -> None:
    new_id = UlidFactory()
    made = [new_id(5) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {decode(each) >> 80 for each in made} == {5}


def test_the_largest_chance_leaves_room_to_count_within_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", lambda size: b"\xff" * size)
    new_id = UlidFactory()
    assert [decode(new_id(5)) >> 80 for _ in range(1_000)] == [5] * 1_000


def test_ids_of_one_millisecond_are_counted_up_beyond_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", lambda size: (0x1F_FFFC).to_bytes(size, "big"))
    new_id = UlidFactory()
    made = [decode(new_id(5)) - (5 << 80) for _ in range(5)]
    assert made == [0xF_FFFE, 0xF_FFFF, 0x10_0000, 0x10_0001, 0x10_0002]


def test_ids_grow_when_the_clock_goes_back_and_follow_it_when_it_is_ahead_again() -> None:
    new_id = UlidFactory()
    made = [new_id(now) for now in (1_000, 400, 999, 1_000, 1_001, 5_000)]
    assert made == sorted(set(made))
    assert [decode(each) >> 80 for each in made] == [1_000, 1_000, 1_000, 1_000, 1_001, 5_000]


@given(st.lists(st.integers(0, MAX_MS), min_size=1, max_size=50))
def test_whatever_the_clock_does_ids_only_grow(clock: list[int]) -> None:
    new_id = UlidFactory()
    made = [new_id(now) for now in clock]
    assert made == sorted(set(made))
    assert {len(each) for each in made} == {26}


def test_two_factories_do_not_make_the_same_id() -> None:
    one, other = UlidFactory(), UlidFactory()
    assert not {one(7) for _ in range(1_000)} & {other(7) for _ in range(1_000)}
