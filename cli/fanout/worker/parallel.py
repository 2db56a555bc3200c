"""`ctx.step.parallel` of plain functions: branches in threads, each with steps of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from fanout.errors import UsageError
from fanout.worker.branches import Branch, branch
from fanout.worker.execution import Evicted, Execution
from fanout.worker.memory import leave_if_out_of_memory

MAX_BRANCHES = 1_000


class _Branches:
    """The branches of one call, until the last of them has ended."""

    def __init__(self, execution: Execution, number: int) -> None:
        self._execution = execution
        self.results: list[Any] = [None] * number
        self.errors: list[BaseException | None] = [None] * number
        here = branch.get()
        is_own = here is not None and here.execution is execution
        self._here = here if here is not None and is_own else Branch(execution)
        self._is_own = is_own
        self._left = number
        self._all_ended = threading.Event()
        # While they go, the caller only waits for them.
        with execution.lock:
            execution.busy += number - is_own

    def start(self, branches: Sequence[Callable[[], Any]]) -> None:
        group = self._here.fork()
        for number, function in enumerate(branches):
            context = copy_context()
            work = partial(context.run, partial(self._work, number, function, group.fork()))
            try:
                threading.Thread(target=work, daemon=True).start()
            except RuntimeError:
                work()  # The system has no more threads: then one after another.

    def _work(self, number: int, function: Callable[[], Any], here: Branch) -> None:
        branch.set(here)
        try:
            self.results[number] = function()
        except BaseException as error:  # noqa: BLE001 - boundary: the user's code, sys.exit() included
            leave_if_out_of_memory(error)
            self.errors[number] = error
        execution = self._execution
        with execution.lock:
            self._left -= 1
            execution.busy -= 1
            if not self._left:
                execution.busy += self._is_own
                self._all_ended.set()
        execution.rest()
        execution.desk.link.flush()

    def wait(self) -> None:
        self._all_ended.wait()


def call(execution: Execution, branches: Sequence[Callable[[], Any]]) -> tuple[Any, ...]:
    """Call them at the same time, and wait for all of them."""
    execution.refuse_inside("`parallel`")
    if len(branches) > MAX_BRANCHES:
        raise UsageError(f"`parallel` has {len(branches):,} branches, at most {MAX_BRANCHES:,} can be")
    for function in branches:
        if not callable(function):
            raise UsageError(
                f"`parallel` has the branch {function!r}, which can't be called",
                hint="give functions without arguments, such as `lambda: ctx.step.run(...)`",
            )
    if not branches:
        return ()
    made = _Branches(execution, len(branches))
    made.start(branches)
    made.wait()
    if any(isinstance(error, Evicted) for error in made.errors):
        raise Evicted
    first = next((error for error in made.errors if error is not None), None)
    if first is not None:
        raise first
    return tuple(made.results)
