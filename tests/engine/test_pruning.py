"""The engine removes what is old, by itself and when it is asked: beside its work, and whatever crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fanout.core.retention import DAY_MS, Keep
from fanout.engine import pruning
from fanout.engine.pruning import EVERY_MS, LEAST, MOST, Pruning, next_most
from fanout.journal.pruning import Part, Place, Pruned, Slice
from fanout.journal.sqlite_care import CareReader
from tests.engine.conftest import Simulate
from tests.engine.scripts import Faults, Invoke, Sleep, Step, event, function
from tests.engine.simulation import Simulation

HOUR = 3600 * 1000
KEEP = Keep(7 * DAY_MS, 30 * DAY_MS)


def go_on(simulation: Simulation, milliseconds: int) -> None:
    simulation.run(for_ms=milliseconds)


def turn(simulation: Simulation, milliseconds: int) -> None:
    simulation.clock.now += milliseconds


def prune(simulation: Simulation, **keep: int | None) -> None:
    simulation._sender.append_request("prune", keep, simulation.clock())
    simulation.bell.is_rung = True


def is_whole(simulation: Simulation) -> None:
    with CareReader(simulation.path) as reader:
        assert [each for each in reader.findings() if each.number] == []


def test_it_prunes_about_hourly_and_a_little_after_its_start(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s")), keep=KEEP)
    simulation.send(*[event() for _ in range(5)])
    go_on(simulation, 10_000)
    turn(simulation, 7 * DAY_MS - HOUR)
    go_on(simulation, 10_000)
    assert len(simulation.states()) == 5
    turn(simulation, HOUR)
    go_on(simulation, 10_000)
    # The newest run stays, whatever its age.
    assert [*simulation.states()] == [5]
    is_whole(simulation)
    simulation.restart()
    simulation.send()
    go_on(simulation, 10_000)
    assert [*simulation.states()] == [6]


def test_without_a_word_it_keeps_everything(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s")))
    simulation.send(event(), event())
    go_on(simulation, 1_000)
    turn(simulation, 400 * DAY_MS)
    go_on(simulation, 2 * 1_000)
    assert len(simulation.states()) == 2


def test_what_lives_goes_on_as_if_nothing_had_been_removed(simulate: Simulate) -> None:
    simulation = simulate(
        function("f", Step("s")),
        function("slow", Step("a"), Invoke("child"), Sleep(20 * DAY_MS), Step("b"), on=("app/slow",)),
        function("child", Step("c"), on=()),
        keep=KEEP,
    )
    simulation.send(event("app/slow"))
    simulation.send(event(), event())
    go_on(simulation, 10_000)
    turn(simulation, 10 * DAY_MS)
    go_on(simulation, 10_000)
    slow, child = (simulation.rows("SELECT key FROM run WHERE function = ?", name)[0][0] for name in ("slow", "child"))
    assert {slow, child} <= set(simulation.states())
    assert simulation.rows("SELECT count(*) FROM run WHERE function = 'f'") == [(0,)]
    turn(simulation, 10 * DAY_MS)
    simulation.restart()
    go_on(simulation, 60_000)
    assert simulation.state(slow) == "completed"
    is_whole(simulation)


def test_a_request_is_handled_when_all_has_gone_and_says_how_much(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s")))
    simulation.send(*[event() for _ in range(40)])
    go_on(simulation, 10_000)
    turn(simulation, 2 * HOUR)
    prune(simulation, completed=HOUR, failed=HOUR, events=None)
    go_on(simulation, 10_000)
    ((outcome,),) = simulation.rows("SELECT outcome FROM request WHERE handled_at IS NOT NULL")
    assert outcome == '{"runs":39,"steps":39,"events":39,"ticks":0,"requests":0,"limits":0}'
    assert [*simulation.states()] == [40]
    assert simulation.bell.told > 0


def test_requests_are_done_one_after_another_and_others_meanwhile(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s")))
    simulation.send(*[event() for _ in range(3)])
    go_on(simulation, 10_000)
    turn(simulation, 2 * HOUR)
    for _ in range(25):
        prune(simulation, completed=HOUR, failed=HOUR, events=None)
    simulation.replay(3, again=True)
    go_on(simulation, 20_000)
    assert simulation.rows("SELECT count(*) FROM request WHERE handled_at IS NULL") == [(0,)]
    assert simulation.states()[4] == "completed"


def test_crashed_at_any_moment_nothing_is_lost_and_the_next_engine_goes_on(simulate: Simulate) -> None:
    def history(faults: Faults | None = None) -> Simulation:
        simulation = simulate(
            function("f", Step("s"), Invoke("child")), function("child", Step("c"), on=()), keep=KEEP,
            faults=faults,
        )  # fmt: skip
        simulation.send(*[event() for _ in range(12)])
        go_on(simulation, 10_000)
        turn(simulation, 8 * DAY_MS)
        simulation.send(event())
        go_on(simulation, 60_000)
        return simulation

    quiet = history()
    assert len(quiet.states()) == 2
    for number in range(1, quiet.faults.commits + 1):
        simulation = history(Faults.at("after", number))
        assert simulation.states() == quiet.states(), number
        is_whole(simulation)
        simulation.close()


def test_a_stopping_engine_prunes_no_more(simulate: Simulate) -> None:
    simulation = simulate(function("f", Step("s")), keep=KEEP)
    simulation.send(event(), event())
    go_on(simulation, 500)
    turn(simulation, 8 * DAY_MS)
    simulation.engine.stop()
    go_on(simulation, 5_000)
    assert len(simulation.states()) == 2


# When it does how much.


class SlowJournal:
    """Slices that take as long as they are told."""

    def __init__(self, slices: int, takes_ms: int) -> None:
        self.now = 0
        self.slices = slices
        self.takes_ms = takes_ms
        self.sizes: list[int] = []
        self.requests: list[Any] = []
        self.done: list[tuple[int, Pruned, int]] = []

    def clock(self) -> int:
        return self.now

    def prune(self, place: Place, _cutoffs: object, most: int, _removing: object) -> Slice:
        self.sizes.append(most)
        self.now += self.takes_ms
        left = self.slices - len(self.sizes)
        return Slice(Place(place.part, (left,)) if left else None, Pruned(runs=1))

    def prune_request(self) -> Any:
        return None


def slices(journal: SlowJournal, for_ms: int, *, is_idle: Callable[[int], bool]) -> int:
    made: Any = journal
    part = Pruning(made, KEEP, clock=journal.clock)
    end = journal.now + for_ms
    while journal.now < end:
        before = journal.now
        part.work(journal.now, is_idle=is_idle(journal.now))
        journal.now = max(journal.now, before + 1)
    return len(journal.sizes)


def test_an_idle_engine_prunes_half_of_its_time() -> None:
    journal = SlowJournal(10**6, 5)
    assert 95 <= slices(journal, 2_000, is_idle=lambda _: True) <= 101


def test_a_busy_engine_prunes_a_tenth_of_its_time_and_is_never_kept_from_it() -> None:
    journal = SlowJournal(10**6, 5)
    assert 17 <= slices(journal, 2_000, is_idle=lambda _: False) <= 20


def test_after_a_pass_it_rests_for_an_hour() -> None:
    journal = SlowJournal(3, 5)
    made: Any = journal
    part = Pruning(made, KEEP, clock=journal.clock)
    assert part.next_at == pruning.FIRST_AFTER_MS
    while journal.now < 3_000:
        part.work(journal.now, is_idle=True)
        journal.now += 1
    assert len(journal.sizes) == 3
    assert part.next_at is not None
    assert EVERY_MS < part.next_at < EVERY_MS + 3_000
    # A clock that is set back puts nothing off.
    journal.now = -EVERY_MS
    part.work(journal.now, is_idle=True)
    assert part.next_at == 0


def test_slices_are_as_large_as_they_are_quick() -> None:
    most = LEAST
    for _ in range(40):
        most = next_most(most, 0)
    assert most == MOST
    assert next_most(most, 6) == most
    for _ in range(40):
        most = next_most(most, 20)
    assert most == LEAST


def test_a_pass_goes_through_all_parts() -> None:
    assert [*Part] == ["requests", "limits", "runs", "events", "own events", "space"]
    with pytest.raises(ValueError, match="nothing"):
        Part("nothing")
