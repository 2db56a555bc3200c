"""A simulation under observation, on a disk that may fail."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from fanout.engine.loop import LOOK_EVERY_MS, NOTE_AFTER_MS
from fanout.errors import JournalError
from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_checks import CHECKS
from fanout.journal.writes import Writes
from tests.engine.scripts import Entry, Function, What
from tests.engine.simulation import CrashingJournal, Simulation
from tests.engine.workers import SimPool
from tests.simulation.disk import Disk
from tests.simulation.model import Capture, Change
from tests.simulation.observer import Observer
from tests.simulation.traffic import Mischief, WatchedPool

_CHECKPOINT_PAGES = 15
_MOST_STARTS = 3
Changes = dict[str, dict[Any, Change]]


class WatchedJournal(CrashingJournal):
    """The engine's."""

    def __init__(self, path: Path, stage: Stage) -> None:
        super().__init__(path, stage)
        self._stage = stage
        self._capture = stage.prepare(self._connection)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._stage.watch(self._capture, is_engine=True), super()._transaction():
            yield


class WatchedSender(SqliteJournal):
    """Another process's."""

    def __init__(self, path: Path, stage: Stage) -> None:
        super().__init__(path)
        self._stage = stage
        self._capture: Capture | None = None

    def be_watched(self) -> None:
        self._capture = self._stage.prepare(self._connection)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        assert self._capture is not None
        with self._stage.watch(self._capture, is_engine=False), super()._transaction():
            yield


