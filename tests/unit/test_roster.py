from __future__ import annotations

from fanout.engine.roster import Active, Roster
from fanout.journal.rows import QueuedRun
from fanout.model import FunctionSpec, TimeLimits

APP = "shop"
SPEC = FunctionSpec(id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False)


def active(claim: int, worker: int, *, is_suspect: bool = False, run: int | None = None) -> Active:
    key = 100 + claim if run is None else run
    return Active(claim, QueuedRun(key, f"r{key}", "f", "", 1, 0, 0, 0, is_suspect), SPEC, worker, started_at=claim)


def always(_active: Active) -> bool:
    return True


def roster(*workers: int, slots: int = 2) -> Roster:
    made = Roster(slots)
    for worker in workers:
        made.join(worker, APP)
    return made


def start(workers: Roster, claim: int, worker: int, *, is_suspect: bool = False) -> Active:
    started = active(claim, worker, is_suspect=is_suspect)
    workers.start(started)
    return started


def park(workers: Roster, claim: int, worker: int) -> Active:
    """One that was started, and then gave its slot back."""
    parked = start(workers, claim, worker)
    workers.park(parked)
    return parked


def test_who_has_joined_is_in_it() -> None:
    workers = roster(3, 5)
    assert (len(workers), 3 in workers, 4 in workers) == (2, True, False)


def test_nobody_is_free_where_nobody_is() -> None:
    assert (roster().freest(APP), roster().reserve(APP)) == (None, None)


def test_the_freest_has_the_most_free_slots_and_the_first_wins_a_tie() -> None:
    workers = roster(1, 2, 3, slots=2)
    given = []
    for claim in range(7):
        worker = workers.freest(APP)
        given.append(worker)
        if worker is not None:
            start(workers, claim, worker)
    assert given == [1, 2, 3, 1, 2, 3, None]


def test_a_slot_is_free_again_when_an_execution_ends() -> None:
    workers = roster(1, slots=1)
    one = start(workers, 1, 1)
    assert workers.freest(APP) is None
    workers.end(one)
    assert (workers.freest(APP), workers.active, one.is_over) == (1, {}, True)


def test_a_worker_that_leaves_gives_back_what_it_executed_in_the_order_of_its_start() -> None:
    workers = roster(1, 2, slots=9)
    started = [start(workers, claim, 1 + claim % 2) for claim in (1, 8, 17, 24, 9)]
    assert workers.leave(2) == ([started[0], started[4], started[2]], [])
    assert workers.active == {8: started[1], 24: started[3]}
    assert workers.by_run == {108: started[1], 124: started[3]}
    assert [each.is_over for each in started] == [True, False, True, False, True]
    assert (len(workers), 2 in workers, workers.freest(APP)) == (1, False, 1)


def test_the_order_is_that_of_the_claims() -> None:
    workers = roster(1, slots=9)
    eight, one = start(workers, 8, 1), start(workers, 1, 1)
    assert workers.leave(1) == ([one, eight], [])


def test_a_worker_that_never_joined_leaves_nothing() -> None:
    workers = roster(1)
    assert (workers.leave(7), len(workers)) == (([], []), 1)


def test_an_empty_worker_is_reserved_at_once_and_gets_nothing_else() -> None:
    workers = roster(1, 2, slots=2)
    start(workers, 1, 1)
    assert (workers.reserve(APP), workers.freest(APP)) == (2, 1)
    assert workers.reserve(APP) == 2


def test_the_emptiest_is_reserved_and_ready_when_its_last_execution_has_ended() -> None:
    workers = roster(1, 2, slots=3)
    start(workers, 1, 1)
    start(workers, 2, 1)
    last = start(workers, 3, 2)
    assert (workers.reserve(APP), workers.is_empty(2), workers.freest(APP)) == (2, False, 1)
    workers.end(last)
    assert (workers.reserve(APP), workers.is_empty(2), workers.freest(APP)) == (2, True, 1)


def test_the_reservation_goes_to_another_that_has_become_emptier() -> None:
    workers = roster(1, 2, slots=3)
    one = start(workers, 1, 1)
    start(workers, 2, 2)
    start(workers, 3, 1)
    assert (workers.reserve(APP), workers.freest(APP)) == (2, 1)
    workers.end(one)
    workers.end(workers.active[3])
    assert (workers.reserve(APP), workers.is_empty(1), workers.freest(APP)) == (1, True, 2)


def test_the_only_worker_can_be_reserved() -> None:
    workers = roster(1)
    assert (workers.reserve(APP), workers.freest(APP)) == (1, None)


