"""Where in a trace functions' code is.

Spans of runs and steps are made by nobody here: the journal has what they tell.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from fanout.core.sampling import Sampling
from fanout.core.trace_ids import Origin, attempt_span, origin_of, traceparent, with_parent
from fanout.protocol import SentEvent, Start


class Tracing:
    """What executions do where there are traces. This much takes nothing of OpenTelemetry."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def enter(self, start: Start, step: str | None, number: int) -> Any:
        """From here on the code of this attempt runs: of a step, or between steps. Gives what `leave` takes."""

    def leave(self, token: Any) -> None:
        """The step's code has ended."""

    def sent(self, start: Start, step: str, number: int, events: tuple[SentEvent, ...]) -> tuple[SentEvent, ...]:
        """The events, each with the step that sends it as its `traceparent`; unless the code has given it one."""
        origin = self._origin(start)
        place = traceparent(origin, attempt_span(start.run_id, step, number))
        return tuple(replace(event, user=with_parent(event.user, place, origin.state)) for event in events)

    def close(self) -> None:
        """The process is about to end."""

    def _origin(self, start: Start) -> Origin:
        id_, _, ts, _, user, _ = start.event
        return origin_of(id_, ts, user, self._sampling)
