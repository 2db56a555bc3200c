"""Figures of a stretch of time in words and as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from fanout.journal.statistics import Statistics


def rate_in_words(number: int, span_ms: int) -> str:
    """As in `, 12 a minute`: by the shortest unit of time that has one at least."""
    for unit, length in (("second", 1_000), ("minute", 60_000), ("hour", 3_600_000)):
        if number and number * length >= span_ms:
            return f", {number * length / max(span_ms, length):,.0f} a{'n' if unit == 'hour' else ''} {unit}"
    return ""


def as_json(found: Statistics, function: str | None) -> dict[str, Any]:
    """Times are milliseconds; `runs` and `failed` of `throughput` have a number for each slice."""
    value: dict[str, Any] = msgspec.to_builtins(_plain(found))
    return {"function": function, **value}


def _plain(value: Any) -> Any:
    """Named tuples as objects: their fields are the keys, but for `count`, which tuples have as a method."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {"count" if name == "number" else name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
