"""What lies at the bottom of a failure that steps and runs have passed on. It knows failures only as data."""

from __future__ import annotations

import re

from fanout.model import Failure

_PASSING_ON = frozenset({"StepError", "InvokeError"})
# As StepError words it, behind the number of an item if it failed in a map.
_PASSED_ON = re.compile(r"(item \d+: )?step `.+?` failed: ([^\s:]+)(?:: (.*))?", re.DOTALL)
_ITEM = re.compile(r"item (\d+): ")


def root_cause(failure: Failure) -> Failure:
    """The failure without the steps that have passed it on; the items of maps stay.

    `StepError: item 2: step `charge` failed: CardError: declined` is `CardError: item 2: declined`.
    """
    item = ""
    while failure.type in _PASSING_ON and (said := _PASSED_ON.fullmatch(failure.message)):
        item += said[1] or ""
        failure = Failure(said[2], said[3] or "", failure.traceback)
    return Failure(failure.type, f"{item}{failure.message}", failure.traceback) if item else failure


def item_of(failure: Failure) -> int | None:
    """Which item of a map has failed, if its failure says so."""
    said = _ITEM.match(failure.message)
    return None if said is None else int(said[1])
