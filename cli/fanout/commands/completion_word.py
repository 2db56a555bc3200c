"""A word that completes a command line."""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """What may stand at the cursor, and what it is."""

    text: str
    help: str = ""
