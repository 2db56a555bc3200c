"""Threads and tasks that take turns: generators which yield milliseconds to pass, or a waiter."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, cast

from fanout.errors import StepError
from fanout.worker.branches import Branch, branch
from fanout.worker.execution import Evicted
from tests.engine.scripts import Fail, Script

if TYPE_CHECKING:
    import asyncio

    from tests.engine.executions import Playing
    from tests.engine.workers import SimPool, SimWorker


Play = Generator["int | Waiter", None, None]
Recorded = Generator["int | Waiter", None, "str | None"]


class Waiter:
    """As ThreadWaiter and TaskWaiter: several may wait for it, and it is woken once."""

    def __init__(self) -> None:
        self.is_woken = False
        self.waiting: list[tuple[Strand, int]] = []

    def wake(self) -> None:
        assert not self.is_woken, "a thread's waiter is woken once"
        self.is_woken = True
        for strand, turn in self.waiting:
            if strand.turn == turn:
                strand.go_on()


class DiedError(Exception):
    """The worker dies of this code."""


class BrokenError(Exception):
    """The code between steps raised."""

    def __init__(self, fail: Fail) -> None:
        super().__init__("the body broke")
        self.fail = fail


class _Loop:
    """As much of an event loop as it takes to look whether all of an execution waits."""

    def __init__(self, playing: Playing) -> None:
        self._playing = playing

    def time(self) -> float:
        return self._playing.worker.pool.elapsed() / 1000

    def call_soon(self, do: Callable[..., None], *arguments: object) -> None:
        self._playing.later(0, partial(do, *arguments))

    def call_at(self, when: float, do: Callable[..., None], *arguments: object) -> Timer:
        self._playing.later(round((when - self.time()) * 1000), partial(do, *arguments))
        return Timer(when)


class Timer:
    """What code between the steps of a task waits for."""

    def __init__(self, when: float) -> None:
        self._when = when

    def when(self) -> float:
        return self._when

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        """To look once more does no harm."""


class _Task:
    """What an execution knows of its task."""

    def __init__(self, strand: Strand) -> None:
        self._strand = strand

    def cancel(self) -> None:
        self._strand.cancel()

    def get_loop(self) -> _Loop:
        return _Loop(self._strand.playing)


class Join:
    """Branches, until the last of them has ended."""

    def __init__(self, strands: list[Strand]) -> None:
        self.strands = strands
        self.waiter = Waiter()
        self.is_cancelled = False

    def has_ended(self) -> bool:
        return all(each.is_over for each in self.strands)


class Strand:
    """A thread, or a task: it takes turns, and is suspended between them."""

    def __init__(self, playing: Playing, script: Script, here: Branch, parent: Strand | None = None) -> None:
        self.playing = playing
        self.real = playing.real
        self.worker: SimWorker = playing.worker
        self.pool: SimPool = playing.worker.pool
        self.is_async = playing.is_async
        self.script = script
        self.here = here
        self.parent = parent
        self.join: Join | None = None
        self.turn = 0
        self.is_over = False
        self.is_busy = True
        """It does something, or waits for the disk or for a slot."""
        self.error: BaseException | None = None
        self._must_cancel = False
        self._is_new = True
        self._play = self.play()

    def play(self) -> Play:
        """What it does."""
        raise NotImplementedError

    def family(self) -> list[Strand]:
        below = [] if self.join is None else self.join.strands
        return [self, *(each for strand in below for each in strand.family())]

    # Turns.

    def go_on(self, ms: int = 0) -> None:
        """A thread may get its turn late; tasks have theirs in order."""
        self.turn += 1
        if not self.is_async:
            ms += self.pool.lag()
        self.is_busy = True
        self.pool.later(ms, self.worker.number, partial(self._take_turn, self.turn))

    def cancel(self) -> None:
        """As Task.cancel(): raised where it waits; a gather first ends its tasks."""
        if self.join is not None and not self.join.has_ended():
            self.join.is_cancelled = True
            for each in self.join.strands:
                if not each.is_over:
                    each.cancel()
        else:
            self._must_cancel = True
            self.go_on()

    def _take_turn(self, turn: int) -> None:
        if turn != self.turn or self.is_over:
            return
        token = branch.set(self.here)
        try:
            wait = self._next()
        except DiedError:
            self.pool.lose(self.worker.number)
        except StopIteration:
            self._end(None)
        except (BrokenError, StepError, CancelledError, Evicted) as error:
            self._end(error)
        else:
            self._suspend(wait)
        finally:
            branch.reset(token)

    def _next(self) -> int | Waiter:
        if self.is_async and self._is_new and self.parent is None:
            self.real.task = cast("asyncio.Task[None]", _Task(self))
            self.real.cancel_if_idle()
        elif self._must_cancel:
            self._must_cancel = False
            return self._play.throw(CancelledError())
        self._is_new = False
        return next(self._play)

    def _suspend(self, wait: int | Waiter) -> None:
        if self._must_cancel:
            self.go_on()
        elif isinstance(wait, int):
            self.go_on(wait)
        elif wait.is_woken:
            self.go_on()
        else:
            self.is_busy = wait not in [each for each, _ in self.real.waiting.values()] and (
                self.join is None or wait is not self.join.waiter
            )
            self.turn += 1
            wait.waiting.append((self, self.turn))

    def _end(self, error: BaseException | None) -> None:
        self.is_over = True
        self.error = error
        parent = self.parent
        if parent is None:
            self.playing.end(error)
            return
        assert parent.join is not None
        has_ended = parent.join.has_ended()
        if not self.is_async:
            self.real.busy += has_ended - 1
        if has_ended:
            parent.join.waiter.wake()
        if not self.is_async:
            self.real.rest()
        else:
            self.real.stirs += 1
