"""`python -m fanout.tracing FD FILE`: export the runs whose keys come through a pipe, until that ends.

What there is to say goes to stdout, a line each: the engine tells it to people.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan

from fanout.config import Config, load
from fanout.config_tracing import has_service_name, sampling_of, service_of
from fanout.core.redaction import redaction_of
from fanout.core.sampling import EVERYTHING
from fanout.errors import FanoutError
from fanout.journal.sqlite_reader import JournalReader
from fanout.journal.traced import TracedRun
from fanout.tracing.export import Export
from fanout.tracing.inbox import Inbox
from fanout.tracing.spans import Telling, spans

QUIET_S = 2.0
"""When the engine has ended somebody waits for it: nothing is told any more if nothing has arrived for so long."""
LAST_S = 8.0
"""And nothing after that."""
_LOOK_S = 0.1
_NICENESS = 5
"""Functions need the processor more."""


class Tracer:
    def __init__(self, fd: int, path: Path) -> None:
        self._path = path
        self._config = load(path)
        self._telling = self._new_telling(self._config)
        self._reader: JournalReader | None = None
        self._export = Export(OTLPSpanExporter(), self._read, self._spans, _say)
        self._inbox = Inbox(fd, on_news=self._learn, on_last=self._see_to_the_end)

    def run(self) -> None:
        is_over = False
        while not is_over:
            keys, is_over = self._inbox.batch()
            if keys:
                self._export.export(keys)
        self._tell_left_out()

    def _read(self, keys: Sequence[int]) -> list[TracedRun]:
        # Only now: there may be no journal before.
        self._reader = self._reader or JournalReader(self._config.journal)
        return self._reader.traced_runs(keys)

    def _spans(self, run: TracedRun) -> Iterator[ReadableSpan]:
        return spans(run, self._telling)

    def _learn(self) -> None:
        """Nobody is to see what was just said to be hidden. The rest stays as it was when the engine began."""
        with suppress(FanoutError):
            self._telling = self._new_telling(load(self._path))

    def _new_telling(self, config: Config) -> Telling:
        hide: Callable[[str], str] = redaction_of(config.redact).text if config.redact else str
        return Telling(_resource_of(config), hide, sampling_of(config) or EVERYTHING)

    def _see_to_the_end(self) -> None:
        """In a thread: a request can't be ended from outside."""
        ended_at = time.monotonic()
        while time.monotonic() < min(max(ended_at, self._export.arrived_at) + QUIET_S, ended_at + LAST_S):
            time.sleep(_LOOK_S)
        self._export.give_up()
        self._tell_left_out()
        os._exit(0)

    def _tell_left_out(self) -> None:
        count = self._inbox.dropped + len(self._inbox)
        if count:
            _say(f"warning: {count:,} {'run is' if count == 1 else 'runs are'} in no trace: there was no time to tell")


def _resource_of(config: Config) -> Callable[[str], Resource]:
    """Of which service a function is: its app is one, unless the environment names another."""

    @cache
    def of_app(app: str) -> Resource:
        return Resource.create({} if has_service_name() else {SERVICE_NAME: app})

    def of_function(function: str) -> Resource:
        return of_app(service_of(config, function))

    return of_function


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # The engine was killed: the rest is told all the same.
        print(line, flush=True)  # noqa: T201 - talk


def main() -> None:
    # The engine says when it is over; a service manager ends all processes of a service at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    Tracer(int(sys.argv[1]), Path(sys.argv[2])).run()


if __name__ == "__main__":
    main()
