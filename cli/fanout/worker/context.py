"""What a plain function is called with."""

from __future__ import annotations

import sys
import threading
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from fanout.model import Event, FunctionSpec
from fanout.protocol import Envelope
from fanout.worker.step import Steps

if TYPE_CHECKING:
    import logging

    from fanout.worker.execution import Execution


_handling = threading.Lock()


class BaseContext:
    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        start = execution.start
        self.event = _event(start.event)
        self._batch = start.batch
        self.run_id = start.run_id
        """The run's id: the same at every attempt."""
        self.attempt = start.attempt
        """How many attempts of the code between steps have failed before this one: 0 at first."""
        self.max_attempts = spec.max_attempts
        self._function = spec.id

    @cached_property
    def events(self) -> list[Event]:
        """All events of the run: one, or those of its batch."""
        return [_event(each) for each in self._batch] or [self.event]

    @cached_property
    def logger(self) -> logging.Logger:
        """The logger `fanout.ID`. Unless the code has set up logging, it writes INFO and above to stderr."""
        import logging  # lazy: 10 ms that a function which never logs need not pay

        with _handling:  # Functions begin in many threads.
            ours = logging.getLogger("fanout")
            if not ours.hasHandlers():
                shown = logging.StreamHandler(sys.stderr)
                shown.addFilter(_note_function)
                shown.setFormatter(logging.Formatter("%(function)s: %(message)s"))
                ours.addHandler(shown)
                ours.setLevel(logging.INFO)
        return ours.getChild(self._function)


def _note_function(record: logging.LogRecord) -> bool:
    record.function = record.name.removeprefix("fanout.")
    return True


def _event(envelope: Envelope) -> Event:
    id_, name, ts, data, user, v = envelope
    decode = msgspec.json.decode
    return Event(id=id_, name=name, ts=ts, data=decode(data), user=None if user is None else decode(user), v=v)


class Context(BaseContext):
    """What a `def` function gets."""

    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        super().__init__(execution, spec)
        self.step = Steps(execution)
