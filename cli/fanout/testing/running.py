"""One function alone: taken to its end at once (`run`), or moved on by the test (`Running`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

import msgspec

from fanout.errors import UsageError
from fanout.events import NewEvent
from fanout.model import CronTrigger, Event, EventTrigger, StepKind, StepState
from fanout.protocol import Start
from fanout.testing import codes, warm
from fanout.testing.clock import Clock, Moment, Span, milliseconds, span_ms
from fanout.testing.given import EventLike, new_event, new_events
from fanout.testing.nearest import nearest
from fanout.testing.results import OutputT_co, Result
from fanout.testing.stage import Stage
from fanout.testing.stubs import Stubs
from fanout.worker.registry import Registered

if TYPE_CHECKING:
    from fanout.worker.signatures import Function, OutputT, Shape

_NO_FUNCTION = "there is no function"
INVOKED = "fanout/function.invoked"
Beside = Mapping[str, object] | Iterable[Callable[..., Any]]


class Running(Generic[OutputT_co]):
    """A run of one function that the test moves on. Use it in a `with`.

    ```python
    with Running(onboard_user, {"name": "app/user.joined", "data": {"user": ada}}) as running:
        assert running.result.waits_for == ["wait-for-activation"]
        running.advance("3 days")
        assert running.result.output == {"activated": False, "nudged": True}
    ```

    The function is executed at once, up to where it waits. Time stands still until `advance` or `finish`. The
    arguments are those of `run`.
    """

    def __init__(
        self,
        function: Function[Any, OutputT_co],
        event: EventLike | str | Sequence[EventLike] | None = None,
        *,
        data: Shape | None = None,
        steps: Mapping[str, object] | None = None,
        functions: Beside = (),
        crash_after: str | Iterable[str] = (),
        now: Moment | None = None,
    ) -> None:
        events = _starting(function, event, data)
        self._function = _listening(codes.one(function), events)
        clock, beside = Clock(now), codes.beside(functions)
        self._is_reusable = not beside and all(each.id is None for each in events)
        stage = warm.take(self._function, clock) if self._is_reusable else None
        self._stage = stage or Stage({"": {**beside, self._function.spec.id: self._function}}, clock=clock)
        self._stage.may_start = self._is_ours
        self._before = 0 if stage is None else stage.journal.last_run_key()
        self._steps = steps
        self._deaths = {crash_after} if isinstance(crash_after, str) else set(crash_after)
        if steps or self._deaths:
            self._check_names(codes.known_steps(self._function) or ())
            self._stage.crash_after |= self._deaths
            self._stage.stubs[self._function.spec.id] = Stubs(steps, self._stage.escape)
        self._key = 0
        self._run_id = ""
        self._begin(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        is_kept = kind is None and self._is_reusable and warm.keep(self._function, self._stage)
        if kind is None and not is_kept:
            self._stage.close()

    # How it begins.

    def _begin(self, events: list[NewEvent]) -> None:
        stage, spec = self._stage, self._function.spec
        if events[0].name != INVOKED:
            stage.send(events)
        elif any(isinstance(each, CronTrigger) for each in spec.triggers):
            stage.request("tick", function=spec.id, at=None)
        else:
            stage.request("invoke", function=spec.id, data=msgspec.json.decode(events[0].data))
        stage.settle()
        if not self._key:
            keys = stage.journal.run_keys(self._before)
            if not keys:
                name = events[0].name
                raise UsageError(f"`{spec.id}` has no run for the event `{name}`", hint="is its trigger's `if_` true?")
            self._know(keys[0])

    def _know(self, key: int) -> None:
        self._key = key
        self._run_id = self._stage.journal.run_id(key)

    def _is_ours(self, start: Start) -> bool:
        """It is alone: what its events and its end would start besides is not executed."""
        if not self._key:
            self._know(self._stage.journal.run_keys(self._before)[0])
        return start.run_id == self._run_id or start.event[1] == INVOKED

    # What the test does.

    @property
    def result(self) -> Result[OutputT_co]:
        """What has become of it until now."""
        result = self._stage.result(self._key)
        self._check(result)
        return result

    @property
    def is_over(self) -> bool:
        """Whether nothing of it goes on any more."""
        return self._stage.journal.is_over(self._key)

    def send(self, event: EventLike | str, data: Shape | None = None) -> None:
        """Send it an event, and let it go on as far as it then can."""
        self._stage.send([new_event(event, data)])
        self._stage.settle()

    def advance(self, span: Span) -> None:
        """Let time pass: `3 days`, `1h30m`, seconds or a timedelta. All that is due until then happens in its order."""
        self._stage.advance_to(self._stage.clock.now + span_ms(span))

    def advance_to(self, moment: Moment) -> None:
        """Let time pass until then."""
        self._stage.advance_to(milliseconds(moment))

    def crash(self) -> None:
        """The worker and the engine are killed, and started again; nothing that is recorded is lost."""
        self._stage.crash()

    def finish(self, events: Sequence[EventLike] = ()) -> Result[OutputT_co]:
        """Take it to its end, however long that takes. Each of the events is sent as soon as the run waits for it."""
        coming = new_events(events)
        while not self.is_over:
            awaited = self._stage.journal.awaited_events()
            if coming and coming[0].name in awaited:
                self._stage.send([coming.pop(0)])
                self._stage.settle()
                continue
            at = self._stage.next_at()
            if at is None:
                break
            self._stage.advance_to(at)
        result = self.result
        if coming and result.state.is_final:
            waits = [step.name for step in result.steps.values() if step.kind is StepKind.WAIT]
            raise UsageError(
                f"`{result.function}` was over before it waited for `{coming[0].name}`",
                hint=f"it waited at {_listed(waits)}" if waits else "it waited for no event",
            )
        return result

    # Names that nothing has.

    def _check_names(self, known: Sequence[str]) -> None:
        """A stub for a step that is not there is a slip, and would else be silent."""
        named = {name.partition("#")[0] for name in (*(self._steps or ()), *self._deaths)}
        unknown = sorted(named - set(known))
        if known and unknown:
            id_, name = self._function.spec.id, unknown[0]
            raise UsageError(f"`{id_}` has no step `{name}`", hint=nearest(name, known, "its steps are"))

    def _check(self, result: Result[Any]) -> None:
        if self._steps or self._deaths:
            named = {name.partition("#")[0] for name in (*(self._steps or ()), *self._deaths)}
            reached = {name.partition("#")[0] for name in result.steps}
            for name in sorted(named - reached) if result.state.is_final else ():
                close = nearest(name, sorted(reached), "")
                if close:
                    raise UsageError(f"`{result.function}` has come to no step `{name}`", hint=close)
        for step in result.steps.values():
            is_call = step.kind in (StepKind.INVOKE, StepKind.MAP) and step.state is StepState.FAILED
            if is_call and step.error is not None and step.error.message.startswith(_NO_FUNCTION):
                raise UsageError(
                    f"step `{step.name}`: {step.error.message}",
                    hint="give `functions=[...]` with the function, or `functions={id: what stands for it}`",
                )


def run(
    function: Function[Any, OutputT],
    event: EventLike | str | Sequence[EventLike] | None = None,
    *,
    data: Shape | None = None,
    steps: Mapping[str, object] | None = None,
    functions: Beside = (),
    events: Sequence[EventLike] = (),
    crash_after: str | Iterable[str] = (),
    now: Moment | None = None,
) -> Result[OutputT]:
    """Run one function alone to its end, with the real engine: no files, no processes, and no time that passes.

    ```python
    result = run(send_welcome_email, data={"user": ada}, steps={"send-email": {"message_id": "m1"}})
    assert result.output == {"message_id": "m1"}
    ```

    Retries come at once, a sleep is over at once, and so is the time in which an event does not come.

    Args:
        function: one that has `@fanout.function(...)`, or one that stands in `on_failure`.
        event: what starts it: `{"name": ..., "data": {...}}`, several of them for a batch, or the name of one whose
            data are `data`. Left out, it is one that the function listens to, a tick of its schedule, or an invocation.
        data: the event's data, if that is all that matters: a mapping, a dataclass, a Struct or a pydantic model.
        steps: what stands for the code of steps, by their names: a value, an exception, a function that is called with
            the step's arguments, or several of them `in_turn`. Other steps run as they are.
        functions: what the function may invoke: functions, or by id what stands for them: a value, an exception, or a
            function that is called with the data.
        events: those that it waits for, each sent as soon as it does. One that is not given does not come.
        crash_after: steps after which the worker is killed, as soon as they are recorded; the run then goes on.
        now: when it is, as a datetime; the real time if left out.

    Raises:
        UsageError: a stub's step, or an invoked function, is not there; the function does not listen to the event.
        AssertionError: one in a stub: it is the test's, and fails no step.
    """
    with Running(
        function, event, data=data, steps=steps, functions=functions, crash_after=crash_after, now=now
    ) as running:
        return running.finish(events)


def _starting(
    function: Callable[..., Any], event: EventLike | str | Sequence[EventLike] | None, data: Shape | None
) -> list[NewEvent]:
    if event is None:
        triggers = codes.one(function).spec.triggers
        name = next((each.name for each in triggers if isinstance(each, EventTrigger)), INVOKED)
        return [new_event(f"{name[:-1]}test" if name.endswith("*") else name, data)]
    if isinstance(event, str):
        return [new_event(event, data)]
    if data is not None:
        raise UsageError("there are both an event and `data`", hint="put the data into the event")
    return new_events([event] if isinstance(event, Mapping | Event) else event)


def _listening(function: Registered, events: Sequence[NewEvent]) -> Registered:
    """The function; one without triggers listens to any event that it is tested with."""
    spec = function.spec
    heard = [each for each in spec.triggers if isinstance(each, EventTrigger)]
    for event in events:
        if event.name == INVOKED and not heard:
            continue
        if not spec.triggers:
            return function._replace(spec=msgspec.structs.replace(spec, triggers=(EventTrigger(event.name),)))
        if not any(each.listens_to(event.name) for each in heard):
            names = [each.name for each in heard]
            raise UsageError(
                f"`{spec.id}` does not listen to `{event.name}`", hint=nearest(event.name, names, "it listens to")
            )
    return function


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
