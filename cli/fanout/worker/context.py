"""What a plain function is called with."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from fanout.model import DataT_co, Event, FunctionSpec
from fanout.protocol import Envelope
from fanout.worker.step import Steps

if TYPE_CHECKING:
    import logging

    from fanout.worker.execution import Execution


_handling = threading.Lock()


class BaseContext(Generic[DataT_co]):
    """What both kinds of functions get."""

    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        start = execution.start
        typed = None if execution.event_types is None else partial(execution.event_types.data_of, spec)
        self.event: Event[DataT_co] = _event(start.event, typed)
        """What started the run; of a batch the first one."""
        # Typed ones are made at once: the function does not begin if one of them does not fit.
        self._batch = start.batch if typed is None else [_event(each, typed) for each in start.batch]
        self.run_id: str = start.run_id
        """The run's id: the same at every attempt."""
        self.attempt: int = start.attempt
        """How many attempts of the code between steps have failed before this one: 0 at first."""
        self.max_attempts: int = spec.max_attempts
        """How many attempts there are at most, the first included."""
        self._function = spec.id

    @cached_property
    def events(self) -> list[Event[DataT_co]]:
        """All events of the run: one, or those of its batch."""
        return [each if isinstance(each, Event) else _event(each) for each in self._batch] or [self.event]

    @property
    def logger(self) -> logging.Logger:
        """The logger `fanout.ID`. Unless the code has set up logging, it writes INFO and above to stderr."""
        found = self._logger
        found.disabled = False  # As `dictConfig` leaves all that it does not name, if nobody says otherwise.
        return found

    @cached_property
    def _logger(self) -> logging.Logger:
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


def _event(envelope: Envelope, typed: Callable[[Envelope], Any] | None = None) -> Event[Any]:
    id_, name, ts, text, user, v = envelope
    decode = msgspec.json.decode
    data = decode(text) if typed is None else typed(envelope)
    return Event(id=id_, name=name, ts=ts, data=data, user=None if user is None else decode(user), v=v)


class Context(BaseContext[DataT_co]):
    """What a `def` function gets. `Context[Order]` is one whose event has an `Order` as its data, not a dict."""

    def __init__(self, execution: Execution, spec: FunctionSpec) -> None:
        super().__init__(execution, spec)
        self.step: Steps = Steps(execution)
        """What is done once, and remembered."""
