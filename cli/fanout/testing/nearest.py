"""The name that was most likely meant."""

from __future__ import annotations

from collections.abc import Sequence


def nearest(name: str, known: Sequence[str], otherwise: str) -> str | None:
    """A hint with the nearest of the known names; else all of them behind `otherwise`, if that says anything."""
    from difflib import get_close_matches  # lazy: only a slip needs it

    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    listed = ", ".join(f"`{each}`" for each in known)
    return f"{otherwise} {listed}" if otherwise and known else None
