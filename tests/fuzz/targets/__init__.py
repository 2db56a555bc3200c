"""What is fuzzed: each module has `check(data)`, which raises when something is wrong, and `SEEDS` to begin with.

A module is imported by its name only when it is wanted: atheris has to see the imports of what it is to follow.
"""

from __future__ import annotations

NAMES = ("cel", "config", "cron", "durations", "events", "frames", "http", "journal", "printed", "worker")
