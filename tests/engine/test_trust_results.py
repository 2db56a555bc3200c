"""A step's result is read by whoever looks at the run, and goes into exports: it has to be JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.protocol import StepCompleted
from tests.fuzz.hostile import BEGINNING, Scene


@pytest.mark.parametrize("output", ["{", "", "NaN", '{"a":' * 2000 + "1" + "}" * 2000])
def test_a_worker_is_ended_for_a_steps_result_that_is_not_json(tmp_path: Path, output: str) -> None:
    scene = Scene(tmp_path / "journal.db", runs=1, name="sent")
    worker = next(each for each in scene.hostile() if each.claims)
    [claim] = worker.claims
    scene.pool.say(worker.number, [StepCompleted(claim, 1, "s", "", 1, 1, output, BEGINNING, BEGINNING)])
    scene.tick()
    assert worker.number not in scene.pool.workers
    scene.settle()
    assert {state for (state,) in scene.rows("SELECT state FROM run")} == {"completed"}
    assert not scene.rows("SELECT * FROM step WHERE key = 's'")
    why = f"worker {worker.number} was ended because it gave a result of step `s` that is not JSON"
    assert why in scene.rows("SELECT message FROM failure")[0][0]
