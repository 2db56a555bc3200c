from __future__ import annotations

from typing import cast

import msgspec

from fanout.core import flow
from fanout.core.places import THROTTLE, TICKS, Place
from fanout.engine.limits import FreeSlot, Limits, Paused, Permit, TickBefore
from fanout.engine.queue import Until
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import QueuedRun
from fanout.model import NO_RULES, ConcurrencyRule, FlowRules, FunctionSpec, ThrottleRule

NOW = 1_760_000_000_000
SECOND = ThrottleRule(1, 1_000)


class KeptLimits:
    """As much of a journal as limits ask for."""

    def __init__(self, *paused: str) -> None:
        self.values: dict[tuple[str, str, str], int] = {}
        self.going: set[str] = set()
        """Functions of which a tick's run has begun and is not over."""
        self._paused = paused

    def paused(self) -> list[str]:
        return list(self._paused)

    def limit_value(self, function: str, kind: str, key: str) -> int | None:
        return self.values.get((function, kind, key))

    def has_begun(self, function: str, singleton: str) -> bool:
        assert singleton == TICKS
        return function in self.going


class Limited:
    """Limits with their journal, and workers that have a slot or not."""

    def __init__(self, *specs: FunctionSpec, paused: tuple[str, ...] = ()) -> None:
        self.journal = KeptLimits(*paused)
        self.full: set[str] = set()
        self.specs = {each.id: each for each in specs}
        self.limits = self.restarted()

    def restarted(self) -> Limits:
        limits = Limits(cast(Journal, self.journal), has_slot=lambda app: app not in self.full)
        limits.learn(self.specs, ())
        return limits

    def decide(self, now: int) -> Tick:
        tick = Tick()
        self.limits.look(now)
        self.limits.decide(tick, now)
        self.journal.values.update(tick.writes.limits)
        return tick


def spec(id_: str = "f", rules: FlowRules = NO_RULES, **more: object) -> FunctionSpec:
    made = FunctionSpec(id=id_, name=id_, module="m", qualname=id_, file="f.py", line=1, is_async=False, app="shop")
    return msgspec.structs.replace(made, flow=rules, **more)


def run(key: int, function: str = "f", *keys: str, throttle: str | None = None, has_begun: bool = False) -> QueuedRun:
    partition = flow.partition(keys, throttle)
    partition = flow.begun(partition) if has_begun else partition
    return QueuedRun(key, f"r{key}", function, partition, 1, 0, 0, 0, False, NOW if has_begun else None)


def tick_run(key: int, function: str = "f", throttle: str | None = None, *, has_begun: bool = False) -> QueuedRun:
    """Of a tick that waits for the one before."""
    return run(key, function, has_begun=has_begun)._replace(partition=flow.partition((), throttle, is_sequence=True))


def limited(*rules: ConcurrencyRule) -> FlowRules:
    return FlowRules(concurrency=rules)


# Places.


def test_without_rules_only_a_slot_is_needed() -> None:
    place = Limited(spec())
    assert place.limits.obstacle(run(1)) is None
    place.full.add("shop")
    assert place.limits.obstacle(run(1)) == FreeSlot("shop")
    assert list(place.limits.release(run(1))) == []


def test_each_key_has_places_of_its_own_and_they_come_back() -> None:
    limits = Limited(spec("f", limited(ConcurrencyRule(2, "event.data.k")))).limits
    one, two, three, other = run(1, "f", "a"), run(2, "f", "a"), run(3, "f", "a"), run(4, "f", "b")
    limits.hold(one)
    assert limits.obstacle(two) is None
    limits.hold(two)
    full = Place("f", "0", "a")
    assert (limits.obstacle(three), limits.obstacle(other)) == (full, None)
    assert list(limits.release(one)) == [full]
    assert limits.obstacle(three) is None


def test_who_holds_a_place_twice_holds_one_and_gives_back_all() -> None:
    limits = Limited(spec("f", limited(ConcurrencyRule(2)))).limits
    limits.hold(run(1, "f", "null"))
    limits.hold(run(1, "f", "null"))
    assert limits.obstacle(run(2, "f", "null")) is None
    for _ in range(2):
        assert list(limits.release(run(1, "f", "null"))) == [Place("f", "0", "null")]
    limits.hold(run(2, "f", "null"))
    limits.hold(run(3, "f", "null"))
    assert limits.obstacle(run(4, "f", "null")) == Place("f", "0", "null")


