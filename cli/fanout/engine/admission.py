"""What an event means for a function: a run now, a part of a later one, a skipped one, or none. It only decides.

The order is fixed: match, batch, rate limit, debounce, singleton, idempotency; then the run is queued.
"""

from __future__ import annotations

from fanout.core import flow
from fanout.durations import period
from fanout.engine.runs import Held, Runs, value_of
from fanout.engine.tick import Tick
from fanout.engine.timers import Timers
from fanout.journal import Journal
from fanout.journal.rows import Hold, StoredEvent
from fanout.model import NO_RULES, BatchRule, DebounceRule, EventTrigger, FunctionSpec, Trigger

RATE_LIMIT = "rate limit"
IDEMPOTENCY = "idempotency"
IDEMPOTENCY_MS = 24 * 3600 * 1000


class Admission:
    """Asks the journal and what this tick has decided already, and remembers nothing itself."""

    def __init__(self, journal: Journal, timers: Timers, runs: Runs) -> None:
        self._journal = journal
        self._timers = timers
        self._runs = runs

    def admit(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int) -> None:
        """Whatever becomes of it is part of this tick's transaction."""
        rules = spec.flow
        if not any(_matches(trigger, event) for trigger in spec.triggers):
            return
        if rules == NO_RULES:
            self._runs.new(tick, spec, event, now)
        elif rules.batch is not None and _holds(rules.batch.if_, event):
            self._batch(tick, spec, rules.batch, event, now)
        elif (why := self._rate_limited(tick, spec, event, now)) is not None:
            self._runs.skip(tick, spec, event, why, now)
        elif rules.debounce is not None:
            self._debounce(tick, spec, rules.debounce, event, now)
        else:
            self._start(tick, spec, event, now)

    def _start(
        self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int, held: Held | None = None
    ) -> int | None:
        """The last two questions, then the run; None if it is skipped."""
        rules, singleton = spec.flow, None
        if rules.singleton is not None:
            singleton = _key(rules.singleton.key, event)
            others = self._runs.singletons(tick, spec.id, singleton)
            if others and rules.singleton.mode == "skip":
                self._runs.skip(tick, spec, event, f"singleton{_on(rules.singleton.key, singleton)}", now)
                return None
            for other in others:
                self._runs.cancel(tick, other, now)
        if rules.idempotency is not None:
            key = _key(rules.idempotency, event)
            if self._is_repeated(tick, spec.id, key, now):
                self._runs.skip(tick, spec, event, f"idempotency{_on(rules.idempotency, key)}", now)
                return None
        return self._runs.new(tick, spec, event, now, singleton=singleton, held=held)

    def _is_repeated(self, tick: Tick, function: str, key: str, now: int) -> bool:
        where = function, IDEMPOTENCY, key
        at = tick.writes.limits.get(where) or self._journal.limit_value(*where)
        if at is not None and at <= now < at + IDEMPOTENCY_MS:
            return True
        tick.writes.limits[where] = now
        return False

    def _rate_limited(self, tick: Tick, spec: FunctionSpec, event: StoredEvent, now: int) -> str | None:
        """Why the event is skipped, if it is."""
        rule = spec.flow.rate_limit
        if rule is None:
            return None
        key = _key(rule.key, event)
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

    def _batch(self, tick: Tick, spec: FunctionSpec, rule: BatchRule, event: StoredEvent, now: int) -> None:
        name = f"batch:{_key(rule.key, event)}"
        hold = self._hold(tick, spec.id, name)
        if hold is None:
            if (why := self._rate_limited(tick, spec, event, now)) is not None:
                self._runs.skip(tick, spec, event, why, now)
                return
            run = self._start(tick, spec, event, now, Held(name, now + rule.timeout_ms))
            if run is None:
                return
            hold = Hold(run, now, event.ts, 0)
        size = hold.size + 1
        tick.holds[spec.id, name] = hold._replace(size=size)
        tick.writes.batched.append((hold.run, size, event.key))
        if flow.is_full(size, rule):
            del tick.holds[spec.id, name]
            tick.let_go.add((spec.id, name))
            self._runs.let_go(tick, hold.run, now)

    def _debounce(self, tick: Tick, spec: FunctionSpec, rule: DebounceRule, event: StoredEvent, now: int) -> None:
        name = f"debounce:{_key(rule.key, event)}"
        hold = self._hold(tick, spec.id, name)
        if hold is None:
            run = self._start(tick, spec, event, now, Held(name, flow.debounced(now, now, rule)))
            if run is not None:
                tick.holds[spec.id, name] = Hold(run, now, event.ts, 1)
            return
        due_at = flow.debounced(hold.since, now, rule)
        self._timers.add(due_at)
        is_newer = flow.replaces(hold.ts, event.ts)
        tick.writes.held.append((event.key if is_newer else None, due_at, hold.run))
        tick.holds[spec.id, name] = hold._replace(ts=event.ts if is_newer else hold.ts)
        tick.extended.add(hold.run)

    def _hold(self, tick: Tick, function: str, name: str) -> Hold | None:
        """A run that is being held, in this tick or before."""
        found = tick.holds.get((function, name))
        if found is None and (function, name) not in tick.let_go:
            found = self._journal.hold(function, name)
        return None if found is None or found.run in tick.ended else found


def _matches(trigger: Trigger, event: StoredEvent) -> bool:
    return isinstance(trigger, EventTrigger) and trigger.listens_to(event.name) and _holds(trigger.if_, event)


def _holds(condition: str | None, event: StoredEvent) -> bool:
    return condition is None or value_of(condition, event) is True


def _key(expression: str | None, event: StoredEvent) -> str:
    return flow.key_text(None if expression is None else value_of(expression, event))


def _on(expression: str | None, key: str) -> str:
    """What a reason says about the key."""
    return "" if expression is None else f" on `{expression}` {key}"
