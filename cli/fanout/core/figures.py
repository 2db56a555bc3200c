"""Figures of many values: percentiles, and how a stretch of time is divided so that it can be drawn."""

from __future__ import annotations

from collections.abc import Sequence

_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
_SLICES = (
    *(number * _SECOND_MS for number in (1, 2, 5, 10, 15, 30)),
    *(number * _MINUTE_MS for number in (1, 2, 5, 10, 15, 30)),
    *(number * _HOUR_MS for number in (1, 2, 3, 6, 12)),
    *(number * _DAY_MS for number in (1, 2, 7, 14, 28, 91, 182, 364)),
)
"""Lengths that people count time in."""


def percentile(ordered: Sequence[int], percent: int) -> int | None:
    """The smallest of the values, which are in order, that is not below `percent` of them (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def slice_length(span_ms: int, most: int) -> int:
    """The shortest of the usual lengths of which no more than `most` make up the span; at the least a second."""
    for length in _SLICES:
        if -(-span_ms // length) <= most:
            return length
    return -(-span_ms // most)


def levels(values: Sequence[int], number: int) -> list[int]:
    """Each value as one of `number` levels above 0, the highest value at the top; 0 is only for 0."""
    highest = max(values, default=0)
    return [-(-value * number // highest) if value > 0 else 0 for value in values]
