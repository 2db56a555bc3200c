"""What an event means for a function: a run now, a part of a later one, a skipped one, or none. It only decides.

The order is fixed: match, batch, rate limit, debounce, singleton, idempotency; then the run is queued. A run that is
held for more events is asked about the last two when it is let go, and has the keys of the event that it then has.

What was not started by an event that matched is made whatever these rules say: an invoked run, a replay, and an
`on_failure`. A tick of a cron trigger comes once each, so only the singleton is asked for it. All of them count as the
singleton's live run.
"""

from __future__ import annotations

from fanout.core import flow
from fanout.core.places import TICKS
from fanout.durations import period
from fanout.engine.keys import key_of, partition_of, singleton_of, value_of
from fanout.engine.runs import Held, Runs, deadline_of
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal
from fanout.journal.rows import Hold, LetGo, QueuedRun, StoredEvent
from fanout.model import (
    NO_RULES,
    BatchRule,
    DebounceRule,
    EventTrigger,
    FunctionSpec,
    Overlap,
)

RATE_LIMIT = "rate limit"
IDEMPOTENCY = "idempotency"
IDEMPOTENCY_MS = 24 * 3600 * 1000


class Admission:
    """Asks the journal and what this tick has decided already, and remembers nothing itself."""

    def __init__(self, journal: Journal, timers: Timers, runs: Runs) -> None:
        self._journal = journal
        self._timers = timers
        self._runs = runs

    def admit(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int, *, is_echo: bool = False) -> None:
        """Whatever becomes of it is part of this tick's transaction. `is_echo`: see the schema."""
        rules = spec.flow
        if not _is_for(spec, event):
            return
        if rules == NO_RULES:
            self._runs.new(tick, spec, event, now, is_echo=is_echo)
        elif rules.batch is not None and _holds(rules.batch.if_, event):
            self._batch(tick, spec, rules.batch, event, now, is_echo=is_echo)
        elif (why := self._rate_limited(tick, spec, event, now)) is not None:
            self._runs.skip(tick, spec, event, why, now)
        elif rules.debounce is not None:
            self._debounce(tick, spec, rules.debounce, event, now, is_echo=is_echo)
        elif (why := self._refusal(tick, spec, event, now)) is not None:
            self._runs.skip(tick, spec, event, why, now)
        else:
            self._runs.new(tick, spec, event, now, is_echo=is_echo)

    def refusal_of_tick(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int) -> str | None:
        """Why the tick of a cron trigger has no run, if it has none. The runs that it is to replace are cancelled.

        Among ticks `overlap` decides, and the singleton between them and events.
        """
        # In a queue there may be thousands.
        others = [] if spec.overlap is Overlap.QUEUE else self._runs.singletons(tick, spec.id, TICKS)
        if others and spec.overlap is Overlap.SKIP:
            return "overlap: the run of the tick before is still going"
        why, rivals = self._alone(tick, spec, event, has_ticks=False)
        if why is not None:
            return why
        for other in (*(others if spec.overlap is Overlap.CANCEL else ()), *rivals):
            self._runs.cancel(tick, other, now)
        return None

    def _refusal(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int) -> str | None:
        """The last two questions. Only what gets its run cancels others."""
        why, rivals = self._alone(tick, spec, event, has_ticks=True)
        if why is None and spec.flow.idempotency is not None:
            key = key_of(spec.flow.idempotency, event)
            if self._is_repeated(tick, spec.id, key, now):
                why = f"idempotency{_on(spec.flow.idempotency, key)}"
        if why is None:
            for rival in rivals:
                self._runs.cancel(tick, rival, now)
        return why

    def _alone(
        self, tick: Tick, spec: FunctionSpec, event: StoredEvent, *, has_ticks: bool
    ) -> tuple[str | None, list[int]]:
        """What the singleton says: why there is to be no run, or which runs have to end for it.

        `has_ticks`: runs of ticks count too. They are found by a key of their own.
        """
        rule, key = spec.flow.singleton, singleton_of(spec, event)
        if rule is None or key is None:
            return None, []
        rivals = self._runs.singletons(tick, spec.id, key)
        for run in self._runs.singletons(tick, spec.id, TICKS) if has_ticks else ():
            live = self._runs.unstarted(tick, run)
            if live is not None and singleton_of(spec, self._runs.event_of(tick, live.event)) == key:
                rivals.append(run)
        if rivals and rule.mode == "skip":
            return f"singleton{_on(rule.key, key)}", []
        return None, rivals

    def _is_repeated(self, tick: Tick, function: str, key: str, now: int) -> bool:
        where = function, IDEMPOTENCY, key
        at = tick.writes.limits.get(where) or self._journal.limit_value(*where)
        # Of a clock that has stepped back, `at` is yet to come.
        if at is not None and abs(now - at) < IDEMPOTENCY_MS:
            return True
        tick.writes.limits[where] = now
        return False

    def _rate_limited(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int) -> str | None:
        """Why the event is skipped, if it is."""
        rule = spec.flow.rate_limit
        if rule is None:
            return None
        key = key_of(rule.key, event)
        where = spec.id, RATE_LIMIT, key
        tat = tick.writes.limits.get(where)
        if tat is None:
            tat = self._journal.limit_value(*where)
        verdict = flow.rate_limit(tat, now, rule)
        # Also after a refusal: a clock that has stepped back is only understood once.
        tick.writes.limits[where] = verdict.tat
        if verdict.is_allowed:
            return None
        return f"rate limit {rule.limit}/{period(rule.period_ms)}{_on(rule.key, key)}"

    # Runs that wait for more events.

    def _batch(
        self, tick: Tick, spec: FunctionSpec, rule: BatchRule, event: StoredEvent, now: int, *, is_echo: bool
    ) -> None:
        name = f"batch:{key_of(rule.key, event)}"
        old = self._hold(tick, spec.id, name)
        if old is None:
            if (why := self._rate_limited(tick, spec, event, now)) is not None:
                self._runs.skip(tick, spec, event, why, now)
                return
            old = self._begin(tick, spec, event, now, Held(name, flow.batch_due(now, rule)), is_echo=is_echo)
        hold = old._replace(
            size=old.size + 1, ts=max(old.ts, event.ts), due_at=max(old.due_at, event.ts),
            is_echo=old.is_echo or is_echo,
        )  # fmt: skip
        tick.writes.collected.append((hold.run, hold.size, event.key, False))
        tick.holds[spec.id, name] = hold
        if (hold.due_at, hold.is_echo) != (old.due_at, old.is_echo):
            self._go_on(tick, hold, now)
        if flow.is_full(hold.size, rule):
            # Of the events of earlier ticks, `hold` has the time of the first one only.
            at = max(now, hold.ts, self._journal.latest_ts(hold.run))
            self._let_go(tick, spec, name, hold, at, now)

    def _debounce(
        self, tick: Tick, spec: FunctionSpec, rule: DebounceRule, event: StoredEvent, now: int, *, is_echo: bool
    ) -> None:
        name = f"debounce:{key_of(rule.key, event)}"
        old = self._hold(tick, spec.id, name)
        if old is None:
            held = Held(name, flow.debounced(now, now, rule))
            tick.holds[spec.id, name] = self._begin(tick, spec, event, now, held, is_echo=is_echo)
            return
        is_newer = flow.replaces(old.ts, event.ts)
        hold = old._replace(size=old.size + 1, is_echo=old.is_echo or is_echo)
        if is_newer:
            hold = hold._replace(event=event.key, ts=event.ts)
        hold = hold._replace(due_at=max(flow.debounced(hold.since, now, rule), hold.ts))
        # The others stay known as well: none of them is to have a run when it comes again.
        tick.writes.collected.append((hold.run, hold.size, old.event if is_newer else event.key, True))
        tick.holds[spec.id, name] = hold
        self._go_on(tick, hold, now, event if is_newer else None)
        if is_newer:
            self._runs.starts_with(tick, spec, hold.run, event, now, is_echo=hold.is_echo)

    def _begin(
        self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int, held: Held, *, is_echo: bool
    ) -> Hold:
        """A run that is held, and not before the time of its event."""
        due_at = max(held.due_at, event.ts)
        run = self._runs.new(tick, spec, event, now, held=held._replace(due_at=due_at), is_echo=is_echo)
        return Hold(run, now, event.key, event.ts, 0, due_at, is_echo)

    def _hold(self, tick: Tick, function: str, name: str) -> Hold | None:
        """A run that is being held, in this tick or before."""
        found = tick.holds.get((function, name))
        if found is None and (function, name) not in tick.let_go:
            found = self._journal.hold(function, name)
        return None if found is None or found.run in tick.ended else found

    def _go_on(self, tick: Tick, hold: Hold, now: int, event: StoredEvent | None = None) -> None:
        """It is held until another time, and perhaps for this event from now on."""
        tick.writes.held.append((None if event is None else event.key, hold.due_at, hold.is_echo, hold.run))
        self._timers.add(hold.due_at)
        if hold.due_at > now:
            tick.extended.add(hold.run)

    def is_due(self, tick: Tick, run: QueuedRun, name: str, now: int) -> None:
        """The time has come until which this run was held."""
        spec = self._runs.functions.get(run.function)
        if spec is None:
            self._runs.make_ready(tick, run, now)
        elif (hold := self._hold(tick, spec.id, name)) is not None:
            self._let_go(tick, spec, name, hold, now, now)

    def _let_go(self, tick: Tick, spec: FunctionSpec, name: str, hold: Hold, at: int, now: int) -> None:
        """A run has all the events that it was held for, and may start `at` this time."""
        tick.holds.pop((spec.id, name), None)
        tick.let_go.add((spec.id, name))
        event = self._runs.event_of(tick, hold.event)
        why = self._refusal(tick, spec, event, now)
        if why is not None:
            tick.ended.add(hold.run)
            tick.writes.skipped.append((why, now, hold.run))
            tick.writes.abandoned.append((now, hold.run))
            return
        held = self._runs.unstarted(tick, hold.run)
        if held is None:
            return
        partition, singleton, deadline_at = partition_of(spec, event), singleton_of(spec, event), deadline_of(spec, at)
        tick.writes.let_go.append(LetGo(partition, singleton, at, deadline_at, hold.run))
        self._timers.add(deadline_at)
        if singleton is not None:
            tick.singletons.setdefault((spec.id, singleton), []).append(hold.run)
        if at > now:
            self._timers.add(at)
            tick.extended.add(hold.run)
        else:
            ready = held._replace(partition=partition, event=event.key, is_echo=hold.is_echo)
            self._runs.make_ready(tick, ready, now)


def _is_for(spec: FunctionSpec, event: StoredEvent) -> bool:
    for trigger in spec.triggers:
        if isinstance(trigger, EventTrigger) and trigger.listens_to(event.name) and _holds(trigger.if_, event):
            return True
    return False


def _holds(condition: str | None, event: StoredEvent) -> bool:
    return condition is None or value_of(condition, event) is True


def _on(expression: str | None, key: str) -> str:
    """What a reason says about the key."""
    return "" if expression is None else f" on `{expression}` {key}"
