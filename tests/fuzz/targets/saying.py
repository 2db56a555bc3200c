"""What every refusal has to be: words, and not too many. What of them can't be printed is made so where they are."""

from __future__ import annotations

from fanout.errors import FanoutError

_MOST_CHARS = 2_000


def check_words(error: FanoutError) -> None:
    """A message, and a hint or none; whatever was given, it does not flood the terminal."""
    for said in (error.message, error.hint):
        if said is not None:
            assert said.strip()
            assert len(said) < _MOST_CHARS, len(said)
            said.encode()
