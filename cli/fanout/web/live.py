"""`/live`: tells every page that is open that the journal has changed. One thread follows it for all of them.

It says no more than that: what has changed, a page finds out by asking for itself again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse
from starlette.routing import Route

from fanout.engine import lock
from fanout.engine.doorbell import Follower
from fanout.errors import JournalError, NotFoundError
from fanout.web.following_reader import FollowingReader
from fanout.web.problems import problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

MOST_STREAMS = 64
HEART_BEAT_S = 15.0
_LEAST_GAP_S = 0.25
"""Between two words to a page."""
_LONGEST_NAP_S = 0.5
_FOLLOWED_FOR_S = 2.0
"""An engine forgets who does not ask again."""


class News:
    """What the streams listen to. The thread that follows the engine is there while anybody listens."""

    def __init__(self, journal: Path) -> None:
        self._path = journal
        self._lock = threading.Lock()
        self._listeners: set[_Listener] = set()
        self._thread: threading.Thread | None = None
        self._number = 0
        self._is_closed = False

    def listen(self) -> _Listener | None:
        """None if too many listen already, or it is closed."""
        with self._lock:
            if self._is_closed or len(self._listeners) >= MOST_STREAMS:
                return None
            listener = _Listener(asyncio.get_running_loop())
            self._listeners.add(listener)
            if self._number:
                listener.tell(self._number)  # Who knows what has happened since the page was made, or was last told.
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="news", daemon=True)
                self._thread.start()
            return listener

    def leave(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._is_closed = True
            listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener.end()

    def _has_listeners(self) -> bool:
        with self._lock:
            if not self._listeners:
                self._thread = None
            return bool(self._listeners)

    def _follow(self) -> None:
        follower: Follower | None = None
        reading = FollowingReader(self._path)
        version: tuple[object, ...] = ()
        follow_at = 0.0
        try:
            with suppress(OSError):  # without one it looks now and then
                follower = Follower(self._path.parent)
            while self._has_listeners():
                began = time.monotonic()
                if follower is not None and began >= follow_at and (holder := lock.holder(self._path)):
                    follower.follow(holder.address)
                    follow_at = began + _FOLLOWED_FOR_S
                with suppress(NotFoundError, JournalError):
                    if (now := reading.version()) != version:
                        version = now
                        self._tell()
                # What changes now is told with all that changes soon after.
                time.sleep(max(0.0, _LEAST_GAP_S - (time.monotonic() - began)))
                if follower is not None:
                    follower.wait(_LONGEST_NAP_S)
                else:
                    time.sleep(_LONGEST_NAP_S)
        finally:
            if follower is not None:
                follower.close()
            reading.close()

    def _tell(self) -> None:
        with self._lock:
            self._number += 1
            for listener in self._listeners:
                listener.tell(self._number)


class _Listener:
    """One stream's ear. Of several words that wait, the last is enough."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._has_news = asyncio.Event()
        self._number: int | None = None
        self._is_over = False

    def tell(self, number: int) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(self._put, number)

    def end(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, None)

    def _put(self, number: int | None) -> None:
        self._number = number
        self._is_over = self._is_over or number is None
        self._has_news.set()

    async def each(self) -> AsyncIterator[int | None]:
        """The numbers as they come; None when nothing did for a while."""
        while True:
            try:
                async with asyncio.timeout(HEART_BEAT_S):
                    await self._has_news.wait()
            except TimeoutError:
                yield None
                continue
            self._has_news.clear()
            if self._is_over:
                return
            yield self._number


async def live(request: Request) -> Response:
    """A stream of server-sent events: `data: N` with another N whenever the journal has changed."""
    news: News = request.app.state.site.news
    listener = news.listen()
    if listener is None:
        return problem(request.scope, 503, "too many pages are open", hint="close some", headers={"Retry-After": "10"})
    return StreamingResponse(_stream(news, listener), media_type="text/event-stream")


async def _stream(news: News, listener: _Listener) -> AsyncIterator[bytes]:
    try:
        yield b"retry: 1000\n\n"
        async for number in listener.each():
            yield b": still here\n\n" if number is None else b"data: %d\n\n" % number
    finally:
        news.leave(listener)


def routes() -> list[BaseRoute]:
    return [Route("/live", live, methods=["GET"])]
