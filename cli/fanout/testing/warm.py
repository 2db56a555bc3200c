"""Stages that have been used for one function and are as good as new: most tests of a function can do with one."""

from __future__ import annotations

from collections import OrderedDict

from fanout.model import NO_RULES
from fanout.testing.clock import Clock
from fanout.testing.stage import Stage
from fanout.worker.registry import Registered

_MOST = 8
_MOST_USES = 100
"""Its journal has a run more each time."""
_kept: OrderedDict[int, tuple[Registered, Stage]] = OrderedDict()


def take(function: Registered, clock: Clock) -> Stage | None:
    """One whose clock can be set to this time: it is not to go back."""
    found = _kept.pop(id(function.code), None)
    if found is None or found[0] != function or found[1].clock.now > clock.now:
        return None
    found[1].renew(clock.now)
    return found[1]


def keep(function: Registered, stage: Stage) -> bool:
    """Keep it if nothing that has happened in it can matter to others."""
    if function.spec.flow != NO_RULES or stage.uses >= _MOST_USES or not stage.is_over():
        return False
    _kept[id(function.code)] = function, stage
    if len(_kept) > _MOST:
        _kept.popitem(last=False)[1][1].close()
    return True
