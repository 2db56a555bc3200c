"""A project in this process: the real engine on a journal in memory, and the real code of workers, under one clock.

Functions are executed in the calling thread, one after another, each until it waits for something: then it leaves, as
it does before a long wait in a worker, and is entered again with its recorded steps when it goes on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from random import Random
from typing import Any

from fanout.core.event_schemas import EventSchemas
from fanout.engine.loop import Engine
from fanout.engine.settings import Settings
from fanout.errors import UsageError
from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite_memory import MemoryJournal
from fanout.protocol import Start, StepCompleted
from fanout.testing import contexts
from fanout.testing.clock import Clock
from fanout.testing.hearing import Hearing, heard
from fanout.testing.pool import SLOTS, InProcessPool, is_foreign
from fanout.testing.results import Result, result_of
from fanout.testing.stubs import Stubs
from fanout.worker import slots
from fanout.worker.context import Context
from fanout.worker.execution import Execution
from fanout.worker.registry import Registered

_MOST_IDLE = 8
_LONGEST_MS = 2**52
_idle: deque[MemoryJournal] = deque()
"""Journals that nobody has: to make one takes longer than most tests of a function."""


class _Bell:
    def __init__(self) -> None:
        self.is_rung = False

    def answer(self) -> bool:
        was_rung, self.is_rung = self.is_rung, False
        return was_rung

    def tell_followers(self) -> None:
        pass


class Stage:
    """Everything there is to a test. `stubs` are those of a function's steps, by its id."""

    def __init__(
        self,
        codes: Mapping[str, Mapping[str, Registered]],
        *,
        clock: Clock,
        has_prefixes: bool = False,
        has_schedules: bool = False,
        may_start: Callable[[Start], bool] = lambda _start: True,
    ) -> None:
        self.clock = clock
        self.hearing = Hearing(clock)
        self.journal = _taken()
        self.crash_after: set[str] = set()
        """Steps after which the worker dies, each once."""
        self.stubs: dict[str, Stubs] = {}
        self._codes = codes
        self._schemas = EventSchemas(each.spec for code in codes.values() for each in code.values())
        self._settings = Settings(
            processes=max(1, len(codes)), slots=SLOTS, has_prefixes=has_prefixes, has_schedules=has_schedules, park_ms=0
        )
        self.may_start = may_start
        self.uses = 1
        self._chance = Random(0)  # noqa: S311 - the same each time: it is the jitter of retries
        self._lock = threading.RLock()
        self._is_answering = False
        self._is_settling = False
        self._escaped: BaseException | None = None
        self._has_escaped = False
        self._bell = _Bell()
        self._open()

    def _open(self) -> None:
        self._pool = InProcessPool(
            self._codes, self.clock, answer=self._answer, is_deadly=self._is_deadly, escape=self.escape
        )
        self.engine = Engine(
            self.journal, self._pool, self._bell, self._settings, clock=self.clock, chance=self._chance.random
        )

    def close(self) -> None:
        """Give the journal back; once, and only if no thread of a function can still come to it."""
        is_clean = not (self._pool.is_dead or self._is_settling or self._has_escaped)
        self._pool.is_dead = True
        if is_clean and len(_idle) < _MOST_IDLE:
            _idle.append(self.journal)

    def is_over(self) -> bool:
        """Nothing is left that could happen."""
        is_clean = not (self._is_settling or self._has_escaped or self._pool.starts or self._pool.is_dead)
        return is_clean and not self.engine.executing and not self.journal.has_live() and self.next_at() is None

    def renew(self, now: int) -> None:
        """Another test begins, at this time."""
        self.clock.now = now
        self.hearing.lines = []
        self.crash_after, self.stubs = set(), {}
        self.uses += 1

    # What others ask of the engine.

    def send(self, events: list[NewEvent]) -> list[AcceptedEvent]:
        """As `fanout send` does.

        Raises:
            EventError: one does not fit a function that it would start; none was sent.
        """
        self._refuse_inside()
        self._schemas.check(events)
        accepted = self.journal.append_events(events, self.clock())
        self._bell.is_rung = True
        return accepted

    def request(self, kind: str, **body: object) -> int:
        self._refuse_inside()
        key = self.journal.append_request(kind, body, self.clock())
        self._bell.is_rung = True
        return key

    def result(self, key: int) -> Result[Any]:
        """What has become of the run with this key."""
        return result_of(self.journal, self.hearing, key, self._code_of)

    def _code_of(self, function: str) -> Callable[..., Any] | None:
        for app, code in self._codes.items():
            prefix = f"{app}/" if self._settings.has_prefixes else ""
            if function.startswith(prefix) and function.removeprefix(prefix) in code:
                return code[function.removeprefix(prefix)].code
        return None

    def _refuse_inside(self) -> None:
        if self._is_settling:
            raise UsageError("a function that is being tested can't move its test on", hint="do it after `send`")

    # Time.

    def settle(self) -> None:
        """Until everything waits for a time or an event, or is over. Time stands still."""
        self._refuse_inside()
        self._is_settling = True
        try:
            with heard(self.hearing):
                self._answer()
                while self._pool.starts:
                    execution, function = self._pool.starts.popleft()
                    if self.may_start(execution.start):
                        self._execute(execution, function)
                        self._raise_escaped()
                        if self._pool.is_dead:
                            self._open()
                        self._answer()
        finally:
            self._is_settling = False

    def next_at(self) -> int | None:
        """When something goes on by itself; to be asked when all is settled."""
        due_at = self.engine.next_due
        return None if due_at is None else max(due_at, self.clock.now)

    def advance_to(self, moment: int) -> None:
        """Let time pass: whatever is due until then happens when it is."""
        self.settle()
        while (at := self.next_at()) is not None and at <= moment:
            self.clock.now = at
            self.settle()
        self.clock.now = max(moment, self.clock.now)

    def crash(self) -> None:
        """All processes are killed, and started again."""
        self._pool.die()
        self._open()
        self.settle()

    # The engine's turn, and the functions'.

    def _answer(self) -> None:
        """Let the engine tick until it has nothing to do now. Functions are not begun here."""
        with self._lock:
            if self._is_answering:
                return
            self._is_answering = True
            try:
                engine, pool = self.engine, self._pool
                while pool.arrivals or self._bell.is_rung or engine.patience_ms(_LONGEST_MS) == 0:
                    engine.tick(_LONGEST_MS)
            finally:
                self._is_answering = False

    def _execute(self, execution: Execution, function: Registered) -> None:
        stubs = self.stubs.get(function.spec.id)
        context = copy_context()  # What the function sets is not the test's.
        if function.spec.is_async:
            from fanout.testing import tasks  # lazy: asyncio, which most tests do without

            context.run(tasks.execute, execution, tasks.guarded(function, self.escape), stubs)
            return
        guarded = function._replace(code=partial(self._guarded, function.code))
        ending = context.run(slots.call, execution, guarded, contexts.plain(stubs))
        execution.close()
        execution.desk.link.put(ending)

    def _guarded(self, code: Callable[..., Any], ctx: Context) -> Any:
        try:
            return code(ctx)
        except BaseException as error:
            if is_foreign(error):
                self.escape(error)
            raise

    def _is_deadly(self, message: StepCompleted, start: Start) -> bool:
        names = {message.key, f"{start.function}/{message.key}"} & self.crash_after
        self.crash_after -= names
        return bool(names)

    def escape(self, error: BaseException) -> None:
        """An error that is not the function's: whoever called gets it."""
        self._escaped = self._escaped or error

    def _raise_escaped(self) -> None:
        error, self._escaped = self._escaped, None
        if error is not None:
            self._has_escaped = True
            raise error


def _taken() -> MemoryJournal:
    try:
        journal = _idle.pop()
    except IndexError:
        return MemoryJournal()
    journal.wipe()
    return journal
