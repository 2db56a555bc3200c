"""Steps that have been going for a while are reported, and never after their end has been."""

from __future__ import annotations

import threading
from typing import Any, cast

from fanout.protocol import StepRunning
from fanout.worker.execution import Desk
from fanout.worker.link import Link

FENCE_S = 20


class SlowLink:
    """Says what it is about to send, and waits to be let go."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.is_reached = threading.Event()
        self.may_go_on = threading.Event()

    def put(self, message: object) -> None:
        self.is_reached.set()
        assert self.may_go_on.wait(FENCE_S)
        self.said.append(message)

    def flush(self) -> None:
        pass


def test_a_report_that_is_under_way_comes_before_the_end_of_its_step() -> None:
    link = SlowLink()
    desk = Desk(cast("Link", link))
    going = StepRunning(1, "step", "", 1, 0)
    desk.going[1, "step"] = going

    def end() -> None:
        desk.has_ended(1, "step")
        link.said.append("end")

    reporting, ending = threading.Thread(target=desk.report_going, args=(250,)), threading.Thread(target=end)
    reporting.start()
    assert link.is_reached.wait(FENCE_S)
    ending.start()
    ending.join(0.05)
    link.may_go_on.set()
    for thread in (reporting, ending):
        thread.join(FENCE_S)
    assert link.said == [going, "end"]


def test_a_step_that_has_ended_is_not_reported() -> None:
    link = SlowLink()
    desk = Desk(cast("Link", link))
    desk.going[1, "step"] = StepRunning(1, "step", "", 1, 0)
    desk.has_ended(1, "step")
    desk.report_going(250)
    assert link.said == []
