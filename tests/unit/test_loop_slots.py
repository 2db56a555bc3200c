"""The loop that async functions execute in knows which timers their code waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fanout.worker.branches import Branch, branch
from fanout.worker.execution import Desk
from fanout.worker.loop_slots import _Loop
from tests.unit.executions import executed


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = _Loop()
    yield loop
    loop.close()


def test_a_timer_counts_until_the_loop_has_come_to_it_however_late(loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
    execution = executed(desk, is_async=True)
    fired: list[int] = []
    token = branch.set(Branch(execution))
    timer = loop.call_at(loop.time() - 10, fired.append, 1)
    branch.reset(token)
    assert execution.next_timer() == timer.when()
    loop.run_until_complete(asyncio.sleep(0))
    assert (fired, execution.next_timer()) == ([1], None)


def test_a_cancelled_timer_and_one_of_nobody_s_do_not_count(loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
    execution = executed(desk, is_async=True)
    others = loop.call_later(5, print)
    token = branch.set(Branch(execution))
    loop.call_later(5, print).cancel()
    branch.reset(token)
    assert (others.cancelled(), execution.next_timer()) == (False, None)
