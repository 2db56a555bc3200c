"""What other processes ask of the engine: replay, cancel, invoke, pause, resume, a cron tick. It only decides."""

from __future__ import annotations

import msgspec

from fanout.engine.limits import Limits
from fanout.engine.runs import Runs
from fanout.engine.schedules import Schedules
from fanout.engine.tick import Tick
from fanout.journal import Journal
from fanout.journal.rows import OpenRequest
from fanout.model import CronTrigger


class Requests:
    """Each is handled once; what it made, if that is one run, is told with it."""

    def __init__(self, journal: Journal, runs: Runs, limits: Limits, schedules: Schedules) -> None:
        self._journal = journal
        self._runs = runs
        self._limits = limits
        self._schedules = schedules

    def answer(self, tick: Tick, request: OpenRequest, now: int) -> None:
        """Runs are named by key, functions by id."""
        body, made = request.body, None
        match request.kind:
            case "replay":
                self._replay(tick, body["runs"], now, again=body["again"])
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
                made = self._tick(tick, body["function"], body["at"], now)
        tick.writes.handled.append((now, made, request.key))

    def _replay(self, tick: Tick, runs: list[int], now: int, *, again: bool) -> None:
        for run, function, event in self._journal.replayable(runs, again=again):
            spec = self._runs.functions.get(function)
            is_doubled = run in tick.replayed and not again
            if spec is not None and not is_doubled:
                tick.replayed.add(run)
                self._runs.new(tick, spec, self._journal.event(event), now, replay_of=run)

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

    def _tick(self, tick: Tick, function: str, at: int | None, now: int) -> int | None:
        spec = self._runs.functions.get(function)
        if spec is None:
            return None
        trigger = next((each for each in spec.triggers if isinstance(each, CronTrigger)), None)
        if trigger is None:
            return None
        # Somebody waits for it: it is not to be spread over time.
        prompt = msgspec.structs.replace(trigger, jitter_ms=0)
        return self._schedules.start(tick, spec, prompt, now if at is None else at, now)
