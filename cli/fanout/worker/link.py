"""The worker's end of the socket pair. Any thread may post; one thread reads."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections import deque

from fanout.protocol import FrameReader, ToEngine, ToWorker, frame, to_worker_decoder

_RECEIVE_BYTES = 256 * 1024


class Link:
    """Frames over a socket.

    Posting needs no thread of its own: whoever finds the socket free sends everything that waits, so messages
    of threads that post at the same time share a frame.
    """

    def __init__(self, connection: socket.socket, *, idle_ms: int) -> None:
        self._socket = connection
        # Only receiving times out: a select before each would cost a system call a frame.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, idle_ms * 1000))
        self._reader = FrameReader()
        self._waiting: deque[ToEngine] = deque()
        self._sending = threading.Lock()

    def post(self, message: ToEngine) -> None:
        """Send the message, or leave it to the thread that is sending."""
        self._waiting.append(message)
        self.flush()

    def put(self, message: ToEngine) -> None:
        """Leave the message for the next flush."""
        self._waiting.append(message)

    def flush(self) -> None:
        waiting = self._waiting
        # Look again after each release: a message may have come between the last look and the release.
        while waiting and self._sending.acquire(blocking=False):
            try:
                messages = []
                while waiting:
                    messages.append(waiting.popleft())
                if messages:
                    self._socket.sendall(frame(messages))
            except Exception:  # noqa: BLE001 - a message that is lost would be a run that hangs
                leave()
            finally:
                self._sending.release()

    def receive(self) -> list[ToWorker]:
        """The next messages; none after a while of silence. The engine's end ends this process."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            leave()
        if not data:
            leave()
        messages: list[ToWorker] = []
        for body in self._reader.feed(data):
            messages += to_worker_decoder.decode(body)
        return messages


def leave() -> None:
    """The engine is gone: end at once, with all that the user's code has started (we are a process group)."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
