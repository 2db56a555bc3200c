"""Text to accepted events: one JSON object, a list of them, or NDJSON. All are valid, or none is taken.

Each is one of ours or a CloudEvent. Payloads stay the sender's own JSON, made compact, so numbers keep every digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

from fanout import cloud_events
from fanout.errors import EventError
from fanout.json_lists import MOST_COUNTED, counted, lines_of, listed
from fanout.model import RESERVED_PREFIX

FIELDS = ("name", "data", "id", "ts", "user", "v")
MAX_TS = 10**14
_EXAMPLE = 'an event is `{"name": "app/hello", "data": {}}`'
_SHOWN_CHARS = 60


class Limits(msgspec.Struct, frozen=True):
    """What is too much: bytes of an event's compact JSON, events of a request, bytes of a name or id, nesting."""

    event_bytes: int = 512 * 1024
    request_events: int = 5_000
    name_bytes: int = 256
    # Whatever reads the event later has a limit of its own (SQLite's is 1000): refused here, nothing breaks there.
    depth: int = 200


DEFAULT_LIMITS = Limits()


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event before the journal has it. `data` and `user` are the compact JSON text of an object.

    `id` is only what the sender gave; `ts` is milliseconds since 1970, UTC.
    """

    name: str
    data: str
    id: str | None = None
    ts: int | None = None
    user: str | None = None
    v: str | None = None


# The subject of a complaint: a field of an event, or the whole event for None.
Subject = Callable[[str | None], str]

_as_raw = msgspec.json.Decoder(msgspec.Raw).decode
_as_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_value = msgspec.json.Decoder().decode


def parse(text: bytes, source: str, limits: Limits = DEFAULT_LIMITS) -> list[NewEvent]:
    """All events of a request, in its order. `source` is what messages call the text: a file's name, `stdin`.

    Raises:
        EventError: one is not valid, or there are too many; the message names the line or the event, and the field.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")
    _check_utf8(text, source)
    if not text.strip():
        raise EventError(f"`{source}` is empty", hint=_EXAMPLE)
    items = list(islice(_items(text, source, limits), MOST_COUNTED + 1))
    if len(items) > limits.request_events:
        raise EventError(
            f"`{source}` has {counted(len(items))} events, at most {limits.request_events:,} can be in one request",
            hint="split it, and send one part after another",
        )
    return [_event(raw, subject, limits) for subject, raw in items]


def build(name: str, data: str | None, source: str = "--data", limits: Limits = DEFAULT_LIMITS) -> NewEvent:
    """One event from a command's `--name` and `--data`. `source` is what messages call the latter.

    Raises:
        EventError: the name or the data is not valid.
    """

    def subject(field: str | None) -> str:
        return "`--name`" if field == "name" else f"`{source}`"

    complaint = name_complaint(name, limits)
    if complaint:
        raise EventError(f"{subject('name')} {complaint}")
    try:
        raw = b"{}" if data is None else data.encode()
    except UnicodeEncodeError:
        raise EventError(f"`{source}` is not UTF-8 text") from None
    if not raw.strip():
        raise EventError(f"`{source}` is empty", hint='write `{"user_id": 1}`, or leave it out')
    _check_json(raw, source, subject, limits)
    # Put together as text, so that an event has one way in. `raw` is one JSON value: it can't add fields.
    return _event(b'{"name":%b,"data":%b}' % (msgspec.json.encode(name), raw), subject, limits)


def of_headers(attributes: dict[str, str], body: bytes, limits: Limits = DEFAULT_LIMITS) -> NewEvent:
    """One CloudEvent in binary mode: its attributes were headers, its data is the body. See `cloud_events`.

    Raises:
        EventError: an attribute or the data is not valid.
    """

    def subject(field: str | None) -> str:
        return {None: "the event", "data": "the body"}.get(field) or f"header `ce-{_printable(str(field))}`"

    raw = msgspec.json.encode(attributes)
    if body.strip():
        _check_utf8(body, "body")
        _check_json(body, "body", subject, limits)
        raw = b'%b,"data":%b}' % (raw[:-1], body)  # as above
    return _event(raw, subject, limits)


def _check_json(raw: bytes, source: str, subject: Subject, limits: Limits, line: int = 1) -> None:
    try:
        _as_raw(raw)
    except msgspec.DecodeError as error:
        raise _syntax_error(raw, source, line, error) from None
    except RecursionError:
        raise _too_deep(subject, limits) from None