def test_a_reserved_worker_is_open_again_after_release() -> None:
    workers = roster(1)
    workers.reserve(APP)
    workers.release()
    assert workers.freest(APP) == 1


def test_a_release_does_not_open_a_worker_while_a_suspect_is_in_it() -> None:
    workers = roster(1, slots=2)
    assert workers.reserve(APP) == 1
    suspect = start(workers, 1, 1, is_suspect=True)
    workers.release()
    assert workers.freest(APP) is None
    workers.end(suspect)
    workers.release()
    assert workers.freest(APP) == 1


def test_the_next_suspect_waits_for_the_one_in_the_reserved_worker() -> None:
    workers = roster(1, 2, slots=2)
    assert workers.reserve(APP) == 1
    suspect = start(workers, 1, 1, is_suspect=True)
    assert (workers.reserve(APP), workers.is_empty(1)) == (1, False)
    workers.end(suspect)
    assert (workers.reserve(APP), workers.is_empty(1)) == (1, True)


def test_a_release_without_a_reservation_changes_nothing() -> None:
    workers = roster(1)
    workers.release()
    assert workers.freest(APP) == 1


def test_another_is_reserved_when_the_reserved_one_dies() -> None:
    workers = roster(1, 2)
    suspect = start(workers, 1, 1, is_suspect=True)
    workers.end(suspect)
    assert workers.reserve(APP) == 1
    assert workers.leave(1) == ([], [])
    assert (workers.freest(APP), workers.reserve(APP), workers.freest(APP)) == (2, 2, None)


def test_one_that_joins_takes_new_runs_while_the_other_is_reserved() -> None:
    workers = roster(1)
    assert workers.reserve(APP) == 1
    workers.join(2, APP)
    assert (workers.freest(APP), workers.reserve(APP)) == (2, 1)


def test_it_is_told_when_a_worker_that_was_reserved_is_open_again() -> None:
    workers = roster(1, 2, slots=3)
    start(workers, 1, 1)
    assert (workers.reserve(APP), workers.opened) == (2, set())
    workers.release()
    assert workers.opened == {APP}
    workers.opened.clear()
    assert workers.reserve(APP) == 2
    start(workers, 2, 2)
    start(workers, 3, 2)
    assert (workers.reserve(APP), workers.freest(APP), workers.opened) == (1, 2, {APP})
    workers.opened.clear()
    workers.leave(1)
    workers.release()
    assert workers.opened == set()


# Parked executions hold no slot.


def test_a_parked_execution_frees_its_slot_and_is_still_known() -> None:
    workers = roster(1, slots=1)
    one = start(workers, 1, 1)
    assert (workers.executing, workers.freest(APP)) == (1, None)
    workers.park(one)
    assert (workers.executing, workers.freest(APP)) == (0, 1)
    assert (workers.active, workers.by_run, workers.parked(1)) == ({1: one}, {101: one}, {1: one})
    assert one.is_over is False


def test_those_parked_the_longest_come_first() -> None:
    workers = roster(1, 2, slots=9)
    late, early = start(workers, 1, 1), start(workers, 2, 1)
    workers.park(early)
    workers.park(late)
    park(workers, 3, 2)
    assert list(workers.parked(1).values()) == [early, late]


def test_who_goes_on_counts_as_executing_before_there_is_a_slot_and_has_it_after() -> None:
    workers = roster(1, slots=1)
    parked = park(workers, 1, 1)
    start(workers, 2, 1)
    workers.resume_later(parked)
    assert (workers.is_resuming(parked), workers.executing, workers.resume(always)) == (True, 2, None)
    workers.end(workers.active[2])
    assert workers.resume(always) is parked
    assert (workers.is_resuming(parked), workers.executing, workers.freest(APP), workers.parked(1)) == (
        False,
        1,
        None,
        {},
    )


def test_who_is_to_be_started_again_once_it_has_left_counts_as_executing_until_then() -> None:
    workers = roster(1, slots=1)
    leaving = park(workers, 1, 1)
    leaving.is_leaving = True
    workers.start_again_later(leaving)
    assert (workers.executing, workers.freest(APP), workers.resume(always)) == (1, 1, None)
    workers.end(leaving)
    assert workers.executing == 0
    workers.start_again_later(park(workers, 2, 1))
    workers.leave(1)
    assert workers.executing == 0


def test_those_who_go_on_do_so_in_the_order_in_which_they_could() -> None:
    workers = roster(1, slots=2)
    parked = [park(workers, claim, 1) for claim in (1, 2, 3)]
    for each in reversed(parked):
        workers.resume_later(each)
    assert [workers.resume(always), workers.resume(always), workers.resume(always)] == [parked[2], parked[1], None]


