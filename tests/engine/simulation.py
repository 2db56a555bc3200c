"""The whole engine in a simulation: its clock, its workers and its crashes belong to the test; its journal is real.

A function is a script: steps with an outcome for each attempt, waits, branches. Simulated workers execute scripts with
the messages that real ones send, and write down what they do. Nothing here sleeps, and one seed always makes one history.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fanout.core.retention import Cutoffs, Keep
from fanout.engine.loop import Engine
from fanout.engine.reloads import Reloaded
from fanout.engine.settings import DEFAULT_PARK_MS, Settings
from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.pruning import Place, Removing, Slice
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.writes import Writes
from fanout.model import StepState
from tests.engine.scripts import BEGINNING, Clock, Crash, Entry, Faults, Function, What, event
from tests.engine.workers import Loading, SimPool

APP = "test"
_PATIENCE_TICKS = 400
_SPINS = 20
_MOST_TICKS = 100_000


class StuckError(AssertionError):
    """The engine spins, or waits for what can't come."""


@lru_cache(maxsize=1)
def _empty_journal() -> bytes:
    """To make one takes longer than many a simulation."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        SqliteJournal(path).close()
        return path.read_bytes()


class CrashingJournal(SqliteJournal):
    """A real journal, whose commits may be the last thing that happens."""

    def __init__(self, path: Path, simulation: Simulation) -> None:
        super().__init__(path)
        if not simulation.can_lose_power:
            self._execute("PRAGMA synchronous = off")
        self._simulation = simulation

    def recover(self) -> None:
        self._simulation.faults.commit(super().recover)

    def commit(self, writes: Writes) -> None:
        def write() -> None:
            super(CrashingJournal, self).commit(writes)
            self._simulation.committed(writes)

        self._simulation.faults.commit(write)

    def prune(self, place: Place, cutoffs: Cutoffs, most: int, removing: Removing) -> Slice:
        slices: list[Slice] = []
        prune = super().prune
        self._simulation.faults.commit(lambda: slices.append(prune(place, cutoffs, most, removing)))
        return slices[0]


class SimBell:
    """Rung by the test."""

    def __init__(self) -> None:
        self.is_rung = False
        self.told = 0

    def answer(self) -> bool:
        was_rung, self.is_rung = self.is_rung, False
        return was_rung

    def tell_followers(self) -> None:
        self.told += 1


class Simulation:
    """A journal, engines that follow one another on it, their workers, and one clock for all.

    Functions are those of one app, or `apps` has those of several. What is in `broken` can't be loaded, and what is in
    `deadly` kills the worker that loads it.
    """

    pool_type: type[SimPool] = SimPool
    can_lose_power = False

    def __init__(
        self,
        folder: Path,
        *functions: Function,
        apps: Mapping[str, Sequence[Function]] | None = None,
        processes: int = 2,
        slots: int = 2,
        seed: int = 0,
        faults: Faults | None = None,
        loading: Sequence[Loading] = (),
        retry_delay_ms: int | None = None,
        park_ms: int = DEFAULT_PARK_MS,
        keep: Keep | None = None,
        lag: Callable[[], int] = lambda: 0,
        watch: Callable[[SimPool], None] = lambda _pool: None,
        has_reloads: bool = False,
    ) -> None:
        self.path = folder / "journal.db"
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(_empty_journal())
        self.clock = Clock()
        self.chance = random.Random(seed)
        self.log: list[Entry] = []
        self.faults = faults or Faults()
        self.broken: set[str] = set()
        self.deadly: set[str] = set()
        self._has_prefixes = apps is not None
        self._have(apps or {APP: functions})
        self.accepted: list[AcceptedEvent] = []
        self.engines = 0
        self._settings = Settings(
            processes=processes, slots=slots, has_prefixes=apps is not None, retry_delay_ms=retry_delay_ms,
            park_ms=park_ms, keep=keep, has_reloads=has_reloads,
        )  # fmt: skip
        self.reloaded: list[Reloaded] = []
        self._loading = loading
        self._lag = lag
        self._watch = watch
        self._last_event = 0
        self._ids: dict[int, str] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._serials = count(1)
        # Another process: an engine sees its own writes without looking.
        self._sender = self._new_sender()
        self._journal: CrashingJournal | None = None
        self._idle = 0
        self._spins = 0
        self.open()

    def open(self) -> None:
        """Start an engine; if it crashes at that, another."""
        while True:
            if self._journal is not None:
                self._journal.close()
            self.engines += 1
            self.bell = SimBell()
            self.pool = self._new_pool()
            self._journal = self._new_journal()
            try:
                self.engine = Engine(
                    self._journal, self.pool, self.bell, self._settings, clock=self.clock, chance=self.chance.random
                )
            except Crash:
                self.log.append(Entry(What.CRASH, self.clock()))
            else:
                self.engine.on_reloaded = self.reloaded.append
                return

    def _new_pool(self) -> SimPool:
        return self.pool_type(
            self.clock, self.code, self.log, self.faults, slots=self._settings.slots,
            loading=self._loading, broken=self.broken, deadly=self.deadly, watch=self._watch, lag=self._lag, deaths=self._deaths, serials=self._serials,
        )  # fmt: skip

    def _new_journal(self) -> CrashingJournal:
        return CrashingJournal(self.path, self)

    def _new_sender(self) -> SqliteJournal:
        sender = SqliteJournal(self.path)
        sender._execute("PRAGMA synchronous = off")
        return sender

    def close(self) -> None:
        assert self._journal is not None
        self._journal.close()
        self._sender.close()

    def _have(self, apps: Mapping[str, Sequence[Function]]) -> None:
        self.code = {app: {each.spec.id: each for each in functions} for app, functions in apps.items()}
        self.functions = {
            f"{app}/{each.spec.id}" if self._has_prefixes else each.spec.id: each
            for app, functions in apps.items()
            for each in functions
        }
        """By the id that the engine knows them by."""

    def restart(self, *functions: Function, apps: Mapping[str, Sequence[Function]] | None = None) -> None:
        """Crash now, and go on, with other code if it is given."""
        self.log.append(Entry(What.CRASH, self.clock()))
        self.pool.drop()
        if functions or apps:
            self._have(apps or {APP: functions})
        self.open()

    def save(
        self, *functions: Function, apps: Mapping[str, Sequence[Function]] | None = None, but: Container[str] = ()
    ) -> None:
        """Other code is on the disk, or what is there is `broken` or not any more, and the engine is told so at once.

        `but`: these apps are as they were.
        """
        if functions or apps:
            self._have(apps or {APP: functions})
        self.pool.have(self.code)
        self.engine.reload(self._settings, [*self.code], [app for app in self.code if app not in but])

    def have_settings(self, settings: Settings) -> None:
        self._settings = settings
        self.pool.slots = max(self.pool.slots, settings.slots)
        self.engine.reload(settings, [*self.code], ())

    def committed(self, writes: Writes) -> None:
        """Write down what is durable now. Of one commit, what has come ended what waited, and came before what waits."""
        self._note_steps(writes, StepState.COMPLETED, What.RECORDED)
        came = [(step.run, step.key) for step in writes.resolved] + [(run, key) for _, run, key in writes.gathered]
        for run, key in came:
            found = self.rows("SELECT output FROM step WHERE run = ? AND key = ? AND state = 'completed'", run, key)
            self.log += [Entry(What.RECORDED, self.clock(), self.run_id(run), key, 1, output) for (output,) in found]
        self._note_events()
        self._note_steps(writes, StepState.WAITING, What.WAITS, but=came)
        self._check_room(writes)

    def _note_steps(self, writes: Writes, state: StepState, what: What, but: Sequence[tuple[int, str]] = ()) -> None:
        self.log += [
            Entry(what, self.clock(), self.run_id(step.run), step.key, step.attempts, step.output or "")
            for step in writes.steps
            if step.state == state and (step.run, step.key) not in but
        ]

    def _note_events(self) -> None:
        new = self.rows("SELECT key, received_at FROM event WHERE key > ? ORDER BY key", self._last_event)
        for key, at in new:
            self.log.append(Entry(What.ACCEPTED, at, event=key))
            self._last_event = key

    def _check_room(self, writes: Writes) -> None:
        """However many items of a map become runs and end in a tick, no more are there than may be."""
        for run, step in {(new.parent, new.parent_step) for new in writes.runs if new.item is not None}:
            most = self.rows("SELECT max_in_flight FROM map WHERE run = ? AND step = ?", run, step)
            live = "SELECT count(*) FROM run WHERE parent = ? AND parent_step = ? AND ended_at IS NULL"
            assert not most or self.rows(live, run, step)[0][0] <= most[0][0], f"too many items of {run} {step}"

    def run_id(self, run: int) -> str:
        if run not in self._ids:
            ((self._ids[run],),) = self.rows("SELECT id FROM run WHERE key = ?", run)
        return self._ids[run]

    # What other processes do.

    def send(self, *events: NewEvent) -> list[AcceptedEvent]:
        accepted = self._sender.append_events(events or [event()], self.clock())
        self.accepted += accepted
        self._note_events()
        self.bell.is_rung = True
        return accepted

    def request(self, kind: str, *runs: int, **more: Any) -> None:
        self._sender.append_request(kind, {"runs": list(runs), **more}, self.clock())
        self.bell.is_rung = True

    def cancel(self, *runs: int) -> None:
        self.request("cancel", *runs)

    def replay(self, *runs: int, again: bool = False) -> None:
        self.request("replay", *runs, again=again)

    # Time.

    def set_clock(self, ms: int) -> None:
        """Somebody sets it, by so much."""
        self.clock.advance(ms)
        self.pool.clock_was_set(ms)

    def tick(self) -> bool:
        """One tick of the engine, or its end and a new one. Whether anything has happened."""
        before = (self.pool.arrived, self.faults.commits, self.faults.sends, self.pool.spawned)
        try:
            self.engine.tick()
        except Crash:
            self.restart()
            return True
        return before != (self.pool.arrived, self.faults.commits, self.faults.sends, self.pool.spawned)

    def run(self, until: Callable[[], bool] | None = None, *, for_ms: int | None = None) -> None:
        """Tick, and let time pass when nothing else happens: until so, or so long, or nothing is left to happen."""
        end = None if for_ms is None else self.clock() + for_ms
        self._idle = self._spins = 0
        for ticks in count():
            if until is not None and until():
                return
            if ticks > _MOST_TICKS:
                raise StuckError("there is no end to it")
            if self.tick():
                self._idle = self._spins = 0
                continue
            ahead = self._next_time(looks=end is not None)
            if ahead is None and until is None and end is None:
                return
            if end is not None and (ahead is None or ahead >= end):
                self.clock.now = end
                self.tick()
                return
            if ahead is None:
                raise StuckError("nothing is left that could happen")
            self._fence(ahead)
            self.clock.now = max(self.clock(), ahead)

    def _is_at_rest(self) -> bool:
        return self.engine.is_idle() and len(self.pool.executing()) == len(self.pool.parked())

    def _next_time(self, *, looks: bool) -> int | None:
        """When the next thing happens: in a worker, to a run that waits, or because the engine wants to look."""
        at = self.pool.next_at()
        times = [] if at is None else [at]
        if looks or not self._is_at_rest():
            times.append(self.clock() + self.pool.timeout_ms)
        elif not self.engine.is_stopping:
            parked_until = self.engine._parking.next_at if self.pool.parked() else None
            # Not `next_due`, which asks the journal: an engine that runs on does not.
            due_at, limits = self.engine._timers.earliest, self.engine._deadlines.next_at
            times += [at for at in (due_at, self.engine._queue.next_at, parked_until, limits) if at is not None]
        return min(times, default=None)

    def _fence(self, ahead: int) -> None:
        self._spins = self._spins + 1 if ahead <= self.clock() else 0
        if ahead > self.clock() and not self.engine.is_stopping:
            idle = [each for each in self.pool.executing() if each.is_idle() and not each.real.is_parked]
            assert not idle, "an execution waits for steps alone, and keeps its slot"
        self._idle = self._idle + 1 if self.pool.next_at() is None and not self._is_at_rest() else 0
        if self._spins > _SPINS:
            raise StuckError("the engine spins")
        if self._idle > _PATIENCE_TICKS:
            raise StuckError("the engine waits for what can't come")

    # What can be seen.

    def rows(self, sql: str, *bindings: object) -> list[tuple[Any, ...]]:
        return list(self._sender._connection.execute(sql, bindings))

    def states(self) -> dict[int, str]:
        return dict(self.rows("SELECT key, state FROM run ORDER BY key"))

    def state(self, run: int) -> str:
        return self.states()[run]

    def steps(self, run: int) -> dict[str, tuple[str, int]]:
        """key -> (state, attempts)"""
        found = self.rows("SELECT key, state, attempts FROM step WHERE run = ? ORDER BY position", run)
        return {key: (state, attempts) for key, state, attempts in found}

    def outputs(self, run: int) -> dict[str, Any]:
        """What its completed steps returned."""
        found = self.rows("SELECT key, output FROM step WHERE run = ? AND output IS NOT NULL ORDER BY position", run)
        return {key: json.loads(output) for key, output in found}

    def messages(self, run: int) -> list[tuple[str, str, str]]:
        """(step, type, message) of its failures, in order."""
        return [*self.rows("SELECT step, type, message FROM failure WHERE run = ? ORDER BY rowid", run)]

    def failures(self, run: int) -> list[tuple[str, int, str]]:
        """(step, attempt, type), in order."""
        return [*self.rows("SELECT step, attempt, type FROM failure WHERE run = ? ORDER BY rowid", run)]

    def begun(self, step: str | None = None) -> list[int]:
        """When executions of this step began, in milliseconds since the beginning."""
        return [each.at - BEGINNING for each in self.entries(What.BEGIN) if step in (None, each.step)]

    def order(self) -> list[tuple[str, str]]:
        """(function, step) in the order in which their code began."""
        functions = dict(self.rows("SELECT id, function FROM run"))
        return [(functions[each.run], each.step) for each in self.entries(What.BEGIN)]

    def entries(self, what: What) -> list[Entry]:
        return [each for each in self.log if each.what is what]
