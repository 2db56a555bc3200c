"""What has become of a run, as tests look at it: plain values, read from the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fanout.journal.sqlite_memory import MemoryJournal
from fanout.model import Event, Failure, RunState, Step, StepKind, StepState
from fanout.protocol import Logged
from fanout.testing.hearing import Hearing


@dataclass(frozen=True)
class StepResult:
    """A step as it is recorded. `output` is what it gave, as JSON values; `error` what it last failed of.

    `due_at` is when it goes on at the latest, in milliseconds, while it waits.
    """

    name: str
    kind: StepKind
    state: StepState
    attempts: int
    output: Any = None
    error: Failure | None = None
    due_at: int | None = None


@dataclass(frozen=True)
class Result:
    """A run as it is recorded.

    `state` is `completed`, `failed`, `cancelled` or `skipped`; or, of a run that is not over, `waiting`. `output` is
    what the function returned, as JSON values; `error` has the `type` and `message` of what it failed of, and `reason`
    why it was skipped or cancelled. `attempts` are those of the code between the steps.
    """

    function: str
    run_id: str
    state: RunState
    output: Any
    error: Failure | None
    reason: str | None
    attempts: int
    steps: Mapping[str, StepResult]
    """By name, in the order in which they were reached; the second `charge` is `charge#2`."""
    events_sent: list[Event]
    """By its steps, in order."""
    invoked: list[Result]
    """The runs that its steps have invoked or mapped, in order."""
    logs: list[Logged]
    """What it has printed and logged. Code between steps runs again whenever the run goes on, and so do its prints."""
    event: Event
    replay_of: str | None = None
    key: int = field(default=0, repr=False)

    @property
    def waits_for(self) -> list[str]:
        """The names of the steps that wait."""
        return [step.name for step in self.steps.values() if step.state in (StepState.WAITING, StepState.RETRYING)]


def result_of(journal: MemoryJournal, hearing: Hearing, key: int) -> Result:
    run = journal.run_with_steps(key)
    return Result(
        function=run.function,
        run_id=run.id,
        state=run.state,
        output=_value(run.output),
        error=run.error if run.state is RunState.FAILED else None,
        reason=run.reason,
        attempts=run.attempts,
        steps={step.name: _step(step) for step in run.steps},
        events_sent=[each.event for each in journal.received(key)],
        invoked=[result_of(journal, hearing, child) for child in journal.children_of(key)],
        logs=hearing.of(run.id),
        event=journal.event_of(key),
        replay_of=run.replay_of,
        key=run.key,
    )


def _step(step: Step) -> StepResult:
    return StepResult(
        name=step.name,
        kind=step.kind,
        state=step.state,
        attempts=step.attempts,
        output=_value(step.output),
        error=step.error,
        due_at=step.due_at,
    )


def _value(output: msgspec.Raw | None) -> Any:
    return None if output is None else msgspec.json.decode(output)