def _check_utf8(text: bytes, source: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise EventError(f"`{source}` line {line}: this is not UTF-8 text", hint="save it as UTF-8") from None


def _items(text: bytes, source: str, limits: Limits) -> Iterator[tuple[Subject, bytes]]:
    """Each event's JSON, and what to call it."""
    try:
        whole = _as_raw(text)
    except RecursionError:
        raise _too_deep(_in_place(f"`{source}`"), limits) from None
    except msgspec.DecodeError as error:
        if not _is_ndjson(text):
            raise _syntax_error(text, source, 1, error) from None
        yield from _lines(text, source, limits)
        return
    match text.lstrip()[:1]:
        case b"[":
            for number, raw in enumerate(listed(bytes(whole)), 1):
                yield _in_place(f"`{source}` event {number}"), bytes(raw)
        case b"{":
            yield lambda field: _in_place(f"`{source}` line {_line_of(text, field)}")(field), text
        case _:
            raise EventError(f"`{source}` holds {_shown(text)}, not an event or a list of them", hint=_EXAMPLE)


def _is_ndjson(text: bytes) -> bool:
    """Several lines, the first of them JSON by itself: a document over several lines never begins so."""
    lines = (line for line in lines_of(text) if line.strip())
    first, second = next(lines), next(lines, None)
    if second is None:
        return False
    try:
        _as_raw(first)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _lines(text: bytes, source: str, limits: Limits) -> Iterator[tuple[Subject, bytes]]:
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        subject = _in_place(f"`{source}` line {number}")
        _check_json(line.removesuffix(b"\n"), source, subject, limits, number)
        yield subject, line


def _in_place(place: str) -> Subject:
    return lambda field: f"{place}: the event" if field is None else f"{place}: field `{_printable(field)}`"


def _event(raw: bytes, subject: Subject, limits: Limits) -> NewEvent:
    compact = msgspec.json.format(raw, indent=-1)
    if len(compact) > limits.event_bytes:
        raise EventError(
            f"{subject(None)} has {len(compact):,} bytes, at most {limits.event_bytes:,} can be",
            hint="keep large data in a file, and send where it is",
        )
    fields = _decoded(compact, subject, limits)
    if not isinstance(fields, dict):
        raise EventError(f"{subject(None)} has to be an object, not {_shown(compact)}", hint=_EXAMPLE)
    texts = _as_raw_fields(compact)
    if cloud_events.is_one(fields):
        return _of_cloud_event(fields, texts, subject, limits)
    _check_fields(fields, subject, limits)
    return NewEvent(
        name=fields["name"],
        data=bytes(texts["data"]).decode() if "data" in texts else "{}",
        id=fields.get("id"),
        ts=fields.get("ts"),
        user=bytes(texts["user"]).decode() if "user" in texts else None,
        v=fields.get("v"),
    )


def _of_cloud_event(
    fields: dict[str, Any], texts: dict[str, msgspec.Raw], subject: Subject, limits: Limits
) -> NewEvent:
    wrong = cloud_events.complaint(fields)
    if wrong is not None:
        known = cloud_events.REQUIRED + cloud_events.OPTIONAL
        hint = _nearest(wrong.field[:_SHOWN_CHARS], known) if wrong.is_unknown else wrong.hint
        raise EventError(f"{subject(wrong.field)} {wrong.words}", hint=hint)
    ts = None if fields.get("time") is None else cloud_events.time_ms(fields["time"])
    has_data = fields.get("data") is not None
    if ts is not None and _ts_complaint(ts, limits) is not None:
        raise EventError(f"{subject('time')} has to be after 1970 and before the year 5138")
    for theirs, ours in (("type", "name"), ("id", "id"), ("data", "data")):
        complaint = _COMPLAINTS[ours](fields[theirs], limits) if theirs != "data" or has_data else None
        if complaint is not None:
            raise EventError(f"{subject(theirs)} {complaint}")
    return NewEvent(
        name=fields["type"],
        data=bytes(texts["data"]).decode() if has_data else "{}",
        id=fields["id"],
        ts=ts,
        user=msgspec.json.encode(cloud_events.attributes(fields)).decode(),
    )


def _decoded(compact: bytes, subject: Subject, limits: Limits) -> Any:
    """The values, which proves that a function will be able to read them."""
    try:
        value = _as_value(compact)
    except RecursionError:
        raise _too_deep(subject, limits) from None
    except msgspec.ValidationError:
        # The syntax is fine: what is left is an integer of thousands of digits, or a float beyond 1.8e308.
        raise EventError(f"{subject(None)} has a number too large to read", hint="send it as text") from None
    # A bracket opens each level, so with few of them the walk is not needed.
    if compact.count(b"{") + compact.count(b"[") > limits.depth and _depth(value) > limits.depth:
        raise _too_deep(subject, limits)
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def name_complaint(value: object, limits: Limits = DEFAULT_LIMITS) -> str | None:
    if isinstance(value, str) and value.startswith(RESERVED_PREFIX):
        return f"begins with `{RESERVED_PREFIX}`, as only fanout's own events do"
    return _id_complaint(value, limits)


def _id_complaint(value: object, limits: Limits) -> str | None:
    if not isinstance(value, str):
        return f"has to be text, not {_shown_value(value)}"
    if not value:
        return "is empty"
    if not value.isprintable():
        return f"has characters that can't be printed: {_cut(repr(value))}"
    if len(value.encode()) > limits.name_bytes:
        return f"has {len(value.encode())} bytes, at most {limits.name_bytes} can be"
    return None


def _ts_complaint(value: object, _limits: Limits) -> str | None:
    if type(value) is not int:
        return f"has to be a whole number of milliseconds, not {_shown_value(value)}"
    if not 0 < value < MAX_TS:
        return f"has to be milliseconds since 1970, above 0 and below {MAX_TS}, not {_shown_value(value)}"
    return None


def _object_complaint(value: object, _limits: Limits) -> str | None:
    return None if isinstance(value, dict) else f"has to be an object, not {_shown_value(value)}"


def _text_complaint(value: object, _limits: Limits) -> str | None:
    return None if isinstance(value, str) else f"has to be text, not {_shown_value(value)}"


# What can be wrong with each field, worded to follow its name.
_COMPLAINTS: dict[str, Callable[[object, Limits], str | None]] = {
    "name": name_complaint,
    "data": _object_complaint,
    "id": _id_complaint,
    "ts": _ts_complaint,
    "user": _object_complaint,
    "v": _text_complaint,
}


def _check_fields(fields: dict[str, Any], subject: Subject, limits: Limits) -> None:
    for field, value in fields.items():
        check = _COMPLAINTS.get(field)
        if check is None:
            raise EventError(
                f"{subject(field)} is not one that an event has", hint=_nearest(field[:_SHOWN_CHARS], FIELDS)
            )
        complaint = check(value, limits)
        if complaint is not None:
            raise EventError(f"{subject(field)} {complaint}")
    if "name" not in fields:
        raise EventError(f"{subject('name')} is missing", hint=_EXAMPLE)


def _nearest(field: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # lazy: only a slip needs it, and every command pays for imports

    near = get_close_matches(field.lower(), known, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"its fields are {', '.join(f'`{each}`' for each in known)}; all else goes into `data`"


def _too_deep(subject: Subject, limits: Limits) -> EventError:
    return EventError(f"{subject(None)} is nested more than {limits.depth} deep")


# Patterns are not compiled here: only a mistake needs them, and every command pays for imports.
_STRING_OR_BRACKET = rb'("(?:[^"\\]|\\.)*")\s*(:?)|[{}\[\]]'


def _line_of(text: bytes, field: str | None) -> int:
    """The line of a field of the text's one object; the object's own if it has no such field. Only for messages."""
    depth = 0
    for match in re.finditer(_STRING_OR_BRACKET, text) if field is not None else ():
        string, colon = match.groups()
        if string is None:
            depth += 1 if match.group() in b"{[" else -1
        elif depth == 1 and colon and _as_value(string) == field:
            return text.count(b"\n", 0, match.start()) + 1
    return text.count(b"\n", 0, text.index(b"{")) + 1


# The closing quote may be missing: from there on all is that string, and the search stays linear.
_STRING_OR_CONSTANT = r'"(?:[^"\\]|\\.)*"?|NaN|-?Infinity'


def _syntax_error(text: bytes, source: str, first_line: int, error: msgspec.DecodeError) -> EventError:
    """What is wrong, and where: msgspec counts bytes, people count lines and columns."""
    import json  # lazy: only for a mistake's position

    decoded = text.decode()
    mistakes = _beyond_json(decoded, json.loads)
    try:
        json.loads(decoded, parse_int=str, parse_float=str)
    except json.JSONDecodeError as found:
        mistakes.append((found.pos, found.msg[0].lower() + found.msg[1:]))
    except RecursionError:
        pass
    at, reason = min(mistakes, default=(0, str(error)))
    line = first_line + decoded.count("\n", 0, at)
    column = at - decoded.rfind("\n", 0, at)
    return EventError(f"`{source}` line {line} column {column}: this is not JSON: {reason}")


def _beyond_json(text: str, loads: Callable[..., Any]) -> list[tuple[int, str]]:
    """The first thing that the standard library reads and JSON does not have, if there is one."""
    from fanout.codec import is_text  # lazy: as above

    for match in re.finditer(_STRING_OR_CONSTANT, text, re.DOTALL):
        token = match.group()
        if token[0] != '"':
            return [(match.start(), f"it has no {token}")]
        try:
            if "\\u" in token and not is_text(loads(token, strict=False)):
                return [(match.start(), "a text has half of a surrogate pair")]
        except ValueError:
            break  # a wrong escape: the standard library finds it too
    return []


def _shown_value(value: object) -> str:
    return _shown(msgspec.json.encode(value))


def _shown(json_text: bytes) -> str:
    return _cut(json_text.decode().strip())


def _printable(text: str) -> str:
    return _cut(text if text.isprintable() else ascii(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."
