"""How runs begin and end: with the events, children and waits that belong to that. It only decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from fanout.core import flow
from fanout.core.paths import value_at
from fanout.core.places import TICKS
from fanout.core.routing import Routes
from fanout.core.sampling import Sampling
from fanout.core.trace_ids import attempt_span, origin_of, run_span, traceparent, with_parent
from fanout.engine.keys import partition_of, singleton_of, value_of
from fanout.engine.queue import ReadyQueue
from fanout.engine.roster import Active, Roster
from fanout.engine.tick import EndedChild, Tick
from fanout.engine.timers import Timers
from fanout.ids import UlidFactory
from fanout.journal import Journal
from fanout.journal.rows import EventRow, NewRun, QueuedRun, StoredEvent, WaitRow
from fanout.model import Failure, FunctionSpec, Overlap, RunState
from fanout.protocol import Evict

INVOKED = "fanout/function.invoked"
FINISHED = "fanout/function.finished"
FAILED = "fanout/function.failed"
CANCELLED = "fanout/function.cancelled"
_ENDINGS: dict[RunState, tuple[str, ...]] = {
    RunState.COMPLETED: (FINISHED,),
    RunState.FAILED: (FINISHED, FAILED),
    RunState.CANCELLED: (CANCELLED,),
}
_NAMES = frozenset({FINISHED, FAILED, CANCELLED})


class Parent(NamedTuple):
    """Who waits for a child: a step of a run, which may be a map with many children."""

    run: int
    step: str
    item: int | None = None
    item_key: str | None = None


class Admit(Protocol):
    """See `Admission.admit`."""

    def __call__(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int, /, *, is_echo: bool) -> None: ...


class Held(NamedTuple):
    """A new run is held for more events, until `due_at`; by this name it is found when one comes."""

    name: str
    due_at: int


class Runs:
    """Makes runs and ends them. It knows the functions that the code has."""

    def __init__(
        self,
        journal: Journal,
        roster: Roster,
        queue: ReadyQueue,
        timers: Timers,
        *,
        event: Callable[[int], StoredEvent],
        admit: Admit,
        sampling: Sampling | None = None,
    ) -> None:
        self._journal = journal
        self._roster = roster
        self._queue = queue
        self._timers = timers
        self._event = event
        self._admit = admit
        self._sampling = sampling
        self._new_id = UlidFactory()
        self._last_run_key = journal.last_run_key()
        self._first_event_key = journal.first_event_key()
        self.functions: dict[str, FunctionSpec] = {}
        self.routes = Routes(())
        self._heard: frozenset[str] = frozenset()
        self.awaited: set[str] = set(journal.awaited_events())
        """Names of events that something may wait for; some of them in vain."""

    def learn(self, functions: tuple[FunctionSpec, ...]) -> None:
        self.functions = {spec.id: spec for spec in functions}
        self.routes = Routes(functions)
        self._heard = frozenset(name for name in _NAMES if self.routes.match(name))

    # Beginning.

    def new(
        self,
        tick: Tick,
        spec: FunctionSpec,
        event: StoredEvent,
        now: int,
        *,
        replay_of: int | None = None,
        starts_at: int | None = None,
        parent: Parent | None = None,
        singleton: str | None = None,
        held: Held | None = None,
        is_echo: bool = False,
    ) -> int:
        """A run of this function for this event: ready now, or when its time (`starts_at`) has come. Its key.

        `singleton` is its key if that is another than its event gives.
        """
        self._last_run_key += 1
        key, run_id = self._last_run_key, self._new_id(now)
        partition = partition_of(spec, event, is_sequence=singleton == TICKS and spec.overlap is Overlap.QUEUE)
        rank = self._rank(spec, partition, event, now)
        due_at = event.ts if event.ts > now and replay_of is None else starts_at
        deadline_at = deadline_of(spec, due_at or now)
        if held is not None:
            due_at, deadline_at = held.due_at, None  # It is not in the queue yet.
        elif singleton is None:
            singleton = singleton_of(spec, event)
        if singleton is not None:
            tick.singletons.setdefault((spec.id, singleton), []).append(key)
        state = RunState.QUEUED if due_at is None else RunState.WAITING
        of, step, item, item_key = (None, None, None, None) if parent is None else parent
        tick.born[key] = new = NewRun(
            key, run_id, spec.id, event.key, partition, rank, state, spec.max_attempts, now, due_at, replay_of,
            of, step, item, item_key, deadline_at, is_echo or event.name in _NAMES, None, None,
            None if held is None else held.name, singleton,
        )  # fmt: skip
        tick.writes.runs.append(new)
        if of is not None:
            tick.born_of.setdefault(of, []).append(key)
        if due_at is None:
            # A replay has steps already; what has none needs no look at the journal when it starts.
            run = QueuedRun(
                key, run_id, spec.id, partition, event.key, rank, 0, 0, False, None, of, step, item, replay_of is None,
                new.is_echo,
            )  # fmt: skip
            tick.ready.append(run)
        self._timers.add(due_at)
        self._timers.add(deadline_at)
        if spec.cancel_on:
            self._listen(tick, key, spec, event, now, after=event.key if event.key > 0 and replay_of is None else None)
        return key

    def skip(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, reason: str, now: int) -> int:
        """A run that is over before it began, so that people can see why nothing ran."""
        self._last_run_key += 1
        key = self._last_run_key
        tick.writes.runs.append(
            NewRun(
                key, self._new_id(now), spec.id, event.key, "", 0, RunState.SKIPPED, spec.max_attempts, now, None, None,
                None, None, None, None, None, False, reason, now,
            )
        )  # fmt: skip
        return key

    def make_ready(self, tick: Tick, run: QueuedRun, now: int) -> None:
        """A run that waited goes to the queue. A throttle is for first starts, and it may have had its own."""
        spec = self.functions.get(run.function)
        rank, partition = self._queue.rank(now), run.partition
        if run.started_at is not None:
            partition = flow.begun(partition)
        if spec is not None and spec.flow.priority is not None:
            rank = self._rank(spec, partition, self.event_of(tick, run.event), now)
        tick.woken.add(run.key)
        tick.writes.due.append((rank, partition, run.key))
        tick.ready.append(run._replace(rank=rank, partition=partition, is_fresh=False))

    def starts_with(
        self, tick: Tick, spec: FunctionSpec, run: int, event: StoredEvent, now: int, *, is_echo: bool
    ) -> None:
        """A run that is held has another event than before, and other events cancel it."""
        born = tick.born.get(run)
        if born is not None:
            tick.born[run] = born._replace(event=event.key, is_echo=is_echo)
        if spec.cancel_on:
            tick.writes.waits = [wait for wait in tick.writes.waits if wait.run != run]
            self._listen(tick, run, spec, event, now, after=event.key if event.key > 0 else None)

    def _rank(self, spec: FunctionSpec, partition: str, event: StoredEvent, now: int) -> int:
        rank = self._queue.rank(now)
        priority = spec.flow.priority
        if priority is None or flow.is_sequence(partition):
            return rank
        return flow.rank(rank, value_of(priority, event))

    def singletons(self, tick: Tick, function: str, key: str) -> list[int]:
        """Live runs of this function with this key."""
        here = tick.singletons.get((function, key), ())
        return [run for run in (*self._journal.singletons(function, key), *here) if run not in tick.ended]

    def _listen(
        self, tick: Tick, run: int, spec: FunctionSpec, event: StoredEvent, now: int, *, after: int | None
    ) -> None:
        """Wait for the events that cancel this run."""
        for number, each in enumerate(spec.cancel_on):
            path, value = each.match or "", ""
            if each.match is not None:
                found = value_at(event.as_dict(), each.match)
                if found is None:
                    continue  # What is not there is equal to nothing.
                value = found
            expires_at = None if each.timeout_ms is None else now + each.timeout_ms
            tick.writes.waits.append(WaitRow(run, "", number, each.event, path, value, each.if_, expires_at, after))
            tick.awaited.add(each.event)
            self.awaited.add(each.event)

    def announce(
        self,
        tick: Tick,
        name: str,
        data: str,
        origin: int | None,
        now: int,
        *,
        ts: int | None = None,
        user: str | None = None,
    ) -> StoredEvent:
        """An event of the engine's own."""
        self._first_event_key -= 1
        event = StoredEvent(
            self._first_event_key, self._new_id(now), False, name, now if ts is None else ts, data, user, None, now
        )
        tick.writes.events.append(EventRow(*event, origin))
        tick.events[event.key] = event
        return event

    def invoke(
        self, tick: Tick, spec: FunctionSpec, data: str, origin: int | None, now: int, parent: Parent | None = None
    ) -> int:
        """A run of this function with this data, which somebody asked for by name. Its key."""
        active = None if origin is None else self._roster.by_run.get(origin)
        user = None
        if self._sampling is not None and active is not None and parent is not None:
            user = self._place(tick, active.run, attempt_span(active.run.id, parent.step, 0), self._sampling)
        event = self.announce(tick, INVOKED, data, origin, now, user=user)
        is_echo = active is not None and active.run.is_echo
        key = self.new(tick, spec, event, now, parent=parent, is_echo=is_echo)
        if not is_echo:
            self.spread(tick, event, now, but=spec.id)
        return key

    def spread(self, tick: Tick, event: StoredEvent, now: int, *, but: str | None = None, is_echo: bool = True) -> None:
        """An event of the engine's own is for all functions that listen to it, `but` for one."""
        for listener in self.routes.match(event.name):
            if listener.id != but:
                self._admit(tick, listener, event, now, is_echo=is_echo)

    def event_of(self, tick: Tick, key: int) -> StoredEvent:
        return tick.events.get(key) or self._event(key)

    # Ending.

    def end(
        self,
        tick: Tick,
        active: Active,
        state: RunState,
        now: int,
        *,
        reason: str | None = None,
        output: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        """The end of a run that a worker has."""
        active.is_final = True
        tick.ended.add(active.run.key)
        tick.over.add(active.run.function)
        tick.end(active, state, now, reason=reason, output=output)
        has_open_steps = active.waits or active.has_maps or active.has_retries
        if has_open_steps or active.spec.cancel_on or state is RunState.CANCELLED:
            tick.writes.abandoned.append((now, active.run.key))
        self._tell(tick, active.run, active.spec, state, now, output, failure)

    def cut_short(self, tick: Tick, active: Active, state: RunState, now: int, **more: Any) -> None:
        """The run ends now; its slot is free when the step in flight has ended."""
        active.is_leaving = True
        tick.tell(active.worker, Evict(active.claim))
        self.end(tick, active, state, now, **more)

    def cancel(self, tick: Tick, run: int, now: int) -> None:
        """End a live run as cancelled, and what it has invoked. A step in flight ends, and its result is dropped."""
        if self._cancel_one(tick, run, now):
            self.cancel_children(tick, run, None, now)

    def cancel_children(self, tick: Tick, run: int, step: str | None, now: int) -> None:
        """With all that those have invoked: a family may be deeper than Python's stack."""
        parents = [(run, step)]
        for parent, of in parents:  # It grows meanwhile.
            born = (key for key in tick.born_of.get(parent, ()) if of in (None, tick.born[key].parent_step))
            children = (*self._journal.children(parent, of), *born)
            parents += [(child, None) for child in children if self._cancel_one(tick, child, now)]

    def _cancel_one(self, tick: Tick, run: int, now: int) -> bool:
        """Whether it has not ended already."""
        active = self._roster.by_run.get(run)
        if active is None:
            return self.end_unstarted(tick, run, RunState.CANCELLED, now)
        if active.is_final:
            return False
        self.cut_short(tick, active, RunState.CANCELLED, now)
        return True

    def end_unstarted(
        self,
        tick: Tick,
        run: int,
        state: RunState,
        now: int,
        *,
        reason: str | None = None,
        failure: Failure | None = None,
    ) -> bool:
        """End a run that no worker has. False if it has ended already."""
        if run in tick.ended:
            return False
        queued = self.unstarted(tick, run)
        if queued is None:
            return False
        tick.ended.add(run)
        tick.over.add(queued.function)
        tick.writes.cancelled.append((state, reason, now, run))
        tick.writes.abandoned.append((now, run))
        if failure is not None:
            tick.failed(queued, "", queued.attempt, failure, now)
        tick.discarded.append(queued)
        self._tell(tick, queued, self.functions.get(queued.function), state, now, None, failure)
        return True

    def unstarted(self, tick: Tick, run: int) -> QueuedRun | None:
        new = tick.born.get(run)
        if new is not None:
            return QueuedRun(
                new.key, new.id, new.function, new.partition, new.event, new.rank, 0, 0, False, None,
                new.parent, new.parent_step, new.item, is_echo=new.is_echo,
            )  # fmt: skip
        live = self._journal.live(run)
        return None if live is None else live.run

    def _tell(
        self,
        tick: Tick,
        run: QueuedRun,
        spec: FunctionSpec | None,
        state: RunState,
        now: int,
        output: str | None,
        failure: Failure | None,
    ) -> None:
        """Who hears of the end: the parent, `on_failure`, and functions that listen to the engine's own events."""
        if run.parent is not None:
            tick.children.append(EndedChild(run, state, output, failure))
        if not self._heard and state is RunState.COMPLETED:
            return
        names = _ENDINGS.get(state, ())
        on_failure = self.functions.get((spec and spec.on_failure) or "") if FAILED in names else None
        heard = [name for name in names if name in self._heard or (name == FAILED and on_failure is not None)]
        if not heard or run.is_echo:
            return
        event = self.event_of(tick, run.event)
        data = _ending(run, event, state, output, failure)
        user = None if self._sampling is None else self._place(tick, run, run_span(run.id), self._sampling)
        for name in heard:
            announced = self.announce(tick, name, data, run.key, now, user=user)
            handler = on_failure if name == FAILED else None
            if handler is not None:
                self.new(tick, handler, announced, now, is_echo=True)
            self.spread(tick, announced, now, but=None if handler is None else handler.id)

    def _place(self, tick: Tick, run: QueuedRun, span: int, sampling: Sampling) -> str:
        """What an event says of this span of the run, in which it is sent."""
        event = self.event_of(tick, run.event)
        origin = origin_of(event.id, event.ts, event.user, sampling)
        return with_parent(None, traceparent(origin, span), origin.state)


def deadline_of(spec: FunctionSpec, queued_at: int) -> int | None:
    """When a run has to have started."""
    start_ms = spec.timeouts.start_ms
    return None if start_ms is None else queued_at + start_ms


def _ending(run: QueuedRun, event: StoredEvent, state: RunState, output: str | None, failure: Failure | None) -> str:
    """What the events about an end say: which run of what, the event that had started it, and how it ended."""
    said: dict[str, object] = {"function_id": run.function, "run_id": run.id, "state": state}
    if output is not None:
        said["result"] = msgspec.Raw(output.encode())
    if failure is not None:
        said["error"] = failure
    said["event"] = msgspec.Raw(event.as_json().encode())
    return msgspec.json.encode(said).decode()
