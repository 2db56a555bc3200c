"""What a tick has written, as facts. Rows say what changed in the journal; facts say what that means for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from fanout.commands.live.facts import EventSeen, Fact, LeftOut, RunSeen, StepSeen
from fanout.commands.live.names import Names
from fanout.journal.family import FUNCTION_INVOKED
from fanout.journal.rows import FailureRow, NewRun, StepRow
from fanout.journal.writes import Writes
from fanout.model import Failure, RunState, StepKind, StepState

CRASHED = "Crashed"
_SHOWN_STEPS = frozenset({StepState.COMPLETED, StepState.FAILED, StepState.RETRYING, StepState.WAITING})


def weight(writes: Writes) -> int:
    """About how many facts that makes, for next to no work."""
    return (
        len(writes.runs) + len(writes.ended) + len(writes.cancelled) + len(writes.skipped) + len(writes.failures)
        + len(writes.parked) + (len(writes.steps) + len(writes.events)) // 2
    )  # fmt: skip


class Reading:
    """Turns writes into facts, in their order. It keeps how far events have been routed, and which steps wait."""

    def __init__(self, names: Names, routed_to: int) -> None:
        self._names = names
        self._routed_to = routed_to
        self._waiting: dict[tuple[int, str], StepSeen] = {}
        """Steps that were shown to wait: what they become has no times of its own. Bounded, as the names are."""

    def facts(self, writes: Writes) -> Iterator[Fact]:
        failures = {(row.run, row.step): row for row in writes.failures}
        routed = self._routed(writes)
        sent = {row.key: row.id for row in writes.events if row.key is not None}
        seen = self._names.events({*routed, *(new.event for new in writes.runs if new.event not in sent)})
        for new in writes.runs:
            event = seen.get(new.event)
            self._names.learn(new, sent.get(new.event, "") if event is None else event.id)
        self._names.look_up(set(_runs(writes)))
        yield from self._events(writes, routed, seen)
        for new in writes.runs:
            yield from self._new(new)
        yield from self._steps(writes, failures)
        yield from self._goes_on_later(writes, failures)
        yield from self._ends(writes, failures)

    def count(self, writes: Writes, at: int) -> LeftOut:
        """The same in short, for next to no work."""
        events = len(self._routed(writes))
        runs = Counter(RunState(row.state) for row in writes.ended)
        runs.update(RunState(state) for state, *_ in writes.cancelled)
        runs[RunState.SKIPPED] += len(writes.skipped)
        return LeftOut(at, events, len(writes.runs), +runs, len(writes.failures), 0)

    # Events, and what they start.

    def _routed(self, writes: Writes) -> range:
        """The keys of the events that have been routed now."""
        before, self._routed_to = self._routed_to, max(self._routed_to, writes.routed_to or 0)
        return range(before + 1, self._routed_to + 1)

    def _events(self, writes: Writes, routed: range, seen: Mapping[int, EventSeen]) -> Iterator[Fact]:
        started = Counter(new.event for new in writes.runs)
        taken = {event for _, _, event, _ in writes.collected}
        is_heard = bool(writes.heard or writes.cancelled)
        for row in writes.events:
            if row.key is not None and row.key < 0 and row.name != FUNCTION_INVOKED and started[row.key]:
                sender = None if row.origin is None else self._names.run(row.origin)
                yield EventSeen(
                    row.received_at, row.key, row.id, row.name, started[row.key], sender and sender.function,
                    sender and sender.id,
                )  # fmt: skip
        for key in routed:
            if key in seen:
                is_taken_up = is_heard or bool(writes.collected) or key in taken
                yield seen[key]._replace(runs=started[key], is_taken_up=is_taken_up)

    def _new(self, new: NewRun) -> Iterator[Fact]:
        whose = self._names.run(new.key)
        if new.state == RunState.SKIPPED:
            yield RunSeen(new.queued_at, whose, RunState.SKIPPED, reason=new.reason)
        elif new.due_at is not None:
            held = None if new.hold is None else f"collects events ({new.hold.split(':', 1)[0]})"
            yield RunSeen(new.queued_at, whose, RunState.WAITING, reason=held, due_at=new.due_at)
        else:
            yield RunSeen(new.queued_at, whose, RunState.QUEUED)

    # Steps.

    def _steps(self, writes: Writes, failures: dict[tuple[int, str], FailureRow]) -> Iterator[Fact]:
        awaited = {(wait.run, wait.step): wait.event for wait in writes.waits if wait.step}
        awaited |= {(run, step): row.function for (run, step), row in writes.maps.items()}
        awaited |= {
            (new.parent, new.parent_step): new.function for new in writes.runs if new.parent and new.parent_step
        }
        for row in writes.running:
            yield self._step(row)
        for row in writes.steps:
            if row.state in _SHOWN_STEPS:
                failed = failures.get((row.run, row.key))
                seen = self._step(row)._replace(awaited=awaited.get((row.run, row.key)), failure=_failure(failed))
                if seen.state is StepState.WAITING:
                    self._keep((row.run, row.key), seen)
                yield seen
        ends = [(each.run, each.key, StepState(each.state), each.ended_at) for each in writes.resolved]
        ends += [(run, step, StepState.COMPLETED, at) for at, run, step in writes.gathered]
        for run, key, state, at in ends:
            before = self._waiting.pop((run, key), None)
            whose, took = self._names.run(run), None if before is None else at - before.at
            kind = StepKind.WAIT if before is None else before.kind
            yield StepSeen(at, whose, key, kind, state, 1, took, failure=_failure(failures.get((run, key))))

    def _step(self, row: StepRow) -> StepSeen:
        took = None if row.ended_at is None else row.ended_at - row.started_at
        return StepSeen(
            row.ended_at or row.started_at, self._names.run(row.run), row.key, StepKind(row.kind), StepState(row.state),
            row.attempts, took, row.due_at,
        )  # fmt: skip

    def _keep(self, key: tuple[int, str], seen: StepSeen) -> None:
        if len(self._waiting) >= 1_000:  # noqa: PLR2004 - who comes back after so many has no duration
            del self._waiting[next(iter(self._waiting))]
        self._waiting[key] = seen

    # Runs.

    def _goes_on_later(self, writes: Writes, failures: dict[tuple[int, str], FailureRow]) -> Iterator[Fact]:
        for noted in writes.noted:
            yield RunSeen(noted.started_at, self._names.run(noted.run), RunState.RUNNING, attempts=noted.attempt + 1)
        for row in writes.retried:
            failed = failures.get((row.run, ""))
            at = row.started_at if failed is None else failed.at
            yield RunSeen(
                at, self._names.run(row.run), RunState.WAITING, None, row.attempt + 1, None, row.due_at,
                _failure(failed),
            )  # fmt: skip
        for lost in writes.lost:
            failed = failures.get((lost.run, ""))
            if failed is not None and failed.type == CRASHED:
                whose = self._names.run(lost.run)
                yield RunSeen(failed.at, whose, RunState.QUEUED, None, lost.attempt + 1, None, None, _failure(failed))

    def _ends(self, writes: Writes, failures: dict[tuple[int, str], FailureRow]) -> Iterator[Fact]:
        for row in writes.ended:
            took = None if row.started_at is None else row.ended_at - row.started_at
            yield RunSeen(
                row.ended_at, self._names.run(row.run), RunState(row.state), took, row.attempt + 1, row.reason, None,
                _failure(failures.get((row.run, ""))),
            )  # fmt: skip
        for state, reason, at, run in writes.cancelled:
            failed = _failure(failures.get((run, "")))
            yield RunSeen(at, self._names.run(run), RunState(state), reason=reason, failure=failed)
        for reason, at, run in writes.skipped:
            yield RunSeen(at, self._names.run(run), RunState.SKIPPED, reason=reason)


def _runs(writes: Writes) -> Iterator[int]:
    """Of which facts are made."""
    for rows in (writes.steps, writes.running):
        yield from (step.run for step in rows)
    yield from (step.run for step in writes.resolved)
    yield from (ended.run for ended in writes.ended)
    yield from (retried.run for retried in writes.retried)
    yield from (lost.run for lost in writes.lost)
    yield from (noted.run for noted in writes.noted)
    yield from (run for _, run, _ in writes.gathered)
    yield from (run for _, _, _, run in writes.cancelled)
    yield from (run for _, _, run in writes.skipped)


def _failure(row: FailureRow | None) -> Failure | None:
    return None if row is None else Failure(row.type, row.message, row.traceback)
