"""Runs that a run's steps have asked for: one (invoke), or one for each item (map). It only decides.

The end of a child and what it means for its parent are one transaction, so neither can be lost.
"""

from __future__ import annotations

from fanout.engine.roster import Active
from fanout.engine.runs import Parent, Runs
from fanout.engine.tick import EndedChild, Tick
from fanout.engine.timers import Timers
from fanout.engine.waits import Waits
from fanout.journal import Journal
from fanout.journal.rows import MapRow
from fanout.model import Failure, FunctionSpec, RunState, StepState
from fanout.protocol import Invoke, Map, MapItems, RecordedStep, StepWaits


class _Mapping:
    """A map that is going on."""

    __slots__ = ("has_room", "row")

    def __init__(self, row: MapRow, *, has_room: bool) -> None:
        self.row = row
        self.has_room = has_room
        """Its parent knows that more items may follow."""


class Children:
    """Knows the maps that are going on: a few numbers each, as the journal has them."""

    def __init__(self, journal: Journal, timers: Timers, runs: Runs, waits: Waits) -> None:
        self._journal = journal
        self._timers = timers
        self._runs = runs
        self._waits = waits
        self._maps: dict[int, dict[str, _Mapping]] = {}

    # Fan-out.

    def invoke(self, tick: Tick, active: Active, step: StepWaits, invoke: Invoke, now: int) -> None:
        spec = self._function(tick, active, step, invoke.function, now)
        if spec is not None:
            tick.step_waits(active, step, invoke.due_at)
            self._timers.add(invoke.due_at)
            active.waits[step.key] = 0
            run = active.run.key
            self._runs.invoke(tick, spec, invoke.data, run, now, Parent(run, step.key))

    def map(self, tick: Tick, active: Active, step: StepWaits, mapped: Map, now: int) -> None:
        spec = self._function(tick, active, step, mapped.function, now)
        if spec is not None:
            tick.step_waits(active, step, None)
            active.has_maps = True
            row = MapRow(active.run.key, step.key, spec.id, 0, 0, False, mapped.max_in_flight, mapped.is_collecting)
            self._maps.setdefault(row.run, {})[row.step] = _Mapping(row, has_room=True)
            self._write(tick, row)

    def _function(self, tick: Tick, active: Active, step: StepWaits, id_: str, now: int) -> FunctionSpec | None:
        spec = self._runs.functions.get(id_) or self._runs.functions.get(id_.rpartition("/")[2])
        if spec is None:
            tick.step_refused(active, step, _unknown(id_), now)
        return spec

    def take(self, tick: Tick, active: Active, message: MapItems, now: int) -> None:
        """The next items become runs."""
        run, step = active.run.key, message.key
        mapping = None if (run, step) in tick.resolved else self._mapping(run, step)
        if mapping is None:
            # It was over while the function made these items, and said so to nobody: now somebody waits.
            tick.changed.append((active, step))
            return
        row = mapping.row
        spec = self._runs.functions.get(row.function)
        if spec is None:
            self._forget(tick, row)
            self._waits.resolve(tick, run, step, StepState.FAILED, now, failure=_unknown(row.function))
            return
        for number, (data, item_key) in enumerate(message.items, message.first):
            is_known = number < row.taken if item_key is None else self._has_item(tick, run, step, item_key)
            if not is_known:
                self._runs.invoke(tick, spec, data, run, now, Parent(run, step, row.taken, item_key))
                if item_key is not None:
                    tick.items.add((run, step, item_key))
                row = row._replace(taken=row.taken + 1)
        mapping.row = row = row._replace(is_exhausted=message.is_last)
        self._write(tick, row)
        if self._is_over(tick, row, now):
            return
        mapping.has_room = not row.is_exhausted and _room(row) > 0
        if mapping.has_room:
            tick.changed.append((active, step))
            active.waits.pop(step, None)
        else:
            # Only now the step waits: as long as there is room, more items are on their way.
            active.waits[step] = 0

    def _has_item(self, tick: Tick, run: int, step: str, item_key: str) -> bool:
        return (run, step, item_key) in tick.items or self._journal.has_item(run, step, item_key)

    def started(self, active: Active, steps: tuple[RecordedStep, ...]) -> None:
        """A parent starts again, and is told how much room there is."""
        for step in steps:
            if step.progress is not None:
                active.has_maps = True
                mapping = self._mapping(active.run.key, step.key)
                if mapping is not None:
                    mapping.has_room = step.progress[1] > 0
                    if mapping.has_room:
                        active.waits.pop(step.key, None)

    def replaced(self, tick: Tick, active: Active, step: str) -> None:
        """The code has been edited, and this step is another one now: a map of that name is waited for no longer."""
        run = active.run.key
        if self._maps.get(run, {}).pop(step, None) is not None:
            tick.writes.maps.pop((run, step), None)
            tick.writes.unmapped.append((run, step))
            tick.resolved.add((run, step))

    # Fan-in.

    def settle(self, tick: Tick, now: int) -> None:
        """Tell the parents of all children that have ended in this tick. To cancel others may end more."""
        for ended in tick.children:
            parent, step = ended.run.parent, ended.run.parent_step
            if parent is None or step is None or parent in tick.ended or (parent, step) in tick.resolved:
                continue
            mapping = self._mapping(parent, step)
            if mapping is not None:
                self._settle_item(tick, mapping, ended, now)
            elif self._journal.is_open(parent, step):
                self._settle_invoked(tick, parent, step, ended, now)
        for run in tick.ended:
            self._maps.pop(run, None)

    def _settle_invoked(self, tick: Tick, parent: int, step: str, ended: EndedChild, now: int) -> None:
        if ended.state is RunState.COMPLETED:
            self._waits.resolve(tick, parent, step, StepState.COMPLETED, now, output=ended.output)
        else:
            self._waits.resolve(tick, parent, step, StepState.FAILED, now, failure=_failure(ended))

    def _settle_item(self, tick: Tick, mapping: _Mapping, ended: EndedChild, now: int) -> None:
        mapping.row = row = mapping.row._replace(ended=mapping.row.ended + 1)
        where = row.run, row.step
        self._write(tick, row)
        if ended.state is not RunState.COMPLETED and not row.is_collecting:
            self._forget(tick, row)
            failure = _failure(ended)
            named = Failure(failure.type, f"item {ended.run.item}: {failure.message}", failure.traceback)
            self._waits.resolve(tick, *where, StepState.FAILED, now, failure=named)
            self._runs.cancel_children(tick, *where, now)
        elif not self._is_over(tick, row, now):
            # Half of them at once: a parent that is not in a worker has to be started for it.
            is_wanted = not row.is_exhausted and not mapping.has_room
            if is_wanted and row.taken - row.ended <= row.max_in_flight // 2:
                mapping.has_room = True
                self._waits.wake(tick, *where, now)

    def _is_over(self, tick: Tick, row: MapRow, now: int) -> bool:
        """All items have ended: what they returned, in order, is what the step returns."""
        if not row.is_exhausted or row.ended < row.taken:
            return False
        where = row.run, row.step
        self._forget(tick, row)
        tick.resolved.add(where)
        tick.writes.gathered.append((now, *where))
        self._waits.wake(tick, *where, now, is_over=True)
        return True

    # The numbers.

    def _mapping(self, run: int, step: str) -> _Mapping | None:
        mapping = self._maps.get(run, {}).get(step)
        if mapping is None:
            row = self._journal.map_row(run, step)
            if row is not None:
                mapping = self._maps.setdefault(run, {})[step] = _Mapping(row, has_room=False)
        return mapping

    def _write(self, tick: Tick, row: MapRow) -> None:
        tick.writes.maps[row.run, row.step] = row

    def _forget(self, tick: Tick, row: MapRow) -> None:
        self._maps.get(row.run, {}).pop(row.step, None)
        tick.writes.maps.pop((row.run, row.step), None)


def _room(row: MapRow) -> int:
    return row.max_in_flight - (row.taken - row.ended)


def _unknown(function: str) -> Failure:
    return Failure("LookupError", f"there is no function `{function}`")


def _failure(ended: EndedChild) -> Failure:
    if ended.failure is not None:
        return ended.failure
    return Failure(ended.state.capitalize(), f"the run `{ended.run.id}` was {ended.state}")
