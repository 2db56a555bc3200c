"""What a plain function is called with."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from fanout.model import Event, FunctionSpec
from fanout.worker.step import Steps

if TYPE_CHECKING:
    import logging

    from fanout.worker.execution import Execution


class BaseContext:
    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        start = execution.start
        id_, name, ts, data, user, v = start.event
        self.event = Event(
            id=id_,
            name=name,
            ts=ts,
            data=msgspec.json.decode(data),
            user=None if user is None else msgspec.json.decode(user),
            v=v,
        )
        self.run_id = start.run_id
        """The run's id: the same at every attempt."""
        self.attempt = start.attempt
        """How many attempts of the code between steps have failed before this one: 0 at first."""
        self.max_attempts = spec.max_attempts
        self._function = spec.id

    @property
    def events(self) -> list[Event]:
        """All events of the run."""
        return [self.event]

    @cached_property
    def logger(self) -> logging.Logger:
        import logging  # lazy: 10 ms that a function which never logs need not pay

        return logging.getLogger(f"fanout.{self._function}")


class Context(BaseContext):
    """What a `def` function gets."""

    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        super().__init__(execution, spec)
        self.step = Steps(execution)
