"""What a worker can't say: it is ended for it, its run is charged, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.events import NewEvent
from fanout.model import Failure, StepKind
from fanout.protocol import (
    EventWait,
    Invoke,
    Map,
    MapItems,
    Parked,
    RunCompleted,
    SentEvent,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToEngine,
)
from tests.fuzz.hostile import BEGINNING as AT
from tests.fuzz.hostile import Scene


def _completed(claim: int, key: str = "s", events: tuple[SentEvent, ...] = (), output: str = "1") -> StepCompleted:
    kind = StepKind.SEND if events else StepKind.RUN
    return StepCompleted(claim, 1, key, "", 1, 1, output, AT, AT, kind, events)


def _sent(name: str = "sent", data: str = "{}", user: str | None = None) -> tuple[SentEvent, ...]:
    return (SentEvent("i", False, name, None, data, user, None),)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "journal.db", runs=1, name="sent")


def _claimed(scene: Scene) -> tuple[int, int]:
    """A worker that is not honest, and a claim that it holds."""
    worker = scene.speaking()
    return worker.number, next(iter(worker.claims))


def _ended_for(scene: Scene, *messages: ToEngine) -> str:
    """Why the worker that says this is ended."""
    worker, _ = _claimed(scene)
    scene.pool.say(worker, messages)
    scene.tick()
    assert worker not in scene.pool.workers
    scene.settle()
    assert {state for (state,) in scene.rows("SELECT state FROM run")} == {"completed"}
    return str(scene.rows("SELECT message FROM failure ORDER BY rowid DESC LIMIT 1")[0][0])


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (lambda claim: [_completed(claim), _completed(claim)], "said more of step `s`, which is over"),
        (lambda claim: [_completed(claim), StepWaits(claim, "s", "", 1, AT, Sleep(AT))], "said more of step `s`, which is over"),
        (lambda claim: [StepFailed(claim, "s", "", 1, 1, Failure("E", "e"), AT, AT, False, None), _completed(claim)], "said more of step `s`, which is over"),
        (lambda claim: [_completed(claim, events=_sent("fanout/function.failed"))], "sent an event with a name that none can have"),
        (lambda claim: [_completed(claim, events=_sent(""))], "sent an event with a name that none can have"),
        (lambda claim: [_completed(claim, events=_sent(data="nul"))], "sent an event `sent` whose data is no object"),
        (lambda claim: [_completed(claim, events=_sent(user="[]"))], "sent an event `sent` whose data is no object"),
        (lambda claim: [StepWaits(claim, "s", "", 1, AT, Invoke("child", "1", None))], "gave no object as the data of step `s`"),
        (lambda claim: [StepWaits(claim, "s", "", 1, AT, EventWait("e", AT, None, "1 +"))], "waits for an event by a condition that is none"),
        (lambda claim: [MapItems(claim, "s", 0, (), True)], "sent items for step `s`, which does not wait for any"),
        (lambda claim: [StepWaits(claim, "s", "", 1, AT, Map("child", 1, False)), MapItems(claim, "s", 0, (("{", None),), True)], "sent an item of step `s` that is no object"),
        (lambda claim: [Parked(claim, ())], "parked a run that waits for nothing"),
        (lambda claim: [RunCompleted(claim, "{")], "gave a result that is not JSON"),
        (lambda claim: [RunCompleted(claim, '{"a":' * 2000 + "1" + "}" * 2000)], "gave a result that is not JSON"),
    ],
)  # fmt: skip
def test_a_worker_is_ended_for_what_makes_no_sense(scene: Scene, say: object, why: str) -> None:
    worker, claim = _claimed(scene)
    assert f"worker {worker} was ended because it {why}" in _ended_for(scene, *say(claim))  # type: ignore[operator]


def test_nobody_speaks_for_what_another_worker_has(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "journal.db", runs=0)
    for worker in scene.pool.workers.values():
        worker.is_honest = False  # Both take their time.
    for _ in range(4):
        scene.journal.append_events([NewEvent("go", "{}")], scene.now)
        for worker in scene.pool.workers.values():
            worker.is_honest = False
        scene.tick()
        scene.tick()
    one, other = scene.pool.workers.values()
    assert one.claims
    assert other.claims
    before = scene.rows("SELECT key, state, output FROM run ORDER BY key")
    stolen = [words for claim in other.claims for words in (_completed(claim), RunCompleted(claim, '"stolen"'))]
    scene.pool.say(one.number, stolen)
    scene.tick()
    assert scene.rows("SELECT key, state, output FROM run ORDER BY key") == before
    assert not scene.rows("SELECT * FROM step")
    assert one.number in scene.pool.workers


def test_nothing_of_what_it_says_afterwards_is_believed(scene: Scene) -> None:
    _, claim = _claimed(scene)
    _ended_for(scene, Parked(claim, ()), _completed(claim, "after"))
    assert not scene.rows("SELECT * FROM step WHERE key = 'after'")


@pytest.mark.parametrize("late", [_completed, lambda claim, key: StepRunning(claim, key, "", 1, AT)])
def test_what_is_said_of_a_step_as_its_next_try_is_due_does_not_end_the_engine(scene: Scene, late: object) -> None:
    """Found by fuzzing: the timer and the message met in one tick, and the journal refused one of them."""
    worker, claim = _claimed(scene)
    scene.pool.say(worker, [StepFailed(claim, "s", "", 1, 1, Failure("E", "e"), AT, AT, True, 1_000)])
    scene.tick()
    scene.pool.say(worker, [late(claim, "s")])  # type: ignore[operator]
    scene.tick(2_000)
    scene.settle()


@pytest.mark.parametrize(
    "other",
    [
        _completed,
        lambda claim: StepFailed(claim, "s", "", 1, 1, Failure("E", "e"), AT, AT, False, None),
        lambda claim: StepWaits(claim, "s", "", 1, AT, Invoke("nobody", "{}", None)),
    ],
    ids=["completed", "failed", "refused"],
)
def test_the_end_of_what_was_invoked_meets_another_use_of_the_step(scene: Scene, other: object) -> None:
    """Found by fuzzing: both ended the step in one tick, and the journal refused one of them."""
    worker, claim = _claimed(scene)
    scene.pool.say(worker, [StepWaits(claim, "s", "", 1, AT, Invoke("child", "{}", None))])
    scene.tick()
    invoked = max(scene.pool.workers[worker].claims)
    assert invoked != claim
    scene.pool.say(worker, [RunCompleted(invoked, "1"), other(claim)])  # type: ignore[operator]
    scene.tick()
    assert dict(scene.rows("SELECT function, state FROM run WHERE parent IS NOT NULL")) == {"child": "completed"}
    scene.settle()


def test_a_step_that_a_parked_run_waits_for_is_not_its_workers_to_end(scene: Scene) -> None:
    """Found by fuzzing: the run waited for a step that was over, for ever."""
    worker, claim = _claimed(scene)
    scene.pool.say(
        worker, [StepWaits(claim, "s", "", 1, AT, Sleep(AT + 1_000)), Parked(claim, ("s",)), _completed(claim)]
    )
    scene.tick()
    assert worker not in scene.pool.workers
    scene.settle()
    assert {state for (state,) in scene.rows("SELECT state FROM run")} == {"completed"}


def test_who_is_being_ended_is_given_nothing(scene: Scene) -> None:
    """Neither a run of the queue, which would be charged in the place of the parked one, nor what goes on there."""
    worker, claim = _claimed(scene)
    scene.pool.say(worker, [StepWaits(claim, "s", "", 1, AT, Sleep(scene.now + 1_000)), Parked(claim, ("s",))])
    scene.tick()
    told = len(scene.pool.workers[worker].claims)
    scene.pool.keeps = True  # Killing takes its time.
    scene.journal.append_events([NewEvent("two", "{}"), NewEvent("go", "{}")], scene.now)
    scene.pool.say(worker, [Parked(claim, ())])
    scene.tick(1_000)
    for _ in range(3):
        scene.tick()
    assert worker in scene.pool.workers
    assert len(scene.pool.workers[worker].claims) == told
    scene.pool.keeps = False
    scene.settle()
    assert {state for (state,) in scene.rows("SELECT state FROM run")} == {"completed"}
    assert scene.rows("SELECT * FROM run WHERE crashes > 0 OR is_suspect") == []


def test_items_of_a_map_that_is_over_do_not_bring_it_back(scene: Scene) -> None:
    """Found by simulation: what came twice made the engine read it from the journal again, before the end was there."""
    worker, claim = _claimed(scene)
    last = MapItems(claim, "s", 0, (), True)
    for messages in ([StepWaits(claim, "s", "", 1, AT, Map("child", 1, False))], [last, last], [last]):
        scene.pool.say(worker, messages)
        scene.tick()
    assert scene.rows("SELECT state, output FROM step WHERE key = 's'") == [("completed", "[]")]
    assert worker in scene.pool.workers
    scene.settle()
