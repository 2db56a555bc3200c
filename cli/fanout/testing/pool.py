"""The engine's pool without processes: each app has one worker, which is this process, and is given out later."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from fanout import __version__
from fanout.core.event_schemas import EventSchemas
from fanout.engine.pool import Arrival
from fanout.model import Failure
from fanout.protocol import (
    Described,
    Evict,
    Recorded,
    Resume,
    RunFailed,
    Start,
    StepChanged,
    StepCompleted,
    StepFailed,
    ToEngine,
    ToWorker,
)
from fanout.worker.execution import Desk, Evicted, Execution
from fanout.worker.registry import Registered
from fanout.worker.resting import rest_soon

SLOTS = 1_000_000
"""Nothing ever waits for a slot: functions are executed one after another, each until it waits."""


class WorkerDied(BaseException):
    """Leaves the function whose worker dies at this moment."""


class Link:
    """What executions say. Whoever has said something lets the engine answer at once, so that nobody ever waits."""

    def __init__(self, worker: int, pool: InProcessPool) -> None:
        self._worker = worker
        self._pool = pool

    def put(self, message: ToEngine) -> None:
        pool = self._pool
        if pool.is_dead:
            return
        pool.arrivals.append((self._worker, message))
        if isinstance(message, StepFailed):
            _let_through(pool)
        elif isinstance(message, StepCompleted) and pool.is_deadly(message):
            pool.die()
            raise WorkerDied

    def post(self, message: ToEngine) -> None:
        self.put(message)
        if not isinstance(message, StepCompleted):  # Its record may share a commit with what comes next.
            self.flush()

    def flush(self) -> None:
        if not self._pool.is_dead:
            self._pool.answer()


def _let_through(pool: InProcessPool) -> None:
    """Ctrl-C, and what ends a test, is not the failure of a step that it came in."""
    error = sys.exception()
    if error is not None and is_foreign(error):
        pool.escape(error)


def is_foreign(error: BaseException) -> bool:
    """Whether it is none of a function's errors: Ctrl-C, or what ends a test."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_foreign(each) for each in error.exceptions)
    return not isinstance(error, Exception | SystemExit | GeneratorExit | Evicted | WorkerDied)


class InProcessPool:
    """See `fanout.engine.pool.Pool`. `codes` has the functions of each app, by their ids in it.

    `answer` lets the engine tick until it has nothing to do, `is_deadly` says whether the worker dies when this step
    is recorded, `escape` hears of errors that are none of the function's.
    """

    def __init__(
        self,
        codes: Mapping[str, Mapping[str, Registered]],
        clock: Callable[[], int],
        *,
        answer: Callable[[], None],
        is_deadly: Callable[[StepCompleted, Start], bool],
        escape: Callable[[BaseException], None],
    ) -> None:
        self.answer = answer
        self.escape = escape
        self.is_dead = False
        self.arrivals: deque[Arrival] = deque()
        self.starts: deque[tuple[Execution, Registered]] = deque()
        """Executions that are still to begin."""
        self._is_deadly = is_deadly
        self._codes = codes
        self._apps = list(codes)
        self._desks = [Desk(Link(number, self), clock) for number in range(len(codes))]
        for number, code in enumerate(codes.values()):
            specs = tuple(each.spec for each in code.values())
            self._desks[number].schemas = EventSchemas(specs)
            self.arrivals.append((number, Described(specs, __version__)))

    # What the engine asks.

    @property
    def apps(self) -> Collection[str]:
        return self._apps

    def app_of(self, worker: int) -> str:
        return self._apps[worker]

    def workers_of(self, app: str) -> list[int]:
        return [self._apps.index(app)]

    def start(self, app: str) -> int:
        return self._apps.index(app)  # It is there from the first.

    def stop(self, worker: int) -> None:
        pass

    def kill(self, worker: int) -> None:
        pass  # Time stands still while a step is executed: none is ever too late.

    def shut_down(self) -> None:
        pass

    def wait(self, timeout_s: float) -> list[Arrival]:  # noqa: ARG002 - whoever ticks knows when
        # One at a time is taken: other threads add to them.
        return [self.arrivals.popleft() for _ in range(len(self.arrivals))]

    def send(self, worker: int, messages: Sequence[ToWorker]) -> None:
        desk = self._desks[worker]
        for message in messages:
            match message:
                case Start():
                    self._start(worker, desk, message)
                case Recorded(calls):
                    _wake(desk, calls)
                case StepChanged(claim) | Resume(claim) | Evict(claim):
                    if claim in desk.executions:
                        _tell(desk.executions[claim], message)
                case _:
                    pass

    def _start(self, worker: int, desk: Desk, start: Start) -> None:
        function = self._codes[self._apps[worker]].get(start.function)
        if function is None:
            gone = Failure("LoadError", f"the code has no function `{start.function}` any more")
            self.arrivals.append((worker, RunFailed(start.claim, gone, True, None)))
            return
        execution = Execution(start, desk, function.spec, function.written)
        desk.executions[start.claim] = execution
        self.starts.append((execution, function))

    # Dying.

    def is_deadly(self, message: StepCompleted) -> bool:
        here = [desk.executions[message.claim] for desk in self._desks if message.claim in desk.executions]
        return bool(here) and self._is_deadly(message, here[0].start)

    def die(self) -> None:
        """What was said is still heard and recorded; from then on nothing is, and nothing begins any more."""
        self.answer()
        self.is_dead = True
        self.starts.clear()
        for desk in self._desks:
            for execution in list(desk.executions.values()):
                execution.evict()


def _wake(desk: Desk, calls: Sequence[int]) -> None:
    for number in calls:
        waiter = desk.calls.pop(number, None)
        if waiter is not None:
            waiter.wake()


def _tell(execution: Execution, message: StepChanged | Resume | Evict) -> None:
    match message:
        case StepChanged(_, step):
            execution.changed(step)
            if execution.spec.is_async:
                rest_soon(execution)
        case Resume():
            execution.resumed()
        case Evict():
            execution.evict()
