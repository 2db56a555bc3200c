"""What an event has at a path like `data.user_id`, as text that is equal for equal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(order="sorted").encode


def value_at(event: Mapping[str, Any], path: str) -> str | None:
    """The value's JSON text, or None if the event has nothing there. 1 and 1.0 are equal, as in CEL."""
    value: Any = event
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return _encode(_whole(value)).decode()


def _whole(value: Any) -> Any:
    """The value with its whole floats as integers."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {name: _whole(each) for name, each in value.items()}
        case _:
            return value
