"""What every page and call of the site has at hand: the settings, a way to look into the journal, and one to append."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from fanout.config_tracing import sampling_of
from fanout.errors import JournalError
from fanout.journal.sqlite_connection import readable_errors
from fanout.web.following_reader import FollowingReader
from fanout.web.live import News
from fanout.web.writer import Writer

if TYPE_CHECKING:
    from starlette.requests import Request

    from fanout.config import Config
    from fanout.events import NewEvent
    from fanout.journal.appender import AcceptedEvent
    from fanout.journal.sqlite_reader import JournalReader

_MOST_LOOKS = 4
"""How many may look into the journal at the same time."""

Found = TypeVar("Found")


class Site:
    """Belongs to one web process. Looks happen in a few threads, each with a reader of its own."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.problem: str | None = None
        """What is wrong with the engine of whoever has started us."""
        self.has_tracing = sampling_of(config) is not None
        self.news = News(config.journal)
        self._writer = Writer(config.journal)
        self._readers = threading.local()
        self._limit = anyio.CapacityLimiter(_MOST_LOOKS)

    async def look(self, read: Callable[[JournalReader], Found]) -> Found:
        """What `read` finds in the journal.

        Raises:
            NotFoundError: there is no such thing.
            JournalError: the journal can't be read.
        """
        return await anyio.to_thread.run_sync(self._look, read, limiter=self._limit)

    def _look(self, read: Callable[[JournalReader], Found]) -> Found:
        reading: FollowingReader | None = getattr(self._readers, "reading", None)
        if reading is None:
            self._readers.reading = reading = FollowingReader(self.config.journal, redact=self.config.redact)
        with readable_errors(self.config.journal):
            return read(reading.reader())

    async def append_events(self, events: Sequence[NewEvent]) -> list[AcceptedEvent]:
        """Store the events, all or none. They are durable on return, and an engine that runs has been told.

        Raises:
            OverloadedError: too much waits to be written.
            JournalError: the journal can't be written.
        """
        return await self._writer.events(events)

    async def check(self) -> str | None:
        """What is in the way of our engine, or of writing to the journal; in words without the names of files."""
        try:
            await self._writer.check()
        except JournalError as error:
            return self.problem or error.without(self.config.journal)
        return self.problem

    async def request(self, kind: str, body: dict[str, Any]) -> int:
        """Ask the engine for something, as `Appender.append_request`; durable on return. The key of the request.

        Raises:
            JournalError: the journal can't be written.
        """
        return await self._writer.request(kind, body)

    async def close(self) -> None:
        """Write what waits, and end."""
        self.news.close()
        await self._writer.close()


def site_of(request: Request) -> Site:
    """The site that this request came to."""
    site: Site = request.app.state.site
    return site
