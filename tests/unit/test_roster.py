from __future__ import annotations

from fanout.engine.roster import Active, Roster
from fanout.journal import QueuedRun
from fanout.model import FunctionSpec

SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)


def active(claim: int, worker: int, *, is_suspect: bool = False) -> Active:
    run = QueuedRun(100 + claim, f"r{claim}", "f", "", 1, 0, 0, 0, is_suspect)
    return Active(claim, run, SPEC, worker, started_at=claim)


def roster(*workers: int, slots: int = 2) -> Roster:
    made = Roster(slots)
    for worker in workers:
        made.join(worker)
    return made


def start(workers: Roster, claim: int, worker: int, *, is_suspect: bool = False) -> Active:
    started = active(claim, worker, is_suspect=is_suspect)
    workers.start(started)
    return started


def test_who_has_joined_is_in_it() -> None:
    workers = roster(3, 5)
    assert (len(workers), 3 in workers, 4 in workers) == (2, True, False)


def test_nobody_is_free_where_nobody_is() -> None:
    assert (roster().freest(), roster().reserve()) == (None, None)


def test_the_freest_has_the_most_free_slots_and_the_first_wins_a_tie() -> None:
    workers = roster(1, 2, 3, slots=2)
    given = []
    for claim in range(7):
        worker = workers.freest()
        given.append(worker)
        if worker is not None:
            start(workers, claim, worker)
    assert given == [1, 2, 3, 1, 2, 3, None]


def test_a_slot_is_free_again_when_an_execution_ends() -> None:
    workers = roster(1, slots=1)
    one = start(workers, 1, 1)
    assert workers.freest() is None
    workers.end(one)
    assert (workers.freest(), workers.active, one.is_over) == (1, {}, True)


def test_a_worker_that_leaves_gives_back_what_it_executed_in_the_order_of_its_start() -> None:
    workers = roster(1, 2, slots=9)
    started = [start(workers, claim, 1 + claim % 2) for claim in (1, 8, 17, 24, 9)]
    assert workers.leave(2) == [started[0], started[4], started[2]]
    assert workers.active == {8: started[1], 24: started[3]}
    assert (len(workers), 2 in workers, workers.freest()) == (1, False, 1)


def test_the_order_is_that_of_the_claims() -> None:
    workers = roster(1, slots=9)
    eight, one = start(workers, 8, 1), start(workers, 1, 1)
    assert workers.leave(1) == [one, eight]


def test_a_worker_that_never_joined_leaves_nothing() -> None:
    workers = roster(1)
    assert (workers.leave(7), len(workers)) == ([], 1)


def test_an_empty_worker_is_reserved_at_once_and_gets_nothing_else() -> None:
    workers = roster(1, 2, slots=2)
    start(workers, 1, 1)
    assert (workers.reserve(), workers.freest()) == (2, 1)
    assert workers.reserve() == 2


def test_the_emptiest_is_reserved_and_ready_when_its_last_execution_has_ended() -> None:
    workers = roster(1, 2, slots=3)
    start(workers, 1, 1)
    start(workers, 2, 1)
    last = start(workers, 3, 2)
    assert (workers.reserve(), workers.freest()) == (None, 1)
    workers.end(last)
    assert (workers.reserve(), workers.freest()) == (2, 1)


def test_the_only_worker_can_be_reserved() -> None:
    workers = roster(1)
    assert (workers.reserve(), workers.freest()) == (1, None)


def test_a_reserved_worker_is_open_again_after_release() -> None:
    workers = roster(1)
    workers.reserve()
    workers.release()
    assert workers.freest() == 1


def test_a_release_does_not_open_a_worker_while_a_suspect_is_in_it() -> None:
    workers = roster(1, slots=2)
    suspect = start(workers, 1, 1, is_suspect=True)
    workers.reserve()
    workers.release()
    assert (workers.freest(), workers.reserve()) == (None, None)
    workers.end(suspect)
    workers.release()
    assert workers.freest() == 1


def test_a_release_without_a_reservation_changes_nothing() -> None:
    workers = roster(1)
    workers.release()
    assert workers.freest() == 1


def test_another_is_reserved_when_the_reserved_one_dies() -> None:
    workers = roster(1, 2)
    suspect = start(workers, 1, 1, is_suspect=True)
    workers.end(suspect)
    assert workers.reserve() == 1
    assert workers.leave(1) == []
    assert (workers.freest(), workers.reserve(), workers.freest()) == (2, 2, None)


def test_one_that_joins_takes_new_runs_while_the_other_is_reserved() -> None:
    workers = roster(1)
    assert workers.reserve() == 1
    workers.join(2)
    assert (workers.freest(), workers.reserve()) == (2, 1)
