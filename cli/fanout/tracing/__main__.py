"""`python -m fanout.tracing FD FILE`: export the runs whose keys come through a pipe, until that ends."""

from __future__ import annotations

import logging
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fanout.config import Config, has_service_name, load, service_of
from fanout.core.redaction import redaction_of
from fanout.errors import FanoutError, NotFoundError
from fanout.journal.sqlite_reader import JournalReader
from fanout.journal.traced import TracedRun
from fanout.tracing.spans import Telling, spans

RUNS_A_BATCH = 200
SPANS_A_REQUEST = 512
GATHER_S = 0.5
"""How long the first run of a batch waits for others."""
LAST_S = 2.0
"""How long the rest may take when the engine has ended: somebody waits for that."""
MOST_WAITING = 1_000_000
_READ_BYTES = 64 * 1024
_KEY = struct.Struct("<q")


class Inbox:
    """Keys of runs, as the engine sends them: taken from the pipe at once, so that it never has to wait."""

    def __init__(self, fd: int, on_last: Callable[[], None]) -> None:
        self._fd = fd
        self._on_last = on_last
        self._keys: SimpleQueue[int | None] = SimpleQueue()
        self.dropped = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._fd, _READ_BYTES):
            rest += data
            whole = len(rest) - len(rest) % _KEY.size
            for (key,) in _KEY.iter_unpack(rest[:whole]):
                if self._keys.qsize() < MOST_WAITING:
                    self._keys.put(key)
                else:
                    self.dropped += 1
            rest = rest[whole:]
        self._keys.put(None)
        self._on_last()

    def batch(self) -> tuple[list[int], bool]:
        """The next keys, and whether these are the last."""
        first = self._keys.get()
        keys: list[int] = []
        until = time.monotonic() + GATHER_S
        while first is not None:
            keys.append(first)
            if len(keys) >= RUNS_A_BATCH:
                return keys, False
            try:
                first = self._keys.get(timeout=max(0, until - time.monotonic()))
            except Empty:
                return keys, False
        return keys, True


class Heard(logging.Handler):
    """What the exporter has to say, the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class Tracer:
    """Reads runs and exports them; of what does not arrive it says so once, until something arrives again."""

    def __init__(
        self, exporter: SpanExporter, telling: Telling, read: Callable[[Sequence[int]], list[TracedRun]]
    ) -> None:
        self._exporter = exporter
        self._telling = telling
        self._read = read
        self._is_well = True
        self._heard = Heard()
        theirs = logging.getLogger("opentelemetry")
        theirs.addHandler(self._heard)
        theirs.propagate = False

    def export(self, keys: Sequence[int]) -> None:
        try:
            made = [span for run in self._read(keys) for span in spans(run, self._telling)]
        except NotFoundError:
            return  # The journal is gone.
        except FanoutError as error:
            self._warn(error.message)
            return
        for at in range(0, len(made), SPANS_A_REQUEST):
            if self._exporter.export(made[at : at + SPANS_A_REQUEST]) is SpanExportResult.SUCCESS:
                self._is_well = True
            else:
                self._warn(self._heard.last)

    def _warn(self, why: str) -> None:
        if self._is_well:
            self._is_well = False
            print(f"warning: traces are not exported: {why}", file=sys.stderr, flush=True)  # noqa: T201 - talk


def resource_of(config: Config) -> Callable[[str], Resource]:
    """Of which service a function is: its app is one, unless the environment names another."""

    @cache
    def of_app(app: str) -> Resource:
        return Resource.create({} if has_service_name() else {SERVICE_NAME: app})

    def of_function(function: str) -> Resource:
        return of_app(service_of(config, function))

    return of_function


def main() -> None:
    config = load(Path(sys.argv[2]))
    exporter = OTLPSpanExporter()

    def give_up_soon() -> None:
        time.sleep(LAST_S)
        exporter.shutdown()

    inbox = Inbox(int(sys.argv[1]), on_last=give_up_soon)
    readers: list[JournalReader] = []

    def read(keys: Sequence[int]) -> list[TracedRun]:
        # Only now: there may be no journal before.
        if not readers:
            readers.append(JournalReader(config.journal))
        return readers[0].traced_runs(keys)

    hide: Callable[[str], Any] = redaction_of(config.redact).text if config.redact else str
    tracer = Tracer(exporter, Telling(resource_of(config), hide), read)
    is_over = False
    while not is_over:
        keys, is_over = inbox.batch()
        if keys:
            tracer.export(keys)
    if inbox.dropped:
        print(f"warning: {inbox.dropped:,} runs are in no trace", file=sys.stderr, flush=True)  # noqa: T201 - talk


if __name__ == "__main__":
    main()
