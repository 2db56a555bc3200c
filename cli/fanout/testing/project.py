"""Several functions together: an event starts all that listen to it, what they send starts others, schedules tick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import finalize

from fanout.attached import spec_of
from fanout.errors import NotFoundError, UsageError
from fanout.model import Event, FunctionSpec
from fanout.testing import codes
from fanout.testing.clock import Clock, Moment, Span, milliseconds, span_ms
from fanout.testing.codes import Source
from fanout.testing.given import EventLike, new_event, new_events, plain
from fanout.testing.nearest import nearest
from fanout.testing.results import Result
from fanout.testing.stage import Stage
from fanout.testing.stubs import Stubs

if TYPE_CHECKING:
    from fanout.worker.signatures import Function, OutputT, Shape

Target = Callable[..., Any] | str
"""A function, or the id of one."""


class Project:
    """A project on a journal of its own, in this process and in memory; its clock stands still until `advance`.

    ```python
    project = Project(signup)  # a module; or functions, or the path of a `fanout.toml`
    project.stub(signup.sync_crm, {"upsert-contact": "created"})
    project.send("app/user.signup", data={"user": ada})
    assert {run.function: run.state for run in project.runs}["sync-crm"] == "completed"
    ```

    Everything is as with `fanout serve`: fan-out, concurrency, retries with their delays, `on_failure`, schedules. But
    functions are executed one after another, in the working directory of the test.
    """

    def __init__(
        self,
        *sources: Source,
        steps: Mapping[str, object] | None = None,
        crash_after: str | Iterable[str] = (),
        now: Moment | None = None,
    ) -> None:
        """Load the functions: those that are given, those of modules, or those of one `fanout.toml`.

        Without any they are those of the `fanout.toml` in the working directory or above it.

        Args:
            sources: functions, lists of them, modules, or the path of a `fanout.toml` or of its folder.
            steps: stubs of steps by their names, as for `run`, in whichever function they are.
            crash_after: as for `run`; `function/step` is that function's step only.
            now: when it is, as a datetime; the real time if left out.

        Raises:
            ConfigError, LoadError: the project can't be loaded.
            UsageError: there is no function, or no step that a stub is for.
        """
        self._codes, has_prefixes = codes.found_in(sources)
        self._clock = Clock(now)
        self._stage = stage = Stage(self._codes, clock=self._clock, has_prefixes=has_prefixes, has_schedules=True)
        stage.crash_after |= {crash_after} if isinstance(crash_after, str) else set(crash_after)
        finalize(self, stage.close).atexit = False
        self._ids = {
            each.spec.in_app(app, has_prefix=has_prefixes).id: each.spec
            for app, code in self._codes.items()
            for each in code.values()
        }
        if steps:
            self._check_names(list(steps), list(self._ids.values()))
            for spec in self._ids.values():
                stage.stubs[spec.id] = Stubs(steps, stage.escape)
        stage.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """It is not needed any more. Nothing is left behind without it, either."""
        self._stage.close()

    # What happens.

    def send(self, *events: EventLike | str, data: Shape | None = None) -> list[Result[Any]]:
        """Send events, and let everything that they start go on until it waits, or is over.

        Returns:
            the runs that they have started, with all that those have caused, as they are now.
        """
        before = len(self._stage.journal.run_keys())
        named = len(events) == 1 and isinstance(events[0], str)
        if not named and (data is not None or any(isinstance(each, str) for each in events)):
            raise UsageError("`data` goes with one event's name", hint='write `send("app/paid", data={"id": 7})`')
        new = [new_event(events[0], data)] if named else new_events(events)  # type: ignore[arg-type] # no text is left
        self._stage.send(new)
        self._stage.settle()
        return self._results(self._stage.journal.run_keys()[before:])

    def invoke(self, function: Function[Any, OutputT] | str, data: Shape | None = None) -> Result[OutputT]:
        """Start a function by its name, as `fanout invoke` does."""
        return self._asked("invoke", function=self._id_of(function), data=plain(data))

    def tick(self, function: Function[Any, OutputT] | str) -> Result[OutputT]:
        """Start a function as its schedule would now, as `fanout cron trigger` does."""
        return self._asked("tick", function=self._id_of(function), at=None)

    def cancel(self, run: Result[OutputT]) -> Result[OutputT]:
        """Cancel a run and what it has invoked."""
        self._stage.request("cancel", runs=[run.key])
        self._stage.settle()
        return self.again(run)

    def replay(
        self, run: Result[OutputT], *, from_start: bool = False, from_step: str | None = None
    ) -> Result[OutputT]:
        """A new run from an old one, with the steps that it has completed."""
        before = len(self._stage.journal.run_keys())
        self._stage.request("replay", runs=[run.key], again=True, from_start=from_start, from_step=from_step)
        self._stage.settle()
        return self._results(self._stage.journal.run_keys()[before:])[0]

    def crash(self) -> None:
        """All processes are killed, and started again; nothing that is recorded is lost."""
        self._stage.crash()

    def stub(self, function: Target, steps: Mapping[str, object]) -> None:
        """From now on these stand for steps of that function, as `steps` of `run`."""
        spec = self._ids[self._id_of(function)]
        self._check_names(list(steps), [spec])
        self._stage.stubs[spec.id] = Stubs(steps, self._stage.escape)

    # Time.

    @property
    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        return self._clock.now

    def advance(self, span: Span) -> None:
        """Let time pass: `3 days`, `1h30m`, seconds or a timedelta. All that is due until then happens in its order."""
        self._stage.advance_to(self._clock.now + span_ms(span))

    def advance_to(self, moment: Moment) -> None:
        """Let time pass until then."""
        self._stage.advance_to(milliseconds(moment))

    def finish(self, most: Span = "366 days") -> list[Result[Any]]:
        """Let time pass until all runs are over, but no longer than that.

        Returns:
            all runs.
        """
        until = self._clock.now + span_ms(most)
        while self._stage.journal.has_live():
            at = self._stage.next_at()
            if at is None or at > until:
                break
            self._stage.advance_to(at)
        return self.runs

    # What there is.

    @property
    def runs(self) -> list[Result[Any]]:
        """All runs, in the order in which they were made."""
        return self._results(self._stage.journal.run_keys())

    @property
    def events(self) -> list[Event[Any]]:
        """All events, sent and sent by steps, and those of fanout's own that somebody listens to."""
        return [each.event for each in self._stage.journal.received()]

    def runs_of(self, function: Function[Any, OutputT] | str) -> list[Result[OutputT]]:
        """The runs of this function, in the order in which they were made."""
        id_ = self._id_of(function)
        return [run for run in self.runs if run.function == id_]

    def run(self, function: Function[Any, OutputT] | str) -> Result[OutputT]:
        """The only run of this function.

        Raises:
            NotFoundError: it has none, or several.
        """
        found = self.runs_of(function)
        if len(found) != 1:
            others = ", ".join(f"`{run.function}`" for run in self.runs) or "none"
            raise NotFoundError(
                f"`{self._id_of(function)}` has {len(found)} runs, not one", hint=f"there are runs of {others}"
            )
        return found[0]

    def again(self, run: Result[OutputT]) -> Result[OutputT]:
        """What has become of this run until now."""
        return self._stage.result(run.key)

    def _asked(self, kind: str, **body: Any) -> Result[Any]:
        request = self._stage.request(kind, **body)
        self._stage.settle()
        key = self._stage.journal.request_answer(request)
        if key is None:
            raise UsageError(f"`{body['function']}` has no run for that", hint="has it a schedule? one run a tick")
        return self._stage.result(key)

    def _results(self, keys: Sequence[int]) -> list[Result[Any]]:
        return [self._stage.result(key) for key in keys]

    def _id_of(self, function: Target) -> str:
        if not isinstance(function, str):
            spec = spec_of(function) or codes.one(function).spec
            known = [id_ for id_, each in self._ids.items() if (each.id, each.module) == (spec.id, spec.module)]
            function = known[0] if known else spec.id
        if function not in self._ids:
            raise UsageError(
                f"the project has no function `{function}`", hint=nearest(function, list(self._ids), "it has")
            )
        return function

    def _check_names(self, names: Sequence[str], specs: Sequence[FunctionSpec]) -> None:
        """A stub for a step that no function has is a slip, and would else be silent."""
        known = [spec.steps for spec in specs]
        listed = [step for steps in known for step in steps or ()]
        for name in names:
            if None not in known and name.partition("#")[0] not in listed:
                where = f"`{specs[0].id}`" if len(specs) == 1 else "no function"
                said = f"{where} has no step `{name}`" if len(specs) == 1 else f"{where} has a step `{name}`"
                raise UsageError(said, hint=nearest(name, listed, "there are"))
