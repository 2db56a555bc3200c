"""What the observer makes of messages."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fanout.protocol import Evict, Resume
from tests.engine.scripts import Sleep, Step, function
from tests.engine.workers import LOAD_MS
from tests.simulation.stage import Stage

GOES = function("goes", Sleep(300), Step("s"))
STAYS = function("stays", Step("t"), on=["f"])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(
        tmp_path, [GOES, STAYS], rng=random.Random(0), disk=None, mischief=None, has_jumps=False, has_reloads=True
    )


def test_what_it_waited_for_comes_to_a_run_as_its_function_goes(stage: Stage) -> None:
    """It is told to leave, and then that it may go on, which it does not."""
    stage.send()
    stage.run(for_ms=100)
    ((due_at,),) = stage.rows("SELECT due_at FROM step")
    stage.run(for_ms=due_at - LOAD_MS - stage.clock())
    stage.save(STAYS)
    stage.run(for_ms=1_000)
    said = [message for _, message in stage.pool.sent if isinstance(message, Evict | Resume)]
    assert said == [Evict(1), Resume(1)]
    assert stage.states() == {1: "queued"}
    stage.save(GOES, STAYS)
    stage.run()
    assert stage.states() == {1: "completed"}
    stage.close()


def test_nobody_goes_on_whose_function_is_gone_unless_it_was_told_to_leave(stage: Stage) -> None:
    stage.send()
    stage.run(for_ms=100)
    stage.save(STAYS)
    stage.run(lambda: stage.engine.functions.keys() == {"stays"})
    stage.observer.traffic.forget()
    with pytest.raises(AssertionError, match="its function is gone"):
        stage.observer.traffic._goes(1, 1, 1)
    stage.close()
