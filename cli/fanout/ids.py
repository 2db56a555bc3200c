"""ULIDs: 48 bits of milliseconds, 80 random bits, 26 characters that sort by time (github.com/ulid/spec).

Written here because one is made for every run of every event: a few hundred nanoseconds matter.
"""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BITS = 80


class UlidFactory:
    """Makes ULIDs that only ever grow, also within one millisecond and when the clock steps back."""

    def __init__(self) -> None:
        self._last = 0
        self._head = (-1, "")
        """All but the last 20 bits of the last one, and their characters: those that are counted up share them."""

    def __call__(self, now_ms: int) -> str:
        number = now_ms << _RANDOM_BITS
        if number >> _RANDOM_BITS > self._last >> _RANDOM_BITS:
            # The top random bit stays clear, so that counting up within a millisecond can't reach the next one.
            number |= int.from_bytes(os.urandom(10), "big") >> 1
        else:
            number = self._last + 1
        self._last = number
        head, text = self._head
        if number >> 20 != head:
            head, text = self._head = number >> 20, encode(number)[:-4]
        return text + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023]


def encode(number: int) -> str:
    """The 26 characters of a 128-bit number, in Crockford's base 32."""
    pairs = _PAIRS
    return "".join([pairs[number >> shift & 1023] for shift in range(120, -1, -10)])
