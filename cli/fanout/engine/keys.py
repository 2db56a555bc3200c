"""The keys that a function's rules give an event: by them its runs are counted, told apart and put in the queue."""

from __future__ import annotations

from typing import Any

from fanout.core import flow
from fanout.journal.rows import StoredEvent
from fanout.model import FunctionSpec


def value_of(expression: str, event: StoredEvent) -> Any:
    """What the CEL expression gives for this event."""
    from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

    return expressions.parse(expression).value(event=event.as_dict())


def key_of(expression: str | None, event: StoredEvent) -> str:
    """The text of the expression's value; without one all events have the same."""
    return flow.key_text(None if expression is None else value_of(expression, event))


def singleton_of(spec: FunctionSpec, event: StoredEvent) -> str | None:
    rule = spec.flow.singleton
    return None if rule is None else key_of(rule.key, event)


def partition_of(spec: FunctionSpec, event: StoredEvent, *, is_sequence: bool = False) -> str:
    """Where a run for this event is in the queue. See `flow.partition`."""
    rules = spec.flow
    if not (rules.concurrency or rules.throttle or is_sequence):
        return ""
    keys = [key_of(rule.key, event) for rule in rules.concurrency]
    throttled = None if rules.throttle is None else key_of(rules.throttle.key, event)
    return flow.partition(keys, throttled, is_sequence=is_sequence)
