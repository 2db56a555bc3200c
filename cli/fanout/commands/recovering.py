"""An engine whose journal can't be used any more is replaced by a new one, as soon as that can be used again.

The disk is full, the folder is read-only, somebody has put another journal in its place: none of it is an end of
serving. Nothing is lost by it, for what was not committed has not happened, and a new engine reads what was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack

from fanout.commands.text import printable
from fanout.engine.local import LocalEngine
from fanout.errors import JournalError

_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before it is tried again: the n-th time in a row."""
_STEADY_S = 60.0
"""It has been well for so long: what was before does not count any more."""
_AGAIN_S = 10.0
"""The same is not said again so soon."""
_NAP_S = 0.05


class Recovery:
    """Makes engines, one after another, in `stack`. `tell` hears what is wrong, or None; `look` is called meanwhile."""

    def __init__(
        self,
        make: Callable[[], LocalEngine],
        stack: ExitStack,
        *,
        say: Callable[[str], None],
        tell: Callable[[JournalError | None], None],
        look: Callable[[], None],
    ) -> None:
        self._make = make
        self._stack = stack
        self._say = say
        self._tell = tell
        self._look = look
        self._failures = 0
        self._said = ""
        self._said_at = 0.0
        self._began_at = time.monotonic()

    def replace(self, error: JournalError) -> LocalEngine:
        """A new engine that has loaded the code, in the place of the one that has failed so.

        What is wrong is said once, not each time that it is tried again.

        Raises:
            LoadError: the code can't be loaded any more.
        """
        failed_at = time.monotonic()
        if failed_at - self._began_at > _STEADY_S:
            self._failures = 0
        while True:
            self._tell(error)
            self._complain(error)
            self._stack.pop_all().close()
            gc.collect()  # What a new engine finds in memory, it keeps for good.
            self._wait(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            self._failures += 1
            try:
                own = self._stack.enter_context(self._make())
                own.open(is_development=False)
                own.check()
                own.load()
            except JournalError as again:
                error = again
                continue
            self._began_at = time.monotonic()
            self._tell(None)
            if self._said_at >= failed_at:
                self._say(f"the journal can be used again, after {self._began_at - failed_at:.1f} s; going on")
            return own

    def _complain(self, error: JournalError) -> None:
        now = time.monotonic()
        if error.message != self._said or (now - self._said_at > _AGAIN_S and self._said_at < self._began_at):
            self._said, self._said_at = error.message, now
            self._say(f"error: {printable(error.message)}; going on as soon as it can be used again")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look()
            time.sleep(min(_NAP_S, left))
