"""What the site appends to the journal: one thread, one connection, one commit for all that waits.

While a commit is in progress further requests queue up, so the next commit takes them all. Each is valid by then, and
what does not fit a function is answered before the commit: one can't fail for another's sake.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from fanout.engine import lock
from fanout.engine.doorbell import nudge
from fanout.errors import EventError, JournalError
from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.sqlite_appender import SqliteAppender

MOST_WAITING = 20_000
"""Events that may wait for their commit; more are turned away."""
_MOST_AT_ONCE = 5_000
_HOLDER_GOOD_FOR_S = 0.5


class OverloadedError(JournalError):
    """More is sent than the journal takes."""


class _Events(NamedTuple):
    events: Sequence[NewEvent]
    future: asyncio.Future[list[AcceptedEvent]]


class _Request(NamedTuple):
    kind: str
    body: dict[str, Any]
    future: asyncio.Future[int]


class _Check(NamedTuple):
    future: asyncio.Future[None]


_Waiting = _Events | _Request | _Check


class Writer:
    """Belongs to one loop. Its thread begins with the first thing to write."""

    def __init__(self, journal: Path) -> None:
        self._path = journal
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._next: _Waiting | None = None
        """Taken from the queue, and for the commit after this one."""
        self._events_waiting = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._journal: SqliteAppender | None = None
        self._address = ""
        self._address_good_until = 0.0
        self._has_failed = False

    async def check(self) -> None:
        """If the last write has failed: that writing is possible again.

        Raises:
            JournalError: it is not.
        """
        if self._has_failed:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._add(_Check(future))
            await future

    async def events(self, events: Sequence[NewEvent]) -> list[AcceptedEvent]:
        """Store these events, all or none. They are durable on return.

        Raises:
            OverloadedError: too many wait already.
            EventError: one does not fit a function that it would start.
            JournalError: the journal can't be written.
        """
        # One request always finds room, however large it is.
        if self._events_waiting and self._events_waiting + len(events) > MOST_WAITING:
            raise OverloadedError(
                f"{self._events_waiting:,} events wait to be written already", hint="send it again in a moment"
            )
        future: asyncio.Future[list[AcceptedEvent]] = asyncio.get_running_loop().create_future()
        self._events_waiting += len(events)
        try:
            self._add(_Events(events, future))
            return await future
        finally:
            self._events_waiting -= len(events)

    async def request(self, kind: str, body: dict[str, Any]) -> int:
        """Ask the engine for something. That is durable on return; the request's key.

        Raises:
            JournalError: the journal can't be written.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(_Request(kind, body, future))
        return await future

    def _add(self, item: _Waiting) -> None:
        if self._is_closing:
            raise OverloadedError("the site is about to end", hint="send it again in a moment")
        self._queue.put(item)
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Write what waits, and end."""
        self._is_closing = True
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # In the thread.

    def _work(self) -> None:
        while taken := self._take():
            self._write(taken)
        if self._journal is not None:
            self._journal.close()

    def _take(self) -> list[_Waiting]:
        """All events that wait, up to what one commit should have, or one request; nothing only at the end."""
        first, self._next = self._next or self._queue.get(), None
        if first is None:
            return []
        taken = [first]
        if not isinstance(first, _Events):
            return taken
        size = len(first.events)
        while True:
            try:
                self._next = self._queue.get_nowait()
            except Empty:
                return taken
            if self._next is None:
                self._queue.put(None)  # Also the next look is to find the end.
                return taken
            if not isinstance(self._next, _Events) or size + len(self._next.events) > _MOST_AT_ONCE:
                return taken
            size += len(self._next.events)
            taken.append(self._next)
            self._next = None

    def _write(self, taken: Sequence[_Waiting]) -> None:
        now = time.time_ns() // 1_000_000
        try:
            journal = self._opened()
            taken = self._without_unfit(journal, taken)
            if not taken:
                return
            answers: Sequence[Any] = _appended(journal, taken, now)
        except BaseException as error:  # noqa: BLE001 - whoever waits has to know, whatever it is
            self._has_failed = True
            self._tell(taken, [error] * len(taken))
            return
        self._has_failed = False
        self._tell(taken, answers)
        with suppress(OSError, ValueError):  # an engine that can't be told looks by itself, sooner or later
            self._nudge()

    def _opened(self) -> SqliteAppender:
        """The journal that is there now, which may be another than before: what is in a removed one is lost."""
        if self._journal is not None and self._journal.is_gone():
            old, self._journal = self._journal, None
            old.close()
        if self._journal is None:
            self._journal = SqliteAppender(self._path)
        return self._journal

    def _without_unfit(self, journal: SqliteAppender, taken: Sequence[_Waiting]) -> Sequence[_Waiting]:
        """Answer those with an event that does not fit a function: the others go on without them."""
        schemas = journal.event_schemas()
        fit: list[_Waiting] = []
        for item in taken:
            try:
                if isinstance(item, _Events):
                    schemas.check(item.events, "the request")
            except EventError as error:
                self._tell([item], [error])
            else:
                fit.append(item)
        return fit

    def _tell(self, taken: Sequence[_Waiting], answers: Sequence[Any]) -> None:
        """All at once: to wake the loop takes longer than most that it then does."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(_settle, [item.future for item in taken], answers)

    def _nudge(self) -> None:
        now = time.monotonic()
        if now >= self._address_good_until:
            holder = lock.holder(self._path)
            self._address = holder.address if holder else ""
            self._address_good_until = now + _HOLDER_GOOD_FOR_S
        if self._address:
            nudge(self._address)


def _settle(futures: Sequence[asyncio.Future[Any]], answers: Sequence[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():
            continue  # Who asked has gone.
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _appended(
    journal: SqliteAppender, taken: Sequence[_Waiting], now: int
) -> list[None] | list[int] | list[list[AcceptedEvent]]:
    """Append it all in one transaction; the answer for each, now that it is durable."""
    match taken[0]:
        case _Check():
            journal.check_room()
            return [None]
        case _Request(kind, body):
            return [journal.append_request(kind, body, now)]
        case _:
            batches = [item.events for item in taken if isinstance(item, _Events)]
            accepted = iter(journal.append_events([event for batch in batches for event in batch], now))
            return [[next(accepted) for _ in batch] for batch in batches]
