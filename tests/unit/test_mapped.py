"""A map on the side of the function: which items it gives to the engine, and when; and what it makes of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanout
from fanout.errors import FanoutError, InvokeError, OutputError, UsageError
from fanout.model import StepKind, StepState
from fanout.protocol import Map, MapItems, RecordedStep
from fanout.worker.asking import ITEMS_A_MESSAGE, MAX_IN_FLIGHT, Mapped, room

CLAIM = 3
USE_FUNCTION = "give a function that has `@fanout.function(...)`, or the id of one"


class Receipt(msgspec.Struct):
    number: int


@fanout.function(id="charge-card")
def charge(ctx: object) -> Receipt:
    """One item's work."""
    return Receipt(1)


@fanout.function()
def plain(ctx: object):  # type: ignore[no-untyped-def]  # noqa: ANN201 - without what it returns
    """The same, which does not say what it returns."""


def mapped(items: Any, function: Any = charge, key: Callable[[Any], object] | None = None, **more: Any) -> Mapped:
    return Mapped("pay", function, items, **{"key": key, "max_in_flight": None, "on_error": "stop"} | more)


def items(first: int, *of: Any, is_last: bool = False) -> MapItems:
    """Of items without keys, or of (text, key)."""
    pairs = tuple(each if isinstance(each, tuple) else (each, None) for each in of)
    return MapItems(CLAIM, "pay", first, pairs, is_last)


def refusal(call: Callable[..., Any], *args: Any) -> tuple[type[FanoutError], str, str | None]:
    with pytest.raises(FanoutError) as raised:
        call(*args)
    return type(raised.value), raised.value.message, raised.value.hint


