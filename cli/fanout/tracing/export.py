"""Runs read and exported as spans. Of what does not arrive it is said once, until something arrives again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fanout.errors import FanoutError, NotFoundError
from fanout.journal.traced import TracedRun

SPANS_A_REQUEST = 512


class _Heard(logging.Handler):
    """What the exporter has to say, the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class Export:
    def __init__(
        self,
        exporter: SpanExporter,
        read: Callable[[Sequence[int]], list[TracedRun]],
        spans: Callable[[TracedRun], Iterator[ReadableSpan]],
        say: Callable[[str], None],
    ) -> None:
        self._exporter = exporter
        self._read = read
        self._spans = spans
        self._say = say
        self._is_well = True
        self.arrived_at = 0.0
        """When something last has, in monotonic time."""
        self._heard = _Heard()
        theirs = logging.getLogger("opentelemetry")
        theirs.addHandler(self._heard)
        theirs.propagate = False

    def export(self, keys: Sequence[int]) -> None:
        """What can't be read or does not arrive is left out."""
        try:
            runs = self._read(keys)
        except NotFoundError:
            return  # The journal is gone.
        except FanoutError as error:
            self._warn(error.message)
            return
        made = (span for run in runs for span in self._spans(run))
        while part := tuple(islice(made, SPANS_A_REQUEST)):
            if self._exporter.export(part) is SpanExportResult.SUCCESS:
                self._is_well = True
                self.arrived_at = time.monotonic()
            else:
                self._warn(self._heard.last)

    def give_up(self) -> None:
        """Nobody waits any longer for what is on its way."""
        self._warn("there was no answer in time")

    def _warn(self, why: str) -> None:
        if self._is_well:
            self._is_well = False
            self._say(f"warning: traces are not exported: {why}")