def test_functions_share_the_places_of_their_app_by_the_keys_value() -> None:
    limits = Limited(
        spec("f", limited(ConcurrencyRule(1, "event.data.k", "app"))),
        spec("g", limited(ConcurrencyRule(2, "event.data.other", "app"))),
        spec("h", limited(ConcurrencyRule(1, None, "app"))),
    ).limits
    limits.hold(run(1, "f", "a"))
    shared = Place("", "shop:key", "a")
    assert limits.obstacle(run(2, "f", "a")) == shared
    assert limits.obstacle(run(3, "g", "a")) is None  # Its own limit is higher.
    limits.hold(run(3, "g", "a"))
    assert limits.obstacle(run(4, "g", "a")) == shared
    assert limits.obstacle(run(5, "g", "b")) is None
    # A key whose value is null, and no key, are not the same.
    limits.hold(run(6, "f", "null"))
    assert limits.obstacle(run(7, "h", "null")) is None
    limits.hold(run(7, "h", "null"))
    assert limits.obstacle(run(8, "h", "null")) == Place("", "shop:all", "null")


def test_of_two_rules_both_have_to_have_room() -> None:
    limits = Limited(spec("f", limited(ConcurrencyRule(1, "event.data.k"), ConcurrencyRule(2)))).limits
    limits.hold(run(1, "f", "a", "null"))
    assert limits.obstacle(run(2, "f", "a", "null")) == Place("f", "0", "a")
    limits.hold(run(3, "f", "b", "null"))
    assert limits.obstacle(run(4, "f", "c", "null")) == Place("f", "1", "null")


def test_runs_of_a_schedule_that_wait_for_one_another_have_one_place() -> None:
    limits = Limited(spec()).limits
    limits.hold(tick_run(1))
    assert limits.obstacle(tick_run(2)) == Place("f", TICKS, "")
    assert limits.obstacle(run(3)) is None
    limits.hold(run(3))
    assert list(limits.release(tick_run(1))) == [Place("f", TICKS, "")]
    assert limits.obstacle(tick_run(2)) is None


def test_the_run_of_a_tick_is_behind_one_that_has_begun_and_waits() -> None:
    place = Limited(spec(), spec("g"))
    place.journal.going.add("f")
    assert place.limits.obstacle(tick_run(1)) == TickBefore("f")
    assert place.limits.obstacle(tick_run(1, has_begun=True)) is None
    assert (place.limits.obstacle(run(2)), place.limits.obstacle(tick_run(3, "g"))) == (None, None)
    assert place.limits.shut(tick_run(1)) is None


def test_who_waits_for_the_tick_before_asks_for_no_permit() -> None:
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    place.journal.going.add("f")
    first = tick_run(1, throttle="null")
    assert place.limits.obstacle(first) == TickBefore("f")
    assert not place.limits.has_questions


# Pauses.


def test_what_is_paused_does_not_start_until_it_is_resumed() -> None:
    limits = Limited(spec("f"), spec("g"), paused=("f",)).limits
    assert (limits.obstacle(run(1, "f")), limits.obstacle(run(2, "g"))) == (Paused("f"), None)
    limits.pause(["g"])
    limits.unpause("f")
    assert (limits.obstacle(run(1, "f")), limits.obstacle(run(2, "g"))) == (None, Paused("g"))


def test_what_has_begun_goes_on_though_it_is_paused() -> None:
    place = Limited(spec("f", limited(ConcurrencyRule(1, "event.data.k"))), paused=("f",))
    again = run(1, "f", "a", has_begun=True)
    assert place.limits.obstacle(again) is None
    place.limits.hold(run(2, "f", "a"))
    assert (place.limits.obstacle(again), place.limits.obstacle(run(3, "f", "a"))) == (
        Place("f", "0", "a"),
        Paused("f"),
    )
    assert list(place.limits.release(again)) == [Place("f", "0", "a")]


# Throttles.


def test_a_permit_is_asked_for_decided_with_the_commit_and_used_once() -> None:
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    limits, permit = place.limits, Permit("f", "null")
    asked = [limits.has_questions, limits.obstacle(run(1, throttle="null")), limits.has_questions]
    assert asked == [False, permit, True]
    tick = place.decide(NOW)
    assert (tick.permits, list(tick.writes.limits), limits.has_questions) == (
        [permit],
        [("f", THROTTLE, "null")],
        False,
    )
    assert limits.obstacle(run(1, throttle="null")) is None
    limits.hold(run(1, throttle="null"))
    assert limits.spend(run(1, throttle="null")) == permit
    assert limits.obstacle(run(2, throttle="null")) == permit
    assert place.decide(NOW).permits == [permit]
    assert limits.obstacle(run(2, throttle="null")) == Until(NOW + 1_000, permit)
    limits.look(NOW + 1_000)
    assert limits.obstacle(run(2, throttle="null")) == permit
    place.decide(NOW + 1_000)
    assert limits.obstacle(run(2, throttle="null")) is None


