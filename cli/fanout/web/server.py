"""The server: uvicorn with bounds of our own on what a connection may hold and how long it may take."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from fanout.web.security import Guard

MOST_CONNECTIONS = 512
HEADER_PATIENCE_S = 10.0
MOST_HEADER_BYTES = 64 * 1024
_BODY_PATIENCE_S = 40.0
"""Longer than the guard waits, which can say so in an answer."""
_LARGEST_CHUNK_BYTES = 6
"""Of a body that comes in chunks of one byte each: `1`, the byte, and two ends of lines."""
_KEEP_ALIVE_S = 60
_SHUTDOWN_S = 2


class _Connection(HttpToolsProtocol):
    """A connection that can't stay open by sending slowly, or without an end. uvicorn bounds only idle ones."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._bytes = 0
        """Of the request that comes: what is not its body."""
        self._line = b""
        self.waits_since = 0.0
        """While nothing is being answered here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waits_since = self.loop.time()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()
        self._wait_for(HEADER_PATIENCE_S)

    def _make_room(self) -> None:
        """Who has asked nothing for the longest has to go; if nobody waits, it is who comes last."""
        waiting = [each for each in self.connections if each.is_waiting and each is not self]  # type: ignore[union-attr]
        longest = min(waiting, key=lambda each: each.waits_since, default=self)  # type: ignore[union-attr]
        self.connections.discard(longest)  # Its end is told later, and others may come before that.
        longest.transport.abort()

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is being answered here."""
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._bytes == 0 and self._patience is None:
            self._wait_for(HEADER_PATIENCE_S)
        self._bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
        if self._bytes > MOST_HEADER_BYTES:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # What comes behind a body can't change what has been looked at before it.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._line = b"%b %b HTTP/%b" % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode(),
            )
            return
        self._is_in_head = False
        self._wait_for(_BODY_PATIENCE_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes -= _LARGEST_CHUNK_BYTES * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_in_head, self._bytes = True, 0
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.waits_since = self.loop.time()
        super().on_response_complete()

    def _stay_with_http(self, rest: bytes) -> None:
        """Whoever would rather speak another protocol may go on with this one. The parser takes the body for a part of
        that protocol, so the request is read again without the wish.
        """
        if self._line.startswith(b"CONNECT "):
            self.send_400_response("")
            return
        kept = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._bytes = 0
        self.data_received(b"\r\n".join([self._line, *kept, b"", b""]) + rest)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _wait_for(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Server(uvicorn.Server):
    """Ends when it is told to: streams first, then what is being answered."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(
            uvicorn.Config(
                guard,
                http=_Connection,
                ws="none",
                loop="uvloop",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        self._site = guard.app.state.site  # type: ignore[attr-defined]
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it is to end.
        while not self.should_exit:
            await self.on_tick(0)
            try:
                async with asyncio.timeout(1.0):
                    await self._ending.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """From any thread or a signal's handler."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        # Not noted, as uvicorn would: it raises the signal again after the end, and this end is a proper one.
        self.end()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._site.news.close()  # Streams never end by themselves.
        await super().shutdown(sockets)
