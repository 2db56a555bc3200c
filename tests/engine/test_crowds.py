"""What there may be very much of: no tick of the engine is as long as all of it, and none is too deep for Python."""

from __future__ import annotations

from pathlib import Path

from fanout.engine.loop import RUNS_A_TICK
from fanout.events import NewEvent
from fanout.protocol import EventWait, Invoke, Map, MapItems, Parked, StepWaits
from tests.fuzz.hostile import BEGINNING, Scene, spec

FAR = BEGINNING + 1_000_000_000


def test_a_family_of_any_depth_is_cancelled(tmp_path: Path) -> None:
    """Each invokes the next. The engine, and each one after it, ended by going down as deep."""
    scene = Scene(tmp_path / "journal.db", runs=1, name="sent")
    worker, depth = scene.speaking(), 1_500
    for _ in range(depth):
        claim = max(worker.claims)
        asked = StepWaits(claim, "s", "", 1, BEGINNING, Invoke("sent", "{}", FAR))
        scene.pool.say(worker.number, [asked, Parked(claim, ("s",))])
        scene.tick()
        worker = max((each for each in scene.hostile() if each.claims), key=lambda each: max(each.claims))
    assert scene.rows("SELECT count(*) FROM run") == [(depth + 1,)]
    scene.journal.append_request("cancel", {"runs": [1]}, scene.now)
    scene.tick()
    assert scene.rows("SELECT state, count(*) FROM run GROUP BY state") == [("cancelled", depth + 1)]


def test_an_event_for_very_many_functions_leaves_the_next_to_the_next_tick(tmp_path: Path) -> None:
    many = tuple(spec(f"f{number}") for number in range(90))
    scene = Scene(tmp_path / "journal.db", runs=0, specs=many)
    scene.is_over = True
    scene.journal.append_events([NewEvent("go", "{}")] * 50, scene.now)
    made = [0]
    while made[-1] < 50 * len(many):
        scene.tick()
        made.append(scene.rows("SELECT count(*) FROM run")[0][0])
        assert made[-1] > made[-2]
        assert made[-1] - made[-2] < RUNS_A_TICK + len(many)


def test_an_item_whose_key_has_come_is_no_second_run_in_the_same_tick_either(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "journal.db", runs=3, name="sent")
    worker = scene.speaking()
    parents = sorted(worker.claims)
    assert len(parents) > 1
    items = tuple(("{}", str(number)) for number in range(100))
    for claim in parents:
        asked = StepWaits(claim, "m", "", 1, BEGINNING, Map("child", 1_000, False))
        scene.pool.say(worker.number, [asked, MapItems(claim, "m", 0, (*items, *items[:50]), True)])
    scene.tick()
    made = scene.rows("SELECT count(*), count(DISTINCT item_key) FROM run WHERE parent IS NOT NULL GROUP BY parent")
    assert made == [(100, 100)] * len(parents)


def test_who_was_woken_by_one_event_is_not_woken_by_the_next(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "journal.db", runs=1, name="sent")
    worker = scene.speaking()
    (claim,) = worker.claims
    scene.pool.say(worker.number, [StepWaits(claim, "w", "", 1, BEGINNING, EventWait("hello", FAR, None, None)), Parked(claim, ("w",))])  # fmt: skip
    scene.tick()
    scene.journal.append_events([NewEvent("hello", f'{{"n":{number}}}') for number in range(3)], scene.now)
    scene.tick()
    ((output,),) = scene.rows("SELECT output FROM step WHERE key = 'w'")
    assert '"n":0' in output
