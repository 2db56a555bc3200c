"""When cron triggers tick. A tick is a row, so it starts one run whatever the clock, or the engine, then does."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from itertools import count

import msgspec

from fanout.core import cron
from fanout.core.places import TICKS
from fanout.engine.admission import Admission
from fanout.engine.runs import Runs
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.model import Catchup, CronTrigger, FunctionSpec

TIMER = "fanout/scheduled.timer"
ON_TIME_MS = 60_000
"""A tick that is later than that was missed."""
MISSED_A_TICK = 250
"""Of ten thousand that were missed: what else there is to do comes in between."""
_STEP_BACK_MS = 1_000


class Schedules:
    """Knows the next tick of each trigger; the journal knows up to when ticks have been dealt with."""

    def __init__(self, journal: Journal, runs: Runs, admission: Admission) -> None:
        self._journal = journal
        self._runs = runs
        self._admission = admission
        self._next: list[tuple[int, int, str, CronTrigger]] = []
        self._order = count()
        self._rest: dict[tuple[str, CronTrigger], list[int]] = {}
        """What was missed, and is still to be made up for, the oldest first."""
        self._last_now = 0

    @property
    def next_at(self) -> int | None:
        return self._next[0][0] if self._next else None

    def learn(self, tick: Tick, now: int) -> None:
        """The code's functions are known, or the clock has stepped back: begin where the journal says."""
        self._last_now = now
        self._next = []
        self._rest = {}
        for spec in self._runs.functions.values():
            for trigger in spec.triggers:
                if isinstance(trigger, CronTrigger):
                    through = self._journal.through(spec.id, _name(trigger))
                    if through is None:
                        # New: it begins now. What it would have done before it was there is not missed.
                        through = now
                        tick.writes.schedules[spec.id, _name(trigger)] = now
                    self._push(spec.id, trigger, min(through, now))

    def _push(self, function: str, trigger: CronTrigger, after: int) -> None:
        at = _milliseconds(cron.next_after(_schedule(function, trigger), _moment(after)))
        heapq.heappush(self._next, (at, next(self._order), function, trigger))

    def fire(self, tick: Tick, now: int) -> None:
        """The ticks whose time has come, and those that were missed."""
        if now < self._last_now - _STEP_BACK_MS:
            # Ticks that come a second time have their rows already; but the next one is nearer than it seemed.
            self.learn(tick, now)
        self._last_now = now
        room = MISSED_A_TICK
        while self._next and self._next[0][0] <= now and room > 0:
            first, _, function, trigger = heapq.heappop(self._next)
            spec = self._runs.functions[function]
            rest = self._rest.pop((function, trigger), None)
            due = self._due(spec, trigger, first, now) if rest is None else rest
            through = now if rest is None else due[-1]
            for at in due[:room]:
                self.start(tick, spec, trigger, at, now)
            if len(due) > room:
                self._rest[function, trigger] = due[room:]
                through = due[room - 1]
                heapq.heappush(self._next, (now, next(self._order), function, trigger))  # Others are due before.
            else:
                self._push(function, trigger, through)
            tick.writes.schedules[function, _name(trigger)] = through
            room -= len(due)

    def _due(self, spec: FunctionSpec, trigger: CronTrigger, first: int, now: int) -> list[int]:
        """Of the ticks from the first one until now, those that start a run."""
        schedule = _schedule(spec.id, trigger)
        if spec.catchup is Catchup.ALL:
            missed = cron.ticks_between(schedule, _moment(first - 1), _moment(now), spec.catchup_limit)
            return [_milliseconds(at) for at in missed]
        latest = _milliseconds(cron.latest_at_or_before(schedule, _moment(now)))
        if latest < first or (spec.catchup is Catchup.NONE and latest < now - ON_TIME_MS):
            return []
        return [latest]

    def start(self, tick: Tick, spec: FunctionSpec, trigger: CronTrigger, at: int, now: int) -> int | None:
        """The run of this tick; None if it has one already."""
        is_known = any(known[:2] == (spec.id, at) for known in tick.writes.ticks)
        if is_known or self._journal.tick_run(spec.id, at) is not None:
            return None
        data = {
            "cron": trigger.expression,
            "timezone": trigger.zone,
            "scheduled_at": _moment(at).isoformat(),
        }
        ts = at + cron.jitter(spec.id, at, trigger.jitter_ms)
        event = self._runs.announce(tick, TIMER, msgspec.json.encode(data).decode(), None, now, ts=ts)
        why = self._admission.refusal_of_tick(tick, spec, event, now)
        if why is None:
            run = self._runs.new(tick, spec, event, now, singleton=TICKS)
        else:
            run = self._runs.skip(tick, spec, event, why, now)
        tick.writes.ticks.append((spec.id, at, run))
        self._runs.spread(tick, event, now, but=spec.id, is_echo=False)
        return run


def _name(trigger: CronTrigger) -> str:
    return f"{trigger.expression} {trigger.zone}"


def _schedule(function: str, trigger: CronTrigger) -> cron.Schedule:
    return cron.parse(trigger.expression, trigger.zone, function)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
