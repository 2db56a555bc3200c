"""The server: uvicorn with bounds of our own on what a connection may hold and how long it may take."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from fanout.web.security import Guard

MOST_CONNECTIONS = 512
HEADER_PATIENCE_S = 10.0
MOST_HEADER_BYTES = 64 * 1024
_BODY_PATIENCE_S = 40.0
"""Longer than the guard waits, which can say so in an answer."""
_KEEP_ALIVE_S = 60
_SHUTDOWN_S = 2


class _Connection(HttpToolsProtocol):
    """A connection that can't stay open by sending slowly, or without an end. uvicorn bounds only idle ones."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = 0
        """None while a body is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._wait_for(HEADER_PATIENCE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._header_bytes is not None:
            if self._header_bytes == 0 and self._patience is None:
                self._wait_for(HEADER_PATIENCE_S)
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes is not None and self._header_bytes > MOST_HEADER_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._header_bytes = None
        self._wait_for(_BODY_PATIENCE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._header_bytes = 0
        self._stop_waiting()
        super().on_message_complete()

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