def test_a_permit_that_could_not_be_used_at_once_is_as_if_it_had_not_been_given() -> None:
    """Or its start would come when the next one does."""
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    limits, permit, first = place.limits, Permit("f", "null"), run(1, throttle="null")
    limits.obstacle(first)
    place.decide(NOW)
    place.full.add("shop")
    assert limits.obstacle(first) == FreeSlot("shop")
    place.full.clear()
    limits.look(NOW + 700)
    assert limits.obstacle(first) == permit
    place.decide(NOW + 700)
    assert limits.obstacle(first) is None
    limits.spend(first)
    limits.obstacle(run(2, throttle="null"))
    place.decide(NOW + 1_000)
    assert limits.obstacle(run(2, throttle="null")) == Until(NOW + 1_700, permit)


def test_a_permit_that_was_not_used_before_a_restart_is_not_used_after_it() -> None:
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    place.limits.obstacle(run(1, throttle="null"))
    place.decide(NOW)
    place.limits = place.restarted()
    assert place.limits.obstacle(run(1, throttle="null")) == Permit("f", "null")
    place.decide(NOW + 500)
    assert place.limits.obstacle(run(1, throttle="null")) == Until(NOW + 1_000, Permit("f", "null"))


def test_who_has_begun_needs_no_permit_and_uses_up_nobodys() -> None:
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    limits = place.limits
    again = run(1, throttle="null", has_begun=True)
    assert limits.obstacle(again) is None
    limits.obstacle(run(2, throttle="null"))
    place.decide(NOW)
    limits.hold(again)
    assert limits.spend(again) is None
    assert limits.obstacle(run(2, throttle="null")) is None
    assert limits.spend(run(2, throttle="null")) == Permit("f", "null")
    assert limits.spend(run(2, throttle="null")) is None


def test_each_key_has_its_own_throttle_and_who_has_no_slot_does_not_ask() -> None:
    place = Limited(spec("f", FlowRules(throttle=ThrottleRule(1, 1_000, 1, "event.data.k"))))
    place.full.add("shop")
    assert place.limits.obstacle(run(1, throttle="a")) == FreeSlot("shop")
    assert not place.limits.has_questions
    place.full.clear()
    for key in "ab":
        place.limits.obstacle(run(1, throttle=key))
    assert sorted(place.decide(NOW).permits) == [Permit("f", "a"), Permit("f", "b")]  # type: ignore[type-var]
    assert [place.limits.obstacle(run(1, throttle=key)) for key in "abc"] == [None, None, Permit("f", "c")]


def test_after_a_step_back_of_the_clock_nobody_waits_for_the_time_that_was_said_before_it() -> None:
    place = Limited(spec("f", FlowRules(throttle=SECOND)))
    permit, first = Permit("f", "null"), run(1, throttle="null")
    place.limits.obstacle(first)
    place.decide(NOW)
    place.limits.spend(first)
    place.limits.obstacle(first)
    place.decide(NOW)
    assert place.limits.obstacle(first) == Until(NOW + 1_000, permit)
    place.limits.look(NOW - 3_600_000)
    assert place.limits.obstacle(first) == permit
    place.decide(NOW - 3_600_000)
    assert place.limits.obstacle(first) == Until(NOW - 3_599_000, permit)


def test_what_was_decided_is_forgotten_when_it_makes_no_difference_any_more() -> None:
    place = Limited(spec("f", FlowRules(throttle=ThrottleRule(1, 1_000, 1, "event.data.k"))))
    for number in range(2):
        for key in "abc":
            place.limits.obstacle(run(number, throttle=key))
        place.decide(NOW)
        place.limits.spend(run(1, throttle="a"))
    assert [place.limits.obstacle(run(1, throttle=key)) for key in "abc"] == [
        Until(NOW + 1_000, Permit("f", "a")), None, None,
    ]  # fmt: skip
    place.limits.look(NOW + 1_000)
    assert (place.limits._not_before, place.limits._granted, place.limits._forgotten) == ({}, {}, [])
    assert place.limits.obstacle(run(1, throttle="b")) == Permit("f", "b")
