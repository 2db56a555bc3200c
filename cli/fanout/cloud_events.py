"""CloudEvents 1.0 in their JSON format, structured or batched, as far as they differ from our own events.

`type`, `id`, `time` and `data` become name, id, ts and data. What else one says of itself (`source`, `subject`,
`dataschema`, extensions) is kept in `user`. The rules are those of the CloudEvents specification, 1.0.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec

SPEC_VERSION = "1.0"
REQUIRED = ("specversion", "type", "source", "id")
OPTIONAL = ("time", "data", "subject", "datacontenttype", "dataschema")
_NOT_KEPT = frozenset((*REQUIRED, "time", "data", "datacontenttype")) - {"source"}
_EXTENSION = "[a-z0-9]+"
_JSON_TYPE = r"application/json|[^/]+/([^;+/]+\+)?json"
_MAX_INTEGER = 2**31
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Complaint(NamedTuple):
    """What is wrong with a field, worded to follow its name. `is_unknown`: with that there is one at all."""

    field: str
    words: str
    hint: str | None = None
    is_unknown: bool = False


def is_one(fields: dict[str, Any]) -> bool:
    """Whether this is meant for a CloudEvent: no event of ours has these fields."""
    return "specversion" in fields or ("type" in fields and "name" not in fields)


def complaint(fields: dict[str, Any]) -> Complaint | None:
    """The first thing that is wrong, besides what an event's name, id and data have to be."""
    for field, value in fields.items():
        if field == "data_base64":
            return Complaint(field, "has binary data, which functions can't read", hint="send JSON in `data`")
        if field not in REQUIRED and field not in OPTIONAL and not re.fullmatch(_EXTENSION, field):
            words = "is no attribute of a CloudEvent: they are small letters and digits"
            return Complaint(field, words, is_unknown=True)
        words_ = None if value is None else _CHECKS.get(field, _extension)(value)
        if words_ is not None:
            return Complaint(field, words_)
    for field in REQUIRED:
        # A null is an attribute that is not set.
        if fields.get(field) is None:
            hint = f'a CloudEvent is `{{"specversion": "{SPEC_VERSION}", "type": ..., "source": ..., "id": ...}}`'
            return Complaint(field, "is missing", hint=hint)
    return None


def time_ms(time: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 timestamp."""
    return (msgspec.convert(time, _Timestamp) - _EPOCH) // timedelta(milliseconds=1)


def attributes(fields: dict[str, Any]) -> dict[str, Any]:
    """What is said of the event beside the fields that ours have."""
    return {field: value for field, value in fields.items() if field not in _NOT_KEPT and value is not None}


def _version(value: object) -> str | None:
    return None if value == SPEC_VERSION else f'has to be "{SPEC_VERSION}", the version that is understood'


def _filled(value: object) -> str | None:
    return None if isinstance(value, str) and value else "has to be text, and not empty"


def _time(value: object) -> str | None:
    try:
        msgspec.convert(value, _Timestamp)
    except msgspec.ValidationError:
        return 'has to be a time with its zone, like "2026-08-01T12:30:00Z"'
    return None


def _json_type(value: object) -> str | None:
    is_json = isinstance(value, str) and re.fullmatch(rf"({_JSON_TYPE})\s*(;.*)?", value.strip(), re.IGNORECASE)
    return None if is_json else 'has to be JSON, as "application/json" is: functions read nothing else'


def _extension(value: object) -> str | None:
    is_whole = type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER
    return None if is_whole or isinstance(value, str | bool) else "has to be text, a whole number of 32 bits, or a bool"


def _anything(_value: object) -> str | None:
    return None


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "specversion": _version,
    "type": _anything,
    "id": _anything,
    "data": _anything,
    "source": _filled,
    "subject": _filled,
    "dataschema": _filled,
    "time": _time,
    "datacontenttype": _json_type,
}
"""What can be wrong with each; a name's and an id's and the data's own rules are those of all events."""