class Stage(Simulation):
    """`rng` decides how the disk behaves. Rows and messages go by the observer."""

    pool_type = WatchedPool

    def __init__(
        self,
        folder: Path,
        functions: Sequence[Function] = (),
        *,
        rng: random.Random,
        disk: Disk | None,
        mischief: Mischief | None,
        has_jumps: bool,
        has_checks: bool = False,
        **options: Any,
    ) -> None:
        self.disk = disk
        self.can_lose_power = disk is not None
        self.observer: Observer
        self._rng = rng
        self.mischief = mischief
        self.has_checks = False
        self._has_jumps = has_jumps
        self._in_doubt: tuple[Changes, bool] | None = None
        self._failed: list[tuple[Changes, bool]] = []
        """What the disk refused to sync since it last did so."""
        self.power_cuts = 0
        self.disk_failures = 0
        super().__init__(folder, *functions, **options)
        self.has_checks = has_checks

    # What is watched.

    def prepare(self, connection: apsw.Connection) -> Capture:
        if self.disk is not None:
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchall()
        if not hasattr(self, "observer"):
            self.observer = Observer(
                connection,
                self.clock,
                self.log,
                has_broken_workers=self.mischief is not None,
                has_jumps=self._has_jumps,
            )
        return Capture(connection, self.observer.model.shapes)

    @contextmanager
    def watch(self, capture: Capture, *, is_engine: bool) -> Iterator[None]:
        capture.take()
        try:
            yield
        except apsw.Error:
            self._in_doubt = capture.take(), is_engine
            self._failed.append(self._in_doubt)
            raise
        self._failed.clear()
        self.observer.committed(capture.take(), is_engine=is_engine)
        if self.has_checks:
            self._check_rules()

    def _check_rules(self) -> None:
        """Those of `journal verify`, of which none may ever be broken."""
        for check in CHECKS:
            assert self.rows(f"SELECT * FROM ({check.broken}) LIMIT 3") == [], check.rule

    def _new_pool(self) -> SimPool:
        pool = super()._new_pool()
        assert isinstance(pool, WatchedPool)
        self.observer.traffic.forget()
        pool.traffic, pool.mischief = self.observer.traffic, self.mischief
        if self.mischief is not None:
            pool.slots = 10**6  # Who goes on after the end needs a slot that nobody has given.
        return pool

    def _new_journal(self) -> WatchedJournal:
        return WatchedJournal(self.path, self)

    def _new_sender(self) -> WatchedSender:
        sender = WatchedSender(self.path, self)
        if self.disk is None:
            sender._execute("PRAGMA synchronous = off")
        sender.be_watched()
        return sender

    def committed(self, writes: Writes) -> None:
        """The observer has seen it."""

    def _note_events(self) -> None:
        """As above."""

    def set_clock(self, ms: int) -> None:
        super().set_clock(ms)
        self.observer.traffic.clock_was_set()
        self.observer.admissions.clock_was_set(ms)

    def _next_time(self, *, looks: bool) -> int | None:
        """The engine looks at its journal ten times a second; while nobody writes to it, that shows nothing."""
        at, engine = super()._next_time(looks=looks), self.engine
        if at is None or at != engine._next_look or engine.load_errors or not engine.functions or engine.is_stopping:
            return at
        times = [
            self.pool.next_at(), engine._timers.earliest, engine._queue.next_at, engine._schedules.next_at,
            engine._pruning.next_at, engine._parking.next_at, engine._deadlines.next_at,
        ]  # fmt: skip
        if engine._dispatch.started:
            times.append(engine._dispatch.started[0].started_at + NOTE_AFTER_MS)
        ahead = min((each for each in times if each is not None), default=None)
        return at if ahead is None and not looks else ahead

    # The disk.

    def open(self) -> None:
        for _ in range(_MOST_STARTS):
            try:
                super().open()
            except JournalError as error:
                self._blame_disk(error)
                self._settle()
            else:
                return
        assert self.disk is not None
        self.disk.mend()
        super().open()

    def tick(self) -> bool:
        try:
            has_happened = super().tick()
        except JournalError as error:
            self._blame_disk(error)
            self.restart()
            return True
        return has_happened and not self._has_to_wait()

    def _has_to_wait(self) -> bool:
        """The engine would wait now, and nothing has come for it: another tick would show nothing."""
        patience_ms, at = self.engine.patience_ms(LOOK_EVERY_MS), self.pool.next_at()
        if not patience_ms or self.bell.is_rung or (at is not None and at <= self.clock()):
            return False
        self.pool.timeout_ms = patience_ms
        return True

    def send(self, *events: NewEvent) -> list[AcceptedEvent]:
        try:
            return super().send(*events)
        except JournalError as error:
            self._blame_disk(error)
            self._settle()
            return []

    def request(self, kind: str, *runs: int, **more: Any) -> None:
        self.ask(kind, {"runs": list(runs), **more})

    def ask(self, kind: str, body: dict[str, Any]) -> None:
        try:
            self._sender.append_request(kind, body, self.clock())
        except JournalError as error:
            self._blame_disk(error)
            self._settle()
        self.bell.is_rung = True

    def restart(self, *functions: Function, **more: Any) -> None:
        if self.disk is not None and self._rng.random() < 0.5:
            self._cut_power()
        else:
            self._settle()
        super().restart(*functions, **more)

    def deploy(self, functions: Sequence[Function] = (), apps: Mapping[str, Sequence[Function]] | None = None) -> None:
        self.restart(*functions, apps=apps)

    def save_code(
        self, functions: Sequence[Function] = (), apps: Mapping[str, Sequence[Function]] | None = None
    ) -> None:
        self.save(*functions, apps=apps)

    def _blame_disk(self, error: JournalError) -> None:
        """It, and nothing else, is why a journal can't be used."""
        if self.disk is None or not self.disk.failures:
            raise error
        self.disk_failures += self.disk.failures
        self.disk.failures = 0

    def _settle(self) -> None:
        """What was being written when the disk failed is there, or not: the next who reads it knows."""
        if self._in_doubt is not None:
            (changes, is_engine), self._in_doubt = self._in_doubt, None
            self.observer.settle(changes, self._sender._connection, is_engine=is_engine)
            self.bell.is_rung = True  # Nobody rings for what they take for lost; but the engine looks now and then.

    def _cut_power(self) -> None:
        """All processes are gone, and with them what no disk had: only what was synced is sure to be there."""
        assert self.disk is not None
        self.power_cuts += 1
        log = self.path.with_name(f"{self.path.name}-wal")
        files = {path: self.disk.after_power_cut(path, self._rng) for path in (self.path, log) if path.exists()}
        self.disk.mend()
        self.pool.workers.clear()
        if self._journal is not None:
            self._journal.close()
        self._sender.close()
        for path, content in files.items():
            path.write_bytes(content)
        self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
        self.disk.unsynced.clear()
        self._sender = sender = self._new_sender()
        self.observer.come_back([*self._failed], sender._connection)
        self._failed.clear()
        self._in_doubt = None
        self.observer.is_whole(sender._connection)

    def lose_power(self) -> None:
        self.log.append(Entry(What.CRASH, self.clock()))
        self._cut_power()
        self.open()
