"""Events as JSON, NDJSON and CloudEvents: refused with a message, or readable for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import msgspec

from fanout.errors import EventError
from fanout.events import DEFAULT_LIMITS, NewEvent, of_headers, parse
from tests.fuzz.targets.saying import check_words

SEEDS = (
    b'{"name": "app/user.signup", "data": {"user": {"id": 1, "tags": ["a", null, true]}}}',
    b'[{"name": "a", "id": "1", "ts": 1700000000000}, {"name": "b", "user": {}, "v": "2"}]',
    b'{"name": "a"}\n\n{"name": "b", "data": {"x": 1e308}}\n',
    b'{"specversion": "1.0", "type": "a", "source": "/s", "id": "1", "time": "2026-01-01T00:00:00Z", "data": {"x": 1}}',
    b'[{"specversion": "1.0", "type": "a", "source": "/s", "id": "1", "subject": "x", "ext1": 5}]',
    b'\xef\xbb\xbf{"name": "\\u00e9", "data": {"n": 123456789012345678901234567890}}',
    b'{"name": "a", "name": "b", "data": {"\\ud83d\\ude00": -0.0}}',
    b'{"name": NaN}', b'{"naem": "a"}', b"[" * 300 + b"]" * 300,
)  # fmt: skip


def check(data: bytes) -> None:
    _check(partial(parse, data, "stdin"))
    _check(lambda: [of_headers(_attributes(data), data)])


def _check(read: Callable[[], list[NewEvent]]) -> None:
    try:
        accepted = read()
    except EventError as error:
        check_words(error)
    else:
        for event in accepted:
            _check_event(event)


def _attributes(data: bytes) -> dict[str, str]:
    text = data[:64].decode("latin-1")
    return {"specversion": "1.0", "type": "a", "id": text or "1", "source": "/s", "time": "2026-01-01T00:00:00Z"}


def _check_event(event: NewEvent) -> None:
    limits = DEFAULT_LIMITS
    assert event.name
    assert event.name.isprintable()
    assert len(event.name.encode()) <= limits.name_bytes
    assert event.ts is None or 0 < event.ts < 10**14
    # The standard library is the second opinion of what is JSON.
    assert isinstance(json.loads(event.data, parse_int=float), dict)
    assert event.user is None or isinstance(json.loads(event.user, parse_int=float), dict)
    said = {"name": event.name, "data": msgspec.Raw(event.data.encode())}
    for field in ("id", "ts", "v"):
        if getattr(event, field) is not None:
            said[field] = getattr(event, field)
    if event.user is not None:
        said["user"] = msgspec.Raw(event.user.encode())
    encoded = msgspec.json.encode(said)
    # What a CloudEvent says beside its data goes into `user`, and takes more room there.
    if len(encoded) <= limits.event_bytes:
        assert parse(encoded, "again") == [event]
