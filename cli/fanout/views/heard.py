"""Runs that events have woken or cancelled, told apart, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanout.journal.heard import MOST_HEARERS, Heard


def in_short(heard: Sequence[Heard]) -> str:
    """`3 woken, 1 cancelled`; empty if there are none."""
    return ", ".join(
        f"{len(runs):,}{'+' if len(heard) >= MOST_HEARERS else ''} {verb.replace('woke', 'woken')}"
        for verb, runs in told_apart(heard)
    )


def told_apart(heard: Sequence[Heard]) -> list[tuple[str, list[Heard]]]:
    """Those that were woken, and those that were cancelled, each behind its verb; groups of none are not there."""
    groups = [("woke", [each for each in heard if each.step]), ("cancelled", [each for each in heard if not each.step])]
    return [(verb, runs) for verb, runs in groups if runs]


def as_json(heard: Sequence[Heard]) -> dict[str, Any]:
    return {
        "woken": [_run_json(each) | {"step": each.step} for each in heard if each.step],
        "cancelled": [_run_json(each) for each in heard if not each.step],
    }


def _run_json(heard: Heard) -> dict[str, Any]:
    return {"id": heard.id, "function": heard.function, "state": heard.state, "event_id": heard.event_id}
