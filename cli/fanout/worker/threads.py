"""Threads and pools of threads that functions start: what those print, log and trace belongs to who has started them.

Nothing else follows: their context is as empty as Python has it, and steps called in them are in no branch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any

from fanout.worker import capture

_has_begun = threading.Event()
carried: list[Callable[[], Callable[[], object]]] = [capture.carry]
"""What follows: each is asked where something is started, and gives what is to be called there."""


def follow() -> None:
    """From now on; once is enough."""
    if _has_begun.is_set():
        return
    _has_begun.set()
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_followed(thread: threading.Thread) -> None:
        if capture.speaker() is not None:
            run, followed = thread.run, _followed(thread.run)

            def run_once() -> None:
                del thread.run
                followed()

            thread.run = run_once  # type: ignore[method-assign]
            try:
                start(thread)
            except RuntimeError:  # There are too many; it may be started later.
                thread.run = run  # type: ignore[method-assign]
                raise
            return
        start(thread)

    def submit_followed(
        pool: ThreadPoolExecutor, call: Callable[..., Any], /, *arguments: Any, **more: Any
    ) -> Future[Any]:
        if capture.speaker() is None:
            return submit(pool, call, *arguments, **more)
        # In a context of nobody's: a thread that it starts is the pool's, and not for ever whose work was its first.
        return Context().run(submit, pool, _by_itself, _followed(call), *arguments, **more)

    threading.Thread.start = start_followed  # type: ignore[method-assign,assignment]
    ThreadPoolExecutor.submit = submit_followed  # type: ignore[method-assign,assignment]


def _followed(call: Callable[..., Any]) -> Callable[..., Any]:
    put = [carry() for carry in carried]

    def go(*arguments: Any, **more: Any) -> Any:
        for each in put:
            each()
        return call(*arguments, **more)

    return go


def _by_itself(call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
    """A pool's thread goes on to somebody else's work."""
    return copy_context().run(call, *arguments, **more)
