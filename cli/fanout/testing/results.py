"""What has become of a run, as tests look at it: plain values, read from the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from fanout.journal.sqlite_memory import MemoryJournal
from fanout.model import Event, Failure, RunState, Step, StepKind, StepState
from fanout.protocol import Logged
from fanout.testing.hearing import Hearing
from fanout.worker.returns import decoder_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # known to every type checker, installed or not

    OutputT_co = TypeVar("OutputT_co", default=Any, covariant=True)
else:
    from typing import TypeVar  # before Python 3.13 it has no `default`

    OutputT_co = TypeVar("OutputT_co", covariant=True)


@dataclass(frozen=True)
class StepResult:
    """A step as it is recorded."""

    name: str
    """The second `charge` is `charge#2`."""
    kind: StepKind
    """`run`, `sleep`, `wait`, `send`, `invoke` or `map`."""
    state: StepState
    """`completed`, `failed` or `cancelled`; of a step that is not over, `waiting` or `retrying`."""
    attempts: int
    """How many there have been, the first included."""
    output: Any = None
    """What it gave, as JSON values."""
    error: Failure | None = None
    """The `type`, `message` and `traceback` of what it last failed of."""
    due_at: int | None = None
    """When it goes on at the latest, in milliseconds, while it waits."""


@dataclass(frozen=True)
class Result(Generic[OutputT_co]):
    """What has become of a run. `Result[str]` is one of a function that returns a `str`."""

    function: str
    """The function's id."""
    run_id: str
    """As `ctx.run_id`."""
    state: RunState
    """`completed`, `failed`, `cancelled` or `skipped`; or, of a run that is not over, `waiting`."""
    output: OutputT_co
    """What the function returned: as it is recorded, and made into what the function is annotated to return.

    None while it has not completed.
    """
    error: Failure | None
    """The `type`, `message` and `traceback` of what it failed of."""
    reason: str | None
    """Why it was skipped or cancelled."""
    attempts: int
    """Of the code between the steps."""
    steps: Mapping[str, StepResult]
    """By name, in the order in which they were reached; the second `charge` is `charge#2`."""
    events_sent: list[Event[Any]]
    """By its steps, in order."""
    invoked: list[Result[Any]]
    """The runs that its steps have invoked or mapped, in order."""
    logs: list[Logged]
    """What it has printed and logged. Code between steps runs again whenever the run goes on, and so do its prints."""
    event: Event[Any]
    """What started it; of a batch the first one."""
    replay_of: str | None = None
    """The id of the run that it is a replay of."""
    key: int = field(default=0, repr=False)
    """Its number in the test's journal."""

    @property
    def waits_for(self) -> list[str]:
        """The names of the steps that wait."""
        return [step.name for step in self.steps.values() if step.state in (StepState.WAITING, StepState.RETRYING)]


def result_of(
    journal: MemoryJournal, hearing: Hearing, key: int, code_of: Callable[[str], Callable[..., Any] | None]
) -> Result[Any]:
    """Of the run with this key; `code_of` gives a function by its id."""
    run = journal.run_with_steps(key)
    code = None if run.output is None else code_of(run.function)
    return Result(
        function=run.function,
        run_id=run.id,
        state=run.state,
        output=_value(run.output) if code is None else decoder_of(code)(bytes(run.output or b"null").decode()),
        error=run.error if run.state is RunState.FAILED else None,
        reason=run.reason,
        attempts=run.attempts,
        steps={step.name: _step(step) for step in run.steps},
        events_sent=[each.event for each in journal.received(key)],
        invoked=[result_of(journal, hearing, child, code_of) for child in journal.children_of(key)],
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