def test_a_full_worker_does_not_hold_up_who_goes_on_in_another() -> None:
    workers = roster(1, 2, slots=1)
    here, there = park(workers, 1, 1), park(workers, 2, 2)
    start(workers, 3, 1)
    workers.resume_later(here)
    workers.resume_later(there)
    assert [workers.resume(always), workers.resume(always)] == [there, None]


def test_who_goes_on_does_so_in_the_reserved_worker_too() -> None:
    workers = roster(1, slots=1)
    parked = park(workers, 1, 1)
    assert workers.reserve(APP) == 1
    workers.resume_later(parked)
    assert workers.resume(always) is parked


def test_a_worker_with_parked_executions_is_not_empty() -> None:
    workers = roster(1)
    assert workers.is_empty(1)
    parked = park(workers, 1, 1)
    assert not workers.is_empty(1)
    workers.end(parked)
    assert workers.is_empty(1)


def test_a_parked_execution_can_end_and_one_that_was_about_to_go_on() -> None:
    workers = roster(1, slots=1)
    parked, resuming = park(workers, 1, 1), park(workers, 2, 1)
    workers.resume_later(resuming)
    workers.end(parked)
    assert (workers.executing, workers.parked(1)) == (1, {2: resuming})
    workers.end(resuming)
    assert (workers.executing, workers.parked(1), workers.active, workers.by_run) == (0, {}, {}, {})
    assert (parked.is_over, resuming.is_over, workers.resume(always)) == (True, True, None)


def test_a_worker_that_leaves_tells_apart_what_had_a_slot_and_what_had_none() -> None:
    workers = roster(1, 2, slots=9)
    executing = start(workers, 5, 1)
    parked, resuming = park(workers, 3, 1), park(workers, 4, 1)
    elsewhere = park(workers, 6, 2)
    workers.resume_later(resuming)
    assert workers.leave(1) == ([executing], [parked, resuming])
    assert (workers.active, workers.by_run, workers.executing) == ({6: elsewhere}, {106: elsewhere}, 0)
    assert [each.is_over for each in (executing, parked, resuming, elsewhere)] == [True, True, True, False]
    assert workers.resume(always) is None


def test_a_run_that_has_come_back_while_its_last_execution_leaves_stays_known_by_its_new_one() -> None:
    workers = roster(1, 2)
    old = park(workers, 1, 1)
    new = active(2, 2, run=old.run.key)
    workers.start(new)
    assert workers.by_run == {old.run.key: new}
    workers.end(old)
    assert (workers.by_run, workers.active) == ({old.run.key: new}, {2: new})


def test_what_is_leaving_and_starts_again_counts_as_executing_until_it_has_left() -> None:
    workers = roster(1, slots=1)
    parked = park(workers, 1, 1)
    workers.start_again_later(parked)
    assert (workers.executing, workers.freest(APP), workers.resume(always)) == (1, 1, None)
    workers.end(parked)
    assert workers.executing == 0


def test_what_was_to_start_again_is_forgotten_with_its_worker() -> None:
    workers = roster(1)
    parked = park(workers, 1, 1)
    workers.start_again_later(parked)
    assert (workers.leave(1), workers.executing) == (([], [parked]), 0)


# Several apps.


def of_two_apps() -> Roster:
    """Workers 1 and 2 have the code of one, 3 that of another."""
    workers = roster(1, 2, slots=2)
    workers.join(3, "billing")
    return workers


def test_a_run_goes_to_a_worker_that_has_its_code() -> None:
    workers = of_two_apps()
    assert [workers.freest(app) for app in (APP, "billing", "nobody")] == [1, 3, None]
    start(workers, 1, 3)
    start(workers, 2, 3)
    assert [workers.freest(app) for app in (APP, "billing")] == [1, None]
    assert [workers.workers_of(app) for app in (APP, "billing", "nobody")] == [[1, 2], [3], []]


def test_executions_are_counted_by_app_with_those_that_are_about_to_go_on() -> None:
    workers = of_two_apps()
    start(workers, 1, 1)
    workers.resume_later(park(workers, 2, 2))
    park(workers, 3, 2)
    start(workers, 4, 3)
    assert [workers.executing_of(app) for app in (APP, "billing", "nobody")] == [2, 1, 0]
    workers.leave(2)
    assert [workers.executing_of(app) for app in (APP, "billing", "nobody")] == [1, 1, 0]


def test_a_suspect_gets_a_worker_of_its_own_app() -> None:
    workers = of_two_apps()
    start(workers, 1, 3)
    assert (workers.reserve("billing"), workers.freest("billing"), workers.freest(APP)) == (3, None, 1)
    assert (workers.reserve("nobody"), roster().reserve(APP)) == (None, None)


