"""An engine in this process: the lock, the workers, the journal and the loop, from first to last.

The workers are started before anything else is imported: they take the longest.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from fanout.config import Config
from fanout.engine.lock import EngineLock
from fanout.engine.pool import Codebase, LocalPool
from fanout.protocol import Load

if TYPE_CHECKING:
    from fanout.engine.doorbell import Doorbell
    from fanout.engine.loop import Engine
    from fanout.journal.logs import Logs
    from fanout.journal.sqlite import SqliteJournal

GRACE_S = 5.0
"""How long running steps may take to end after the first Ctrl-C."""
LONG_WAIT_MS = 30_000
"""A command does not sit out waits that are longer."""
_FIRST_WORKERS = 2


class Ending(Enum):
    DONE = "done"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


class LocalEngine:
    """Holds the journal's lock from its making to its closing; use it in a `with`."""

    def __init__(self, config: Config) -> None:
        """Take the lock and start the first workers.

        Raises:
            JournalBusyError: another engine has the journal.
        """
        self.config = config
        self._lock = EngineLock(config.journal)
        self.pool = LocalPool(
            {app.id: Codebase(app.python, Load(str(app.root), app.functions, config.slots)) for app in config.apps}
        )
        for app in config.apps:
            self.pool.grow(app.id, min(_FIRST_WORKERS, config.processes) if len(config.apps) == 1 else 1)
        self._journal: SqliteJournal | None = None
        self._logs: Logs | None = None
        self._bell: Doorbell | None = None
        self._engine: Engine | None = None
        self._interrupts = 0
        self.on_stopping: Callable[[int], None] = lambda _runs: None
        """Called with the number of runs that are waited for, once, when it begins to stop."""

    def open(self, *, is_development: bool, has_schedules: bool = True) -> Engine:
        """Open the journal and wait until the code is loaded.

        Raises:
            LoadError: the user's modules can't be loaded.
            JournalError: the journal can't be used.
        """
        # Lazy: while these are imported and the journal is opened, the workers already start.
        from random import random

        from fanout.core.retention import keep_for
        from fanout.engine.doorbell import Doorbell
        from fanout.engine.loop import Engine, Settings
        from fanout.journal.logs import logs_path
        from fanout.journal.sqlite import SqliteJournal
        from fanout.journal.sqlite_logs import SqliteLogs

        self._journal = journal = SqliteJournal(self.config.journal)
        self._bell = bell = Doorbell(self.config.journal.parent)
        self.pool.listen(bell.socket)
        self._logs = SqliteLogs(
            logs_path(self.config.journal),
            warn=lambda line: self.pool.on_output(line),  # noqa: PLW0108 - who is called changes
        )
        self.pool.on_printed = self._logs.write
        self._lock.announce(bell.path)
        delay = self.config.dev_retry_delay if is_development else None
        self._engine = engine = Engine(
            journal,
            self.pool,
            bell,
            Settings(
                processes=self.config.processes,
                slots=self.config.slots,
                has_prefixes=self.config.has_prefixes,
                has_schedules=has_schedules,
                park_ms=round(self.config.park * 1000),
                keep=keep_for(self.config.keep_completed, self.config.keep_failed),
                retry_delay_ms=None if delay is None else round(delay * 1000),
            ),
            clock=lambda: time.time_ns() // 1_000_000,
            chance=random,
            forget=self._logs.forget,
        )
        # What is loaded stays: the collector need not look at it again, and rarely at the rest.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        return engine

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("open() comes first")
        return self._engine

    def load(self) -> None:
        """Wait until a worker has described the functions. Raises LoadError."""
        while not self.engine.functions:
            self.engine.tick()

    def run(
        self,
        is_done: Callable[[], bool],
        *,
        on_tick: Callable[[], None] = lambda: None,
        timeout_s: float | None = None,
    ) -> Ending:
        """Tick until `is_done`, the time is over, or Ctrl-C; running steps then get a few seconds to end."""
        engine = self.engine
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        ending = Ending.DONE
        grace_until = 0.0
        with _Signals(self._interrupt):
            while True:
                engine.tick()
                if self._logs is not None:
                    self._logs.catch_up()
                on_tick()
                if engine.is_stopping:
                    if not engine.executing or time.monotonic() > grace_until or self._interrupts > 1:
                        return ending
                elif self._interrupts:
                    ending = Ending.INTERRUPTED
                elif is_done():
                    return ending
                elif deadline is not None and time.monotonic() > deadline:
                    ending = Ending.TIMEOUT
                if ending is not Ending.DONE and not engine.is_stopping:
                    engine.stop()
                    grace_until = time.monotonic() + GRACE_S
                    if engine.executing:
                        self.on_stopping(engine.executing)

    def has_nothing_soon(self) -> bool:
        """All that is left waits for a time more than half a minute away, or for code that is not there."""
        if not self.engine.is_idle():
            return False
        due = self.engine.next_due
        return due is None or due > time.time_ns() // 1_000_000 + LONG_WAIT_MS

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._bell is not None:
            self._bell.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and let go of the journal. Nothing is lost by doing so at any time."""
        self.pool.shut_down()
        # Each by itself: an interruption may have come between any two of them.
        if self._bell is not None:
            self._bell.close()
        if self._logs is not None:
            self._logs.close()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()


class _Signals:
    """SIGINT and SIGTERM call `handle`; afterwards they do what they did before."""

    def __init__(self, handle: Callable[[int, FrameType | None], None]) -> None:
        self._handle = handle

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
