"""What the runs of a function share with others: the places that concurrency gives, and the names of its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fanout.core import flow
from fanout.model import FunctionSpec

THROTTLE = "throttle"
TICKS = "cron"
"""By this the live runs of a function's ticks are found; the text of a singleton's key is never that."""


class Place(NamedTuple):
    """What executions with the same key share. `function` is empty where a whole app shares it."""

    function: str
    rule: str
    key: str


def places_of(spec: FunctionSpec, partition: str) -> Iterator[tuple[Place, int]]:
    """The places that the function's runs of this partition need, each with how many there are."""
    keys, _ = flow.keys_of(partition)
    for number, (rule, key) in enumerate(zip(spec.flow.concurrency, keys, strict=False)):
        if rule.scope == "app":
            # By the key's value; those without a key are counted together.
            yield Place("", f"{spec.app}:{'all' if rule.key is None else 'key'}", key), rule.limit
        else:
            yield Place(spec.id, str(number), key), rule.limit
    if flow.is_sequence(partition):
        # Of an execution that began a moment ago the journal does not know that it has.
        yield Place(spec.id, TICKS, ""), 1