def test_a_suspect_of_another_app_waits_for_the_one_in_the_reserved_worker() -> None:
    workers = of_two_apps()
    assert workers.reserve("billing") == 3
    suspect = start(workers, 1, 3, is_suspect=True)
    assert workers.reserve(APP) is None
    workers.end(suspect)
    assert workers.reserve(APP) == 1


def test_a_retiring_worker_gets_nothing_new_and_is_dismissed_once_when_nothing_is_left() -> None:
    workers = of_two_apps()
    start(workers, 1, 1)
    there = start(workers, 2, 2)
    workers.park(there)
    workers.retire(APP, 1)
    # The one with the least to do: the slot of a parked execution is free.
    assert (workers.dismiss(), workers.freest(APP), workers.freest("billing")) == ([], 1, 3)
    start(workers, 3, 1)
    assert workers.freest(APP) is None
    workers.resume_later(there)
    assert workers.resume(always) is there
    workers.retire(APP, 1)
    assert workers.dismiss() == []
    workers.end(there)
    assert [workers.dismiss(), workers.dismiss()] == [[2], []]
    assert workers.leave(2) == ([], [])
    assert (workers.dismiss(), workers.opened) == ([], set())


def test_as_many_retire_as_are_told_to_but_for_one_that_stays() -> None:
    workers = of_two_apps()
    workers.retire("billing", 1)
    assert workers.dismiss() == []
    workers.retire(APP, 3)
    assert workers.dismiss() == [1]
    assert (workers.freest(APP), workers.freest("billing")) == (2, 3)


def test_a_retiring_worker_stays_if_it_need_not_go_unless_it_was_dismissed() -> None:
    workers = of_two_apps()
    workers.join(4, APP)
    start(workers, 1, 1)
    start(workers, 2, 2)
    workers.retire(APP, 2)
    assert (workers.dismiss(), workers.freest(APP)) == ([4], 2)
    workers.retire(APP, 1)
    assert workers.opened == {APP}
    start(workers, 3, 1)
    assert workers.freest(APP) == 2
    workers.retire(APP, 0)
    workers.retire(APP, 1)
    assert (workers.freest(APP), workers.dismiss()) == (2, [])


def test_no_suspect_is_kept_for_a_worker_that_goes_and_none_goes_that_is_kept_for_one() -> None:
    workers = of_two_apps()
    start(workers, 1, 2)
    workers.retire(APP, 1)
    assert (workers.dismiss(), workers.reserve(APP)) == ([1], 2)
    workers = of_two_apps()
    start(workers, 1, 2)
    assert workers.reserve(APP) == 1
    workers.retire(APP, 1)
    assert (workers.dismiss(), workers.freest(APP), workers.reserve(APP)) == ([], None, 1)


# Who is told that a slot is free.


def test_each_slot_that_becomes_free_is_told_of_once() -> None:
    freed: list[Active] = []
    workers = Roster(2, on_freed=freed.append)
    workers.join(1, APP)
    workers.join(2, APP)
    one, two, parked, lost = (start(workers, claim, 1 + claim // 3) for claim in (1, 2, 3, 4))
    workers.park(parked)
    assert freed == [parked]
    workers.end(one)
    workers.end(parked)
    assert freed == [parked, one]
    workers.park(two)
    workers.resume_later(two)
    assert workers.resume(always) is two
    assert freed == [parked, one, two]
    workers.leave(1)
    workers.leave(2)
    assert freed == [parked, one, two, two, lost]


def test_who_may_not_go_on_does_not_hold_up_who_may() -> None:
    workers = roster(1, 2, slots=1)
    first, second, elsewhere = park(workers, 1, 1), park(workers, 2, 1), park(workers, 3, 2)
    for each in (first, second, elsewhere):
        workers.resume_later(each)
    assert workers.resume(lambda each: each is elsewhere) is elsewhere
    assert workers.resume(lambda each: each is not first) is second
    assert workers.resume(always) is None
    workers.end(second)
    assert workers.resume(lambda _each: False) is None
    assert workers.resume(always) is first


# What an execution begins with.


def test_a_run_has_to_end_so_long_after_its_first_start() -> None:
    spec = FunctionSpec(
        id="f", name="f", module="m", qualname="f", file="m.py", line=1, is_async=False,
        timeouts=TimeLimits(finish_ms=500),
    )  # fmt: skip
    run = active(1, 1).run
    again = run._replace(started_at=70)
    deadlines = [Active(1, each, spec, 1, started_at=100).deadline_at for each in (run, again)]
    assert deadlines == [600, 570]
    assert active(1, 1).deadline_at is None
