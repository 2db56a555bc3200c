"""A run of the journal as spans: one for it, one for each attempt of its code and of its steps.

The first run of an event also tells of the event, under which all of them are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from fanout import __version__
from fanout.core.causes import root_cause
from fanout.core.sampling import EVERYTHING, Sampling
from fanout.core.trace_ids import Origin, attempt_span, event_span, origin_of, run_span
from fanout.journal.traced import TracedEvent, TracedRun, TracedStep
from fanout.model import FailedAttempt, Failure, RunState, StepState

_SCOPE = InstrumentationScope("fanout", __version__)
Attributes = dict[str, str | int]


class Telling(NamedTuple):
    """How runs are told: of which service each is, what nobody is shown, and which of them are."""

    resource_of: Callable[[str], Resource]
    hide: Callable[[str], str] = str
    sampling: Sampling = EVERYTHING


class _Stretch(NamedTuple):
    """An attempt of the code between steps, and the crashes in it."""

    number: int
    began_at: int
    ended_at: int
    failures: tuple[FailedAttempt, ...]


def spans(run: TracedRun, telling: Telling) -> Iterator[ReadableSpan]:
    """All that there is to tell of the run; nothing if its trace is not to be exported."""
    origin = origin_of(run.event.id, run.event.ts, run.event.user, telling.sampling)
    if origin.is_sampled:
        yield from _Teller(run, origin, telling).tell()


class _Teller:
    def __init__(self, run: TracedRun, origin: Origin, telling: Telling) -> None:
        self._run = run
        self._origin = origin
        self._hide = telling.hide
        self._resource = telling.resource_of(run.function)
        self._attributes: Attributes = {
            "fanout.function": run.function,
            "fanout.run": run.id,
            "fanout.event": run.event.name,
            "fanout.event_id": run.event.id,
        }

    def tell(self) -> Iterator[ReadableSpan]:
        run, event = self._run, self._run.event
        above = self._origin.sender
        if not event.is_own:
            above = event_span(event.id, event.ts)
            if run.is_first:
                yield self._event(event, above)
        yield self._whole(above)
        stretches = self._stretches() if run.started_at is not None else []
        for stretch in stretches:
            yield self._stretch(stretch)
        for step in run.steps:
            yield from self._step(step, stretches)

    def _event(self, event: TracedEvent, span: int) -> ReadableSpan:
        attributes: Attributes = {"fanout.event": event.name, "fanout.event_id": event.id}
        ended_at = max(event.received_at, self._run.queued_at)
        return self._span(
            event.name, span, self._origin.sender, event.received_at, ended_at, attributes, kind=SpanKind.PRODUCER
        )

    def _whole(self, above: int | None) -> ReadableSpan:
        run = self._run
        attributes: Attributes = {"fanout.state": run.state.value, "fanout.attempts": run.attempt + 1}
        if run.reason is not None:
            attributes["fanout.reason"] = self._hide(run.reason)
        links = [self._link(origin_of(each.id, each.ts, each.user), each) for each in run.others]
        if run.replay_of is not None:
            attributes["fanout.replay_of"] = run.replay_of
            links.append(Link(self._context(run_span(run.replay_of))))
        last = run.failures[-1].failure if run.state is RunState.FAILED and run.failures else None
        return self._span(
            run.function, run_span(run.id), above, run.queued_at, run.ended_at, {**self._attributes, **attributes},
            kind=SpanKind.CONSUMER, links=links, failure=last, is_failed=run.state is RunState.FAILED,
        )  # fmt: skip

    def _stretches(self) -> list[_Stretch]:
        """The attempts. When a later one began is not recorded: with its first step, or when the one before failed."""
        run, found = self._run, []
        began_at = run.queued_at if run.started_at is None else run.started_at
        for number in range(run.attempt + 1):
            failures = tuple(each for each in run.failures if not each.step and each.number == number)
            ended_at = failures[-1].ended_at if failures and number < run.attempt else run.ended_at
            found.append(_Stretch(number, min(began_at, ended_at), ended_at, failures))
            begun = [step.first_began_at for step in run.steps if step.first_began_at >= ended_at]
            began_at = min(begun, default=ended_at)
        return found

    def _stretch(self, stretch: _Stretch) -> ReadableSpan:
        run, failures = self._run, stretch.failures
        is_last = stretch.number == run.attempt
        is_failed = run.state is RunState.FAILED if is_last else True
        return self._span(
            f"attempt {stretch.number + 1}", attempt_span(run.id, None, stretch.number), run_span(run.id),
            stretch.began_at, stretch.ended_at, {**self._attributes, "fanout.attempt": stretch.number},
            failure=failures[-1].failure if failures and is_failed else None,
            exceptions=failures, is_failed=is_failed,
        )  # fmt: skip

    def _step(self, step: TracedStep, stretches: list[_Stretch]) -> Iterator[ReadableSpan]:
        """Its attempts; none, if a replay was given its result."""
        run = self._run
        failures = [each for each in run.failures if each.step == step.key]
        for each in failures:
            began_at = step.first_began_at if each.began_at is None else each.began_at
            yield self._attempt(step, stretches, each.number, began_at, each.ended_at, StepState.FAILED, each)
        if step.state is StepState.COMPLETED:
            ended_at = step.ended_at or run.ended_at
            if step.attempts and ended_at >= run.queued_at:
                yield self._attempt(step, stretches, step.attempts - 1, step.began_at, ended_at, step.state, None)
        elif step.state is StepState.CANCELLED and (step.attempts > len(failures) or not step.attempts):
            ended_at = step.ended_at or run.ended_at
            yield self._attempt(step, stretches, len(failures), step.began_at, ended_at, step.state, None)

    def _attempt(
        self,
        step: TracedStep,
        stretches: list[_Stretch],
        number: int,
        began_at: int,
        ended_at: int,
        state: StepState,
        failed: FailedAttempt | None,
    ) -> ReadableSpan:
        run = self._run
        within = next((each.number for each in stretches if began_at <= each.ended_at), run.attempt)
        attributes: Attributes = {
            "fanout.step": step.key,
            "fanout.step_kind": step.kind.value,
            "fanout.attempt": number,
            "fanout.state": state.value,
        }
        return self._span(
            step.key, attempt_span(run.id, step.key, number), attempt_span(run.id, None, within), began_at, ended_at,
            {**self._attributes, **attributes}, failure=None if failed is None else failed.failure,
            exceptions=() if failed is None else (failed,), is_failed=state is StepState.FAILED,
        )  # fmt: skip

    # Spans as the SDK has them.

    def _span(
        self,
        name: str,
        span: int,
        above: int | None,
        began_at: int,
        ended_at: int,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: list[Link] | None = None,
        failure: Failure | None = None,
        exceptions: tuple[FailedAttempt, ...] = (),
        is_failed: bool = False,
    ) -> ReadableSpan:
        words = None
        if failure is not None:
            cause = root_cause(failure)  # Not which step or child has told of it: those have spans of their own.
            attributes = {**attributes, "error.type": cause.type}
            words = self._hide(str(cause))
        return ReadableSpan(
            name,
            self._context(span),
            None if above is None else self._context(above, is_remote=above == self._origin.sender),
            self._resource,
            attributes,
            [self._exception(each) for each in exceptions],
            links or [],
            kind,
            status=Status(StatusCode.ERROR, words) if is_failed else Status(),
            start_time=_ns(began_at),
            end_time=_ns(max(began_at, ended_at)),
            instrumentation_scope=_SCOPE,
        )

    def _exception(self, failed: FailedAttempt) -> Event:
        failure = failed.failure
        said = {
            "exception.type": failure.type,
            "exception.message": self._hide(failure.message),
            "exception.stacktrace": self._hide(failure.traceback),
        }
        return Event("exception", said, _ns(failed.ended_at))

    def _context(self, span: int, *, is_remote: bool = False) -> SpanContext:
        return context(self._origin, span, is_remote=is_remote)

    def _link(self, origin: Origin, event: TracedEvent) -> Link:
        return Link(context(origin, origin.sender or event_span(event.id, event.ts), is_remote=True))


def context(origin: Origin, span: int, *, is_remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if origin.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(origin.trace, span, is_remote, flags, TraceState.from_header([origin.state]))


def _ns(ms: int) -> int:
    return ms * 1_000_000
