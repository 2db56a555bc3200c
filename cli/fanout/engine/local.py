"""An engine in this process: the lock, the workers, the journal and the loop, from first to last.

The workers are started before anything else is imported: they take the longest.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import Enum
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from fanout.config import Config
from fanout.engine.lock import EngineLock
from fanout.engine.pool import Codebase, LocalPool
from fanout.errors import JournalError
from fanout.protocol import Load, Traced

if TYPE_CHECKING:
    from fanout.core.sampling import Sampling
    from fanout.engine.doorbell import Doorbell
    from fanout.engine.loop import Engine
    from fanout.engine.reloads import Reloaded
    from fanout.engine.settings import Settings
    from fanout.engine.tracer import Tracer
    from fanout.journal.logs import Logs
    from fanout.journal.sqlite import SqliteJournal

GRACE_S = 5.0
"""How long running steps may take to end after the first Ctrl-C."""
LONG_WAIT_MS = 30_000
"""A command does not sit out waits that are longer."""
_FIRST_WORKERS = 2
_TRACED_PATIENCE_S = 2.0
"""A worker may have spans to export before it exits."""


class Ending(Enum):
    DONE = "done"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


class _Kind(NamedTuple):
    """What an engine is there for, whatever its settings are."""

    is_development: bool = False
    has_schedules: bool = True
    has_reloads: bool = False


def _codebases(config: Config, sampling: Sampling | None) -> dict[str, Codebase]:
    return {
        app.id: Codebase(
            app.python,
            Load(
                str(app.root),
                app.functions,
                config.slots,
                None if sampling is None else Traced(app.id, sampling, config.redact),
            ),
        )
        for app in config.apps
    }


def _has_traces(config: Config) -> bool:
    """Whether anything is said of traces at all."""
    return config.otel is not None or any(name.startswith("OTEL_") for name in os.environ)


class LocalEngine:
    """Holds the journal's lock from its making to its closing; use it in a `with`."""

    def __init__(self, config: Config) -> None:
        """Take the lock and start the first workers.

        Raises:
            JournalBusyError: another engine has the journal.
            ConfigError: what the settings ask for is not installed.
        """
        self._sampling: Sampling | None = None
        if _has_traces(config):
            from fanout.config_tracing import sampling_of  # lazy: few have them

            self._sampling = sampling_of(config)
        self.config = config
        self._said = config
        """What fanout.toml says, also where that takes effect at the next start."""
        self._lock = EngineLock(config.journal)
        self.began_ns = time.time_ns()
        """No worker has loaded anything before."""
        self.pool = LocalPool(_codebases(config, self._sampling))
        if self._sampling is not None:
            self.pool.patience_s = _TRACED_PATIENCE_S
        self._hide(config.redact)
        for app in config.apps:
            for _ in range(min(_FIRST_WORKERS, config.processes) if len(config.apps) == 1 else 1):
                self.pool.start(app.id)
        self._journal: SqliteJournal | None = None
        self._logs: Logs | None = None
        self._bell: Doorbell | None = None
        self._engine: Engine | None = None
        self._tracer: Tracer | None = None
        self._interrupts = 0
        self.stopped_by: int | None = None
        self.on_stopping: Callable[[int], None] = lambda _runs: None
        """Called with the number of runs that are waited for, once, when it begins to stop."""
        self.on_reloaded: Callable[[Reloaded], None] = lambda _reloaded: None
        """Called with what has come of a reload."""
        self._kind = _Kind()

    def _hide(self, keys: tuple[str, ...]) -> None:
        self.pool.hide = str
        if keys:
            from fanout.core.redaction import redaction_of  # lazy: few have anything to hide

            self.pool.hide = redaction_of(keys).text

    def open(self, *, is_development: bool, has_schedules: bool = True, has_reloads: bool = False) -> Engine:
        """Open the journal and begin to wait until the code is loaded.

        With `has_reloads`, code that can't be loaded is no error: `on_reloaded` tells, and `reload` tries again.

        Raises:
            LoadError: the user's modules can't be loaded.
            JournalError: the journal can't be used.
        """
        # Lazy: while these are imported and the journal is opened, the workers already start.
        from random import random

        from fanout.engine.doorbell import Doorbell
        from fanout.engine.loop import Engine
        from fanout.journal.logs import logs_path
        from fanout.journal.sqlite import SqliteJournal
        from fanout.journal.sqlite_logs import SqliteLogs

        self._journal = journal = SqliteJournal(self.config.journal)
        try:
            self._bell = bell = Doorbell(self.config.journal.parent)
        except OSError as error:
            raise JournalError(
                f"the folder of the journal `{self.config.journal}` can't be written: {error.strerror}"
            ) from None
        self.pool.listen(bell.socket)
        self._logs = SqliteLogs(
            logs_path(self.config.journal),
            warn=lambda line: self.pool.on_output(line),  # noqa: PLW0108 - who is called changes
        )
        self.pool.on_printed = self._logs.write
        self._lock.announce(bell.path)
        self._kind = _Kind(is_development, has_schedules, has_reloads)
        with journal.readable():
            self._engine = engine = Engine(
                journal,
                self.pool,
                bell,
                self._settings(),
                clock=lambda: time.time_ns() // 1_000_000,
                chance=random,
                forget=self._logs.forget,
            )
        engine.on_reloaded = lambda reloaded: self.on_reloaded(reloaded)  # noqa: PLW0108 - who is called changes
        if _has_traces(self.config):
            self._trace(engine)
        # What is loaded stays: the collector need not look at it again, and rarely at the rest.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        return engine

    def _trace(self, engine: Engine) -> None:
        from fanout.config_tracing import warning  # lazy: few have traces
        from fanout.engine.tracer import Tracer

        def say(line: str) -> None:
            self.pool.on_output(line)

        said = warning(self.config)
        if said is not None and self._kind.has_schedules:  # Not with each command that runs the engine itself.
            say(f"warning: {said}")
        if self._sampling is not None:
            self._tracer = Tracer(self.config.path, say)
            engine.on_ended = self._tracer.committed

    def _settings(self) -> Settings:
        from fanout.core.retention import keep_for  # lazy: as above
        from fanout.engine.settings import Settings

        config, kind = self.config, self._kind
        delay = config.dev_retry_delay if kind.is_development else None
        return Settings(
            processes=config.processes,
            slots=config.slots,
            has_prefixes=config.has_prefixes,
            has_schedules=kind.has_schedules,
            has_reloads=kind.has_reloads,
            sampling=self._sampling,
            park_ms=round(config.park * 1000),
            keep=keep_for(config.keep_completed, config.keep_failed),
            retry_delay_ms=None if delay is None else round(delay * 1000),
        )

    def reload(self, config: Config, changed: Collection[Path]) -> None:
        """Go on with these settings and the code as it is now, of the apps that the changed files belong to.

        Not within a tick. What comes of it is told by `on_reloaded`, for each app by itself: until then, and if the
        code can't be loaded, what was there before goes on. No run is lost or charged for it.
        """
        from fanout.engine import reloads  # lazy: only development has them

        before, self._said = self._said, config
        self.config = reloads.with_what_stays(self.config, config)
        self.pool.have(_codebases(self.config, self._sampling))
        self._hide(config.redact)
        apps = [app.id for app in self.config.apps]
        concerned = reloads.concerned(before, config, changed)
        if self._tracer is not None and before.redact != config.redact:
            self._tracer.have_new_settings()
            concerned = set(apps)  # Their workers export what the code itself traces.
        self.engine.reload(self._settings(), apps, sorted(concerned))
        said = reloads.settings_changed(before, config)
        if said is not None:
            self.on_reloaded(said)

    def check(self) -> None:
        """That the journal can be written.

        Raises:
            JournalError: it can't.
        """
        if self._journal is not None:
            self._journal.check_room()

    def wake(self) -> None:
        """Have the loop look at once; from any thread."""
        if self._bell is not None:
            self._bell.ring()

    @property
    def follows_a_death(self) -> bool:
        """The engine before this one was killed: what it has started may still be about to end."""
        return self._lock.follows_a_death

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("open() comes first")
        return self._engine

    def load(self) -> None:
        """Wait until it is known what functions there are, or with reloads that the code can't be loaded.

        Raises:
            LoadError: the user's modules can't be loaded, and nobody is there to mend them.
            JournalError: the journal can't be used.
        """
        with self._readable():
            while not self.engine.functions and not self.engine.load_errors:
                self.engine.tick()

    def _readable(self) -> AbstractContextManager[None]:
        return nullcontext() if self._journal is None else self._journal.readable()

    def run(
        self,
        is_done: Callable[[], bool],
        *,
        on_tick: Callable[[], None] = lambda: None,
        timeout_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> Ending:
        """Tick until `is_done`, the time is over, or a signal; running steps then have so long to end.

        A second signal ends it at once. `stopped_by` is the first one.

        Raises:
            JournalError: the journal can't be used. What was not committed has not happened.
        """
        engine = self.engine
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        ending = Ending.DONE
        grace_until = 0.0
        with _Signals(self._interrupt), self._readable():
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
                    grace_until = time.monotonic() + grace_s
                    if engine.executing:
                        self.on_stopping(engine.executing)

    def has_nothing_soon(self) -> bool:
        """All that is left waits for a time more than half a minute away, or for code that is not there."""
        if not self.engine.is_idle():
            return False
        due = self.engine.next_due
        return due is None or due > time.time_ns() // 1_000_000 + LONG_WAIT_MS

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        self.stopped_by = self.stopped_by or number
        self.wake()

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
            with suppress(JournalError):  # What it has committed it has.
                self._journal.close()
        self._lock.release()
        if self._tracer is not None:  # Another engine may begin while the last traces are told.
            self._tracer.close()


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
