"""What other processes ask of the engine: replay, cancel, invoke, pause, resume, a cron tick. It only decides."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fanout.engine.limits import Limits
from fanout.engine.runs import Runs
from fanout.engine.schedules import Schedules
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import Carried, GivenStep, OpenRequest
from fanout.model import CronTrigger

REPLAYS_A_TICK = 500
"""So many runs that are to be replayed are dealt with in one tick: others are not to wait for thousands of them."""


class Requests:
    """Each is handled once; what it made, if that is one run, is told with it."""

    def __init__(self, journal: Journal, runs: Runs, limits: Limits, schedules: Schedules) -> None:
        self._journal = journal
        self._runs = runs
        self._limits = limits
        self._schedules = schedules

    def answer(self, tick: Tick, request: OpenRequest, now: int) -> bool:
        """Runs are named by key, functions by id. False if a part of it is left for the next tick."""
        body, made = request.body, None
        match request.kind:
            case "replay":
                if not self._replay(tick, request, now):
                    return False
            case "cancel":
                for run in body["runs"]:
                    self._runs.cancel(tick, run, now)
            case "invoke":
                spec = self._runs.functions.get(body["function"])
                if spec is not None:
                    made = self._runs.invoke(tick, spec, msgspec.json.encode(body["data"]).decode(), None, now)
            case "pause":
                self._pause(tick, body["functions"], now)
            case "resume":
                self._resume(tick, body["functions"])
            case "tick":
                made = self._tick(tick, body, now)
        tick.writes.handled.append((now, made, request.key))
        return True

    def _replay(self, tick: Tick, request: OpenRequest, now: int) -> bool:
        """A slice of it, marked in the same transaction. True if it was the last."""
        body, done = request.body, request.done
        runs = body["runs"][done : done + REPLAYS_A_TICK - tick.replays_asked]
        done += len(runs)
        tick.replays_asked += len(runs)
        interval_ms = body.get("interval_ms")
        starts_at = now if request.next_at is None else float(max(now, request.next_at))
        for run, function, event in self._journal.replayable(runs, again=body["again"]):
            spec = self._runs.functions.get(function)
            is_doubled = run in tick.replayed and not body["again"]
            if spec is None or is_doubled:
                continue
            tick.replayed.add(run)
            due_at = math.ceil(starts_at) if starts_at > now else None
            new = self._runs.new(tick, spec, self._journal.event(event), now, replay_of=run, starts_at=due_at)
            _take_over(tick, new, run, body, now)
            if interval_ms is not None:
                starts_at += interval_ms
        if done < len(body["runs"]):
            if runs:
                tick.writes.advanced.append((done, None if interval_ms is None else math.ceil(starts_at), request.key))
            return False
        return True

    def _pause(self, tick: Tick, functions: list[str], now: int) -> None:
        # Of several requests in one tick the last one counts.
        tick.writes.unpaused = [row for row in tick.writes.unpaused if row[0] not in functions]
        tick.unpaused = [function for function in tick.unpaused if function not in functions]
        tick.writes.paused += [(function, now) for function in functions]
        self._limits.pause(functions)

    def _resume(self, tick: Tick, functions: list[str]) -> None:
        tick.writes.paused = [row for row in tick.writes.paused if row[0] not in functions]
        tick.writes.unpaused += [(function,) for function in functions]
        tick.unpaused += functions

    def _tick(self, tick: Tick, body: dict[str, Any], now: int) -> int | None:
        """Of the cron trigger that is asked for, or else of the first one."""
        spec, at = self._runs.functions.get(body["function"]), body["at"]
        if spec is None:
            return None
        triggers = [each for each in spec.triggers if isinstance(each, CronTrigger)]
        if not triggers:
            return None
        wanted = body.get("cron"), body.get("timezone")
        trigger = next((each for each in triggers if (each.expression, each.zone) == wanted), triggers[0])
        # Somebody waits for it: it is not to be spread over time.
        prompt = msgspec.structs.replace(trigger, jitter_ms=0)
        return self._schedules.start(tick, spec, prompt, now if at is None else at, now)


def _take_over(tick: Tick, new: int, old: int, body: dict[str, Any], now: int) -> None:
    """What the replay has from the run that it comes from, and what it is given."""
    tick.writes.carried.append(Carried(new, old, body.get("from_step"), bool(body.get("from_start"))))
    tick.writes.given += [GivenStep(new, old, key, output, now) for key, output in body.get("set", {}).items()]