class Watched:
    """Numbers without an end, and how many of them were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in count():
            self.taken += 1
            yield number


# What is asked for.


def test_a_map_says_which_function_how_many_at_a_time_and_what_a_failure_means() -> None:
    assert mapped([]).request == Map("charge-card", MAX_IN_FLIGHT, False)
    assert mapped([], "shop/charge-card", max_in_flight=7, on_error="collect").request == Map(
        "shop/charge-card", 7, True
    )


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"max_in_flight": 0}, "step `pay`: `max_in_flight` is 0, not a whole number from 1", None),
        ({"max_in_flight": -5}, "step `pay`: `max_in_flight` is -5, not a whole number from 1", None),
        ({"max_in_flight": 2.0}, "step `pay`: `max_in_flight` is 2.0, not a whole number from 1", None),
        ({"max_in_flight": True}, "step `pay`: `max_in_flight` is True, not a whole number from 1", None),
        ({"on_error": "ignore"}, 'step `pay`: `on_error` is \'ignore\', not "stop" or "collect"', None),
        ({"on_error": None}, 'step `pay`: `on_error` is None, not "stop" or "collect"', None),
        ({"function": print}, "step `pay`: <built-in function print> is no function of fanout", USE_FUNCTION),
    ],
)
def test_a_map_that_cannot_be_is_refused(arguments: dict[str, Any], message: str, hint: str | None) -> None:
    assert refusal(lambda: mapped([1], **arguments)) == (UsageError, message, hint)


# Items.


@pytest.mark.parametrize(
    ("item", "data"),
    [
        ({"user": 7}, '{"user":7}'),
        ({}, "{}"),
        (Receipt(5), '{"number":5}'),
        (7, '{"item":7}'),
        ("a", '{"item":"a"}'),
        (None, '{"item":null}'),
        ([1, 2], '{"item":[1,2]}'),
    ],
)
def test_an_item_is_the_data_of_an_event_or_in_it(item: Any, data: str) -> None:
    assert mapped([item]).next_items(CLAIM, 9) == items(0, data, is_last=True)


def test_items_are_given_as_there_is_room_until_there_are_no_more() -> None:
    given = mapped([{"n": number} for number in range(5)])
    assert [given.next_items(CLAIM, 2) for _ in range(4)] == [
        items(0, '{"n":0}', '{"n":1}'),
        items(2, '{"n":2}', '{"n":3}'),
        items(4, '{"n":4}', is_last=True),
        None,
    ]


def test_nothing_left_is_said_once_also_if_the_last_message_was_full() -> None:
    given = mapped([1, 2])
    messages = [given.next_items(CLAIM, 2) for _ in range(3)]
    assert messages == [items(0, '{"item":1}', '{"item":2}'), items(2, is_last=True), None]


def test_no_items_at_all_are_an_end() -> None:
    assert mapped([]).next_items(CLAIM, 9) == items(0, is_last=True)


def test_a_message_has_only_so_many_items_however_much_room_there_is() -> None:
    given = mapped(range(ITEMS_A_MESSAGE + 3))
    messages = [given.next_items(CLAIM, 50_000) for _ in range(3)]
    assert [(each.first, len(each.items), each.is_last) for each in messages if each] == [
        (0, ITEMS_A_MESSAGE, False),
        (ITEMS_A_MESSAGE, 3, True),
    ]


def test_a_generator_is_taken_only_as_far_as_there_is_room() -> None:
    source = Watched()
    given = mapped(source)
    taken = [source.taken]
    for room_for in (3, 1, ITEMS_A_MESSAGE + 99):
        given.next_items(CLAIM, room_for)
        taken.append(source.taken)
    assert taken == [0, 3, 4, 4 + ITEMS_A_MESSAGE]


def test_what_a_generator_raises_comes_out_as_it_is() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("no page 2")

    given = mapped(broken())
    with pytest.raises(KeyError, match="no page 2"):
        given.next_items(CLAIM, 5)


def test_an_item_that_is_not_json_is_named_by_its_number_and_path() -> None:
    given = mapped([{"a": 1}, {"a": [object()]}])
    assert refusal(given.next_items, CLAIM, 5) == (
        OutputError,
        "item 1 of step `pay` has a `object` at `$.a[0]`, which can't be recorded as JSON",
        "return plain data: numbers, text, lists, dicts, dataclasses, datetimes",
    )


# When the function is entered again.


def test_as_many_are_passed_over_as_have_become_runs_already() -> None:
    given = mapped(range(10))
    given.skip(7)
    assert given.next_items(CLAIM, 2) == items(7, '{"item":7}', '{"item":8}')


def test_there_may_be_fewer_items_than_there_were() -> None:
    given = mapped(range(3))
    given.skip(7)
    assert given.next_items(CLAIM, 2) == items(3, is_last=True)


def test_to_pass_over_takes_no_item_too_many() -> None:
    source = Watched()
    given = mapped(source)
    given.skip(0)
    assert source.taken == 0
    given.skip(5)
    assert source.taken == 5


def test_items_that_are_passed_over_need_not_be_json() -> None:
    given = mapped([object(), object(), 2])
    given.skip(2)
    assert given.next_items(CLAIM, 5) == items(2, '{"item":2}', is_last=True)


def test_with_keys_all_items_are_given_again() -> None:
    """Items may have come and gone before those that are runs: only the keys tell."""
    given = mapped(["b", "new", "a"], key=str.upper)
    given.skip(2)
    assert given.next_items(CLAIM, 9) == items(
        0, ('{"item":"b"}', "B"), ('{"item":"new"}', "NEW"), ('{"item":"a"}', "A"), is_last=True
    )


# Keys.


def test_a_key_is_the_text_of_what_is_given_for_an_item() -> None:
    given = mapped([{"id": 7}, {"id": 8.5}, {"id": "x"}], key=lambda item: item["id"])
    assert given.next_items(CLAIM, 9) == items(
        0, ('{"id":7}', "7"), ('{"id":8.5}', "8.5"), ('{"id":"x"}', "x"), is_last=True
    )


@pytest.mark.parametrize("second", ["a", Receipt(1)])
def test_two_items_with_one_key_are_refused(second: Any) -> None:
    given = mapped(["a", "b", second], key=lambda item: item if item == "b" else "same")
    assert given.next_items(CLAIM, 2) is not None
    assert refusal(given.next_items, CLAIM, 2) == (
        UsageError,
        "step `pay`: item 2 has the key `same`, like one before it",
        None,
    )


def test_a_key_that_is_no_text_is_refused() -> None:
    given = mapped(["é", "\n", "b"], key=lambda item: "a\ud800" if item == "b" else item)
    assert given.next_items(CLAIM, 2) == items(0, ('{"item":"é"}', "é"), ('{"item":"\\n"}', "\n"))
    assert refusal(given.next_items, CLAIM, 1) == (
        UsageError,
        "step `pay`: item 2 has the key 'a\\ud800', which is no text",
        None,
    )


def test_keys_that_differ_only_in_kind_are_one() -> None:
    given = mapped([1, "1"], key=lambda item: item)
    assert refusal(given.next_items, CLAIM, 2) == (
        UsageError,
        "step `pay`: item 1 has the key `1`, like one before it",
        None,
    )


@given(st.integers(0, 60), st.lists(st.integers(1, 9), max_size=30), st.integers(0, 60))
def test_whatever_the_room_each_item_is_given_once_and_in_order(number: int, rooms: list[int], passed: int) -> None:
    given = mapped(range(number))
    given.skip(passed)
    messages = [each for room_for in [*rooms, *[9] * 10] if (each := given.next_items(CLAIM, room_for)) is not None]
    data = [data for each in messages for data, _ in each.items]
    assert data == [f'{{"item":{each}}}' for each in range(passed, number)]
    starts = [each.first for each in messages]
    assert starts == [
        min(passed, number) + sum(len(each.items) for each in messages[:at]) for at in range(len(messages))
    ]
    assert [each.is_last for each in messages] == [False] * (len(messages) - 1) + [True]


# Results.

ERROR = '{"type":"shop.CardError","message":"declined","traceback":"line 1"}'


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (charge, [Receipt(1), Receipt(2)]),
        (plain, [{"number": 1}, {"number": 2}]),
        ("charge-card", [{"number": 1}, {"number": 2}]),
    ],
)
def test_results_have_the_types_that_the_function_says(function: Any, expected: list[Any]) -> None:
    assert mapped([], function).results('[{"number":1},{"number":2}]') == expected


def test_no_items_give_no_results() -> None:
    assert mapped([]).results("[]") == []


@pytest.mark.parametrize(("function", "good"), [(charge, Receipt(1)), (plain, {"number": 1})])
def test_a_failed_item_is_an_error_in_its_place_and_the_others_are_what_they_would_be(function: Any, good: Any) -> None:
    given = mapped([], function, on_error="collect")
    results = given.results(f'{{"results":[null,{{"number":1}},null],"errors":{{"0":{ERROR},"2":{ERROR}}}}}')
    assert results[1] == good
    assert [type(each) for each in (results[0], results[2])] == [InvokeError, InvokeError]
    assert [
        (str(each), each.name, each.type, each.cause_message, each.traceback) for each in (results[0], results[2])
    ] == [
        (
            f"step `pay` failed: shop.CardError: item {number}: declined",
            "pay",
            "shop.CardError",
            f"item {number}: declined",
            "line 1",
        )
        for number in (0, 2)
    ]


def test_of_an_item_whose_own_step_failed_the_error_is_that_steps() -> None:
    error = '{"type":"StepError","message":"step `charge` failed: shop.CardError: declined","traceback":"line 1"}'
    [found] = mapped([], plain, on_error="collect").results(f'{{"results":[null],"errors":{{"0":{error}}}}}')
    assert (str(found), found.type, found.item) == (
        "step `pay` failed: shop.CardError: item 0: declined", "shop.CardError", 0,
    )  # fmt: skip


def test_a_null_that_was_returned_is_none_and_no_error() -> None:
    assert mapped([], plain, on_error="collect").results("[null,1]") == [None, 1]


# Room.


@pytest.mark.parametrize(("progress", "expected"), [(None, 0), ((7, 3), 3), ((7, 0), 0)])
def test_there_is_as_much_room_as_the_engine_says(progress: tuple[int, int] | None, expected: int) -> None:
    step = RecordedStep("pay", "", StepState.WAITING, 1, None, None, None, progress, StepKind.MAP)
    assert room(step) == expected


def test_more_in_flight_than_any_map_has_items_is_as_many_as_there_can_be() -> None:
    assert mapped([], max_in_flight=10**30).request.max_in_flight == 2**31
