"""Where runs are in a distributed trace, by ids that are computed from ours: nobody has to remember or hand on one.

Whoever knows an event or a run knows its trace: the exporter, every worker, and the one that comes after a crash.
Ids and the header `traceparent` are as W3C Trace Context says, level 1, sections 3.2 and 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from fanout.core.sampling import EVERYTHING, Sampling

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
"""Both are kept in an event's `user`, where CloudEvents' extension of that name is kept too."""
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION = "ff"
_SAMPLED = 1
_MAX_STATE_CHARS = 512
_MOST_KEPT_CHARS = 1024

_decode: Callable[[str], Any] = msgspec.json.decode


class Remote(NamedTuple):
    """A span of somebody else's, as `traceparent` names it."""

    trace: int
    span: int
    is_sampled: bool


class Origin(NamedTuple):
    """What an event and all that it causes belong to."""

    trace: int
    sender: int | None
    """The span in which the event was sent, if it came with one."""
    is_sampled: bool
    state: str
    """What other vendors have added, to be handed on as it is."""


def parse(text: object) -> Remote | None:
    """The span that a `traceparent` names; None if it is not valid, which is as good as none."""
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == _INVALID_VERSION or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return Remote(int(trace, 16), int(span, 16), bool(int(flags, 16) & _SAMPLED))


def traceparent(origin: Origin, span: int) -> str:
    """The span of this trace, as others are told of it."""
    return f"00-{origin.trace:032x}-{span:016x}-{_SAMPLED if origin.is_sampled else 0:02x}"


def origin_of(event_id: str, ts: int, user: str | None, sampling: Sampling = EVERYTHING) -> Origin:
    """Of an event with this `user` (JSON text): the trace that it came with, or one of its own.

    Ids may be given by senders, and come again; with the time they hardly do.
    """
    is_large = user is not None and len(user) > _MOST_KEPT_CHARS
    return (_origin_of.__wrapped__ if is_large else _origin_of)(event_id, ts, user, sampling)


@lru_cache(maxsize=4096)
def _origin_of(event_id: str, ts: int, user: str | None, sampling: Sampling) -> Origin:
    said = _said(user) if user is not None and TRACEPARENT in user else {}
    remote = parse(said.get(TRACEPARENT))
    if remote is None:
        trace = _number(16, "trace", event_id, ts)
        return Origin(trace, None, sampling.takes(trace), "")
    return Origin(
        remote.trace, remote.span, sampling.takes(remote.trace, is_sent=remote.is_sampled), _state(said.get(TRACESTATE))
    )


def event_span(event_id: str, ts: int) -> int:
    return _number(8, "event", event_id, ts)


def run_span(run_id: str) -> int:
    return _number(8, "run", run_id)


def attempt_span(run_id: str, step: str | None, number: int) -> int:
    """Of an attempt of a step, or of the code between steps, counted from 0."""
    return _number(8, "attempt", run_id, number, step or "")


def with_parent(user: str | None, traceparent: str, tracestate: str = "") -> str:
    """An event's `user` (JSON text) with this `traceparent`, unless it has one that is valid."""
    said = {} if user is None else _said(user)
    if parse(said.get(TRACEPARENT)) is not None:
        return user or "{}"
    stated = {TRACESTATE: tracestate} if tracestate else {}
    return msgspec.json.encode({**said, TRACEPARENT: traceparent, **stated}).decode()


def _state(value: object) -> str:
    is_one = isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= _MAX_STATE_CHARS
    return str(value) if is_one else ""


def _said(user: str) -> dict[str, Any]:
    said = _decode(user)
    return said if isinstance(said, dict) else {}


def _number(size: int, *parts: object) -> int:
    """A number of so many bytes that is not 0, always the same for the same parts."""
    digest = blake2b("\0".join(map(str, parts)).encode("utf-8", "backslashreplace"), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1
