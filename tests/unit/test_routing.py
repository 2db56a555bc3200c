from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.routing import Routes
from fanout.model import EventTrigger, FunctionSpec


def spec(id_: str, *names: str) -> FunctionSpec:
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=False,
        triggers=tuple(map(EventTrigger, names)),
    )  # fmt: skip


def matched(routes: Routes, event_name: str) -> list[str]:
    return [function.id for function in routes.match(event_name)]


ROUTES = Routes(
    [
        spec("signup", "app/user.signup"),
        spec("user", "app/user.*"),
        spec("app", "app/*"),
        spec("all", "*"),
        spec("several", "app/user.signup", "app/user.*", "app/*", "billing/paid", "app/user.signup"),
        spec("invoked"),
    ]
)


@pytest.mark.parametrize(
    ("event_name", "expected"),
    [
        ("app/user.signup", ["all", "app", "several", "signup", "user"]),
        ("app/user.signups", ["all", "app", "several", "user"]),
        ("app/user.", ["all", "app", "several", "user"]),
        ("app/user", ["all", "app", "several"]),
        ("app/", ["all", "app", "several"]),
        ("app", ["all"]),
        ("APP/user.signup", ["all"]),
        ("billing/paid", ["all", "several"]),
        ("billing/paid.twice", ["all"]),
        ("", ["all"]),
    ],
)
def test_names_match_exactly_or_by_an_open_tail_and_each_function_once(event_name: str, expected: list[str]) -> None:
    assert sorted(matched(ROUTES, event_name)) == expected


def test_nothing_matches_without_functions() -> None:
    assert Routes([]).match("app/user.signup") == []


def test_an_exact_match_gives_the_functions_in_the_order_of_their_declaration() -> None:
    routes = Routes([spec(id_, "a") for id_ in ("z", "m", "a")])
    assert matched(routes, "a") == ["z", "m", "a"]


def test_a_match_can_be_changed_by_the_caller_without_harm() -> None:
    routes = Routes([spec("one", "a"), spec("open", "b*")])
    routes.match("a").clear()
    routes.match("b").clear()
    assert (matched(routes, "a"), matched(routes, "b")) == (["one"], ["open"])


# A small alphabet, so that names and tails do meet.
names = st.text("ab/", max_size=4)
triggers = st.lists(st.builds(lambda name, tail: name + tail or "a", names, st.sampled_from(["", "*"])), max_size=4)


@given(st.lists(triggers, max_size=6), st.lists(names, max_size=6))
def test_matching_is_what_a_walk_over_all_triggers_would_find(functions: list[list[str]], events: list[str]) -> None:
    specs = [spec(f"f{number}", *each) for number, each in enumerate(functions)]
    routes = Routes(specs)
    for event in events:
        expected = {
            each.id
            for each in specs
            for trigger in each.triggers
            if isinstance(trigger, EventTrigger)
            and (event.startswith(trigger.name[:-1]) if trigger.name.endswith("*") else event == trigger.name)
        }
        found = matched(routes, event)
        assert set(found) == expected
        assert len(found) == len(expected)


class CountedName(str):
    """An event's name that counts how often it is looked at."""

    __slots__ = ("looks",)
    looks: int

    def __hash__(self) -> int:
        self.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        self.looks += 1
        return super().__eq__(other)

    def __getitem__(self, key: object) -> str:
        self.looks += 1
        return super().__getitem__(key)  # type: ignore[index]

    def startswith(self, *args: object) -> bool:
        self.looks += 1
        return super().startswith(*args)  # type: ignore[arg-type]


def looks(routes: Routes, name: str) -> int:
    counted = CountedName(name)
    counted.looks = 0
    assert len(routes.match(counted)) == 2
    return counted.looks


def test_matching_looks_as_often_among_2000_names_as_among_two() -> None:
    few = Routes([spec("f0", "app/thing.0"), spec("open0", "open/0.*", "app/*")])
    many = Routes(
        [spec(f"f{number}", f"app/thing.{number}") for number in range(2_000)]
        + [spec("open0", "app/*"), *(spec(f"open{number}", f"open/{number % 10}.*") for number in range(1, 2_000))]
    )
    assert looks(many, "app/thing.1999") == looks(few, "app/thing.0") <= 5
