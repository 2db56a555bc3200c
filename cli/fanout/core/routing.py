"""Which functions an event starts. Matching is a look-up, not a walk over all functions."""

from __future__ import annotations

from collections.abc import Iterable

from fanout.model import EventTrigger, FunctionSpec


class Routes:
    """An index from event names to the functions that listen.

    A name is looked up once as it is, and once for each length of open tail that any trigger has.
    """

    def __init__(self, functions: Iterable[FunctionSpec]) -> None:
        exact: dict[str, dict[str, FunctionSpec]] = {}
        tails: dict[str, dict[str, FunctionSpec]] = {}
        for function in functions:
            for trigger in function.triggers:
                if not isinstance(trigger, EventTrigger):
                    continue
                index, name = (tails, trigger.name[:-1]) if trigger.name.endswith("*") else (exact, trigger.name)
                index.setdefault(name, {})[function.id] = function
        self._exact = exact
        self._tails = tails
        self._tail_lengths = sorted({len(name) for name in tails})

    def match(self, event_name: str) -> list[FunctionSpec]:
        """The functions that `event_name` starts, each once, however many of its triggers match."""
        matched = self._exact.get(event_name, {})
        if self._tail_lengths:
            matched = dict(matched)
            for length in self._tail_lengths:
                matched.update(self._tails.get(event_name[:length], {}) if length <= len(event_name) else {})
        return list(matched.values())
