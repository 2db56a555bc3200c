"""Sending events from a program, and waiting for what they cause. Any number of processes may, at any time.

A client only appends to the journal: an engine (`fanout serve`, or the next `fanout send`) runs what is sent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from msgspec.structs import replace

from fanout import config as config_
from fanout.engine import lock
from fanout.engine.doorbell import Follower
from fanout.events import NewEvent, parse
from fanout.journal.appender import AcceptedEvent
from fanout.journal.family import Progress, Watched
from fanout.journal.sqlite_appender import SqliteAppender
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, Sendable

_LONGEST_NAP_S = 0.25
_REST = 9
"""How many times as long as a look at many runs took there is none."""


def connect(path: str | os.PathLike[str] | None = None) -> Client:
    """A client of the project in or above the working directory, or of the `fanout.toml` at `path`.

    Raises:
        ConfigError: there is no usable `fanout.toml`.
        JournalError: the journal can't be opened.
    """
    found = config_.find(Path.cwd(), None if path is None else os.fspath(path))
    return Client(config_.load(found).journal)


class Client:
    """Sends events to one project, and waits for what they cause. `connect` makes it; `with` or `close` ends it.

    It is for one thread.
    """

    def __init__(self, journal: Path) -> None:
        self._connection = Connection(journal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing can be sent or waited for any more. What was sent stays sent."""
        self._connection.close()

    def send(self, *events: Sendable) -> list[AcceptedEvent]:
        """Store the events, all or none. They are durable on return; what they start comes after.

        Each is `{"name": ..., "data": {...}}`, with `id`, `ts`, `user` and `v` if they matter.

        Raises:
            EventError: one of them is no event, or does not fit a function that it would start; nothing was stored.
            OutputError: one of them has what is not JSON.
        """
        from fanout.codec import encode_output  # lazy: commands have their events as text

        plain = [dict(each) if isinstance(each, Mapping) else each for each in events]
        text = encode_output("the events", plain, verb="have", most=sys.maxsize)
        return self._connection.append(parse(text.encode(), "the events"))

    def wait(self, accepted: Sequence[AcceptedEvent], timeout_s: float | None = None) -> list[Run]:
        """Wait until all runs of these events, and all that those cause, are final, or the time is over.

        Returns:
            those runs, with their steps, as they then are.
        """
        if not accepted:
            return []
        watched = watched_events(accepted)
        self._connection.follow(watched, lambda progress: progress.is_over(), timeout_s=timeout_s)
        return self._connection.runs(watched)


class Connection:
    """What one process may do to a journal beside its engine: append, and look. For one thread."""

    def __init__(self, journal: Path) -> None:
        self._path = journal
        self._journal = SqliteAppender(journal)
        self._follower = Follower(journal.parent)
        self._reader = JournalReader(journal)
        self._rung_at = 0.0
        self._address, self._found_at = "", float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.__exit__()
        self._follower.close()
        self._journal.close()

    def append(self, events: Sequence[NewEvent], source: str | Sequence[str] = "") -> list[AcceptedEvent]:
        """Store the events, all or none: from `source`, or each from one of them."""
        if not events:
            return []
        self._journal.event_schemas().check(events, source)
        accepted = self._journal.append_events(_in_span(events), time.time_ns() // 1_000_000)
        self.ring()
        return accepted

    def request(self, kind: str, body: dict[str, Any]) -> int:
        """Ask the engine for something."""
        request = self._journal.append_request(kind, body, time.time_ns() // 1_000_000)
        self.ring()
        return request

    def ring(self) -> bool:
        """Wake the engine and ask it to tell us of news. False if no engine has the journal."""
        now = time.monotonic()
        if now - self._found_at < _LONGEST_NAP_S and self._follower.follow(self._address):
            self._rung_at = now
            return True
        self._rung_at = now
        holder = lock.holder(self._path)
        if holder is None:
            return False
        if holder.address and self._follower.follow(holder.address):
            self._address, self._found_at = holder.address, now
        return True

    def runs(self, watched: Watched) -> list[Run]:
        """Those that it is about, with their steps."""
        return self._reader.watched_runs(watched)

    def follow(
        self,
        watched: Watched,
        is_done: Callable[[Progress], bool],
        *,
        timeout_s: float | None = None,
    ) -> bool:
        """Look whenever the engine has news, until `is_done`. False if the time was over, or no engine is left."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        has_engine = True
        look = self._reader.following(watched)
        while True:
            began = time.monotonic()
            # Now and then is enough to stay known to the engine, and to see that it is still there.
            if began - self._rung_at >= _LONGEST_NAP_S:
                has_engine = self.ring()
            progress = look()
            if is_done(progress):
                return True
            now = time.monotonic()
            if not has_engine or (deadline is not None and now >= deadline):
                return False
            longest = _LONGEST_NAP_S if deadline is None else min(_LONGEST_NAP_S, deadline - now)
            # Looking at many runs takes a while: the engine needs the processor more than we need the news.
            if progress.live > 1:
                time.sleep(min(longest, _REST * (now - began)))
            self._follower.wait(longest)


def _in_span(events: Sequence[NewEvent]) -> Sequence[NewEvent]:
    """Events that a program sends in a span of OpenTelemetry's belong to its trace, as requests do that it makes."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return events
    from fanout.core.trace_ids import Origin, traceparent, with_parent  # lazy: few programs are traced

    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return events
    origin = Origin(here.trace_id, None, here.trace_flags.sampled, here.trace_state.to_header())
    place = traceparent(origin, here.span_id)
    return [replace(event, user=with_parent(event.user, place, origin.state)) for event in events]


def watched_events(accepted: Sequence[AcceptedEvent]) -> Watched:
    """Events of one request have keys one after another."""
    return Watched(first_event=accepted[0].key, last_event=accepted[-1].key)
