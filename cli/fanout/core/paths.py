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
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _encode(value).decode()
