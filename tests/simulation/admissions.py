"""What rate limits, debounces, batches, singletons, idempotency and schedules let through, against models of their own."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import Any

from fanout.core.retention import LEAST_KEEP_MS
from fanout.model import FunctionSpec
from tests.engine.gcra import Gcra
from tests.simulation.commits import Commit, functions_of, key_of, was_matched
from tests.simulation.model import FINAL, Row

DAY_MS = 24 * 3600 * 1000
TICK_MS = 5_000
EACH_TICK = "*/5 * * * * *"


class Admissions:
    """Remembers what was let through, for ever."""

    def __init__(self, *, has_jumps: bool) -> None:
        self._has_jumps = has_jumps
        self._was_set_back = False
        self._rates: dict[tuple[str, Any], Gcra] = {}
        self._repeated: dict[tuple[str, Any], int] = {}
        self._collected_at: dict[int, int] = {}
        self.ticks: dict[str, set[int]] = defaultdict(set)

    def clock_was_set(self, ms: int) -> None:
        self._was_set_back = self._was_set_back or ms < 0

    def check(self, commit: Commit) -> None:
        self._check_ticks(commit)
        self._check_pruned(commit)
        if not commit.is_engine:
            return
        if "meta" in commit.changes:
            self._check_rates(commit)
        specs = functions_of(commit.model)
        for collected in commit.new("run_event"):
            self._collected_at[collected.run] = commit.now
        for _, before, after in commit.changed("run"):
            spec = None if after is None else specs.get(after.function)
            if after is None or spec is None or not was_matched(commit.model, after):
                continue
            if before is not None and before.hold is not None and after.hold is None and after.state not in FINAL:
                self._check_held(commit, spec, after)
            is_decided = after.hold is None and (before is None or before.hold is not None)
            if is_decided and not self._ended_while_held(spec, after):
                self._check_repeated(commit, spec, after)
        self._check_alone(commit, specs)

    def _check_rates(self, commit: Commit) -> None:
        change = commit.changes["meta"].get(("routed_to",))
        if change is None:
            return
        for spec in commit.functions_before().values():
            rule = spec.flow.rate_limit
            if rule is None or spec.flow.batch is not None:
                continue
            for number in range(change.before.value + 1, change.after.value + 1):
                runs = commit.model.of_event.get((number, spec.id), ())
                for run in map(commit.model.run, runs):
                    event = commit.model.events[number,]
                    where = spec.id, key_of(rule.key, event)
                    reference = self._rates.setdefault(where, Gcra.of(rule))
                    is_skipped = run.state == "skipped" and run.reason.startswith("rate limit")
                    assert reference.allows(commit.now) is not is_skipped, f"the rate limit of {where} and {run}"

    def _check_held(self, commit: Commit, spec: FunctionSpec, run: Row) -> None:
        """It has been held for as long as it was to be, and has the events that it was held for."""
        model, debounce, batch = commit.model, spec.flow.debounce, spec.flow.batch
        rows = [row for (key, _), row in model.tables["run_event"].items() if key == run.key]
        events = [model.events[row.event,] for row in rows]
        last_at = self._collected_at.get(run.key, run.queued_at)
        if debounce is not None:
            newest = max([model.events[run.event,], *events], key=lambda each: (each.ts, each.key))
            assert newest.key == run.event, f"{run} has not the newest of its events"
            ends = [last_at + debounce.period_ms]
            if debounce.timeout_ms is not None:
                ends.append(run.queued_at + debounce.timeout_ms)
            assert self._has_jumps or commit.now >= min(ends), f"{run} was not held for long enough"
        elif batch is not None:
            assert 0 < len(events) <= batch.max_size, f"{run} has {len(events)} events"
            is_due = commit.now >= run.queued_at + batch.timeout_ms
            assert self._has_jumps or is_due or len(events) == batch.max_size, f"{run} was not held for long enough"
            assert len({key_of(batch.key, event) for event in events}) == 1, f"{run} has events of several keys"

    def _ended_while_held(self, spec: FunctionSpec, run: Row) -> bool:
        """It may not have been asked yet whether it is to be."""
        is_held = spec.flow.debounce is not None or spec.flow.batch is not None
        return is_held and (run.state == "cancelled" or run.reason == "timed out")

    def _check_repeated(self, commit: Commit, spec: FunctionSpec, run: Row) -> None:
        if spec.flow.idempotency is None:
            return
        where = run.function, key_of(spec.flow.idempotency, commit.model.events[run.event,])
        at = self._repeated.get(where)
        is_repeated = at is not None and abs(commit.now - at) < DAY_MS
        if run.state == "skipped":
            assert is_repeated or not run.reason.startswith("idempotency"), f"{run} is the first of {where}"
            return
        assert not is_repeated, f"{run} repeats {where}"
        self._repeated[where] = commit.now

    def _check_alone(self, commit: Commit, specs: dict[str, FunctionSpec]) -> None:
        if not any(spec.flow.singleton is not None for spec in specs.values()):
            return
        there: dict[Any, Row] = {}
        for run in map(commit.model.run, commit.model.live):
            spec = specs.get(run.function)
            if spec is None or spec.flow.singleton is None or run.hold is not None:
                continue
            if was_matched(commit.model, run):
                where = run.function, key_of(spec.flow.singleton.key, commit.model.events[run.event,])
                assert there.setdefault(where, run) is run, f"{run} and {there[where]} are live for {where}"

    def _check_pruned(self, commit: Commit) -> None:
        """Nothing goes before its time, and no run before those that it has made."""
        for _, before, after in commit.changed("run"):
            if after is None:
                is_old = before.ended_at <= commit.now - LEAST_KEEP_MS
                assert is_old or self._was_set_back, f"{before} is pruned at {commit.now}"
        for _, before, after in commit.changed("event"):
            if after is None:
                is_old = before.received_at <= commit.now - LEAST_KEEP_MS
                assert is_old or self._was_set_back, f"{before} is pruned at {commit.now}"

    def _check_ticks(self, commit: Commit) -> None:
        for tick in commit.new("tick"):
            assert tick.scheduled_at not in self.ticks[tick.function], f"{tick} comes twice"
            self.ticks[tick.function].add(tick.scheduled_at)
            assert tick.scheduled_at % TICK_MS == 0
            run = commit.model.run(tick.run)
            said = json.loads(commit.model.events[run.event,].data)["scheduled_at"]
            assert datetime.fromisoformat(said).timestamp() * 1000 == tick.scheduled_at
            assert (run.function, run.event < 0) == (tick.function, True)
